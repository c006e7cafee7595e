"""Tile sizes of the attention kernels, and which of them a device can hold.

A plain table instead of an autotuner: a training step under a CUDA graph must not stop to tune, and
results must not depend on what else ran on the device. `fastmaze bench gpu-check` measures the
candidates; what it finds best belongs here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import torch

Kernel = Literal["forward", "backward_dq", "backward_dkv"]
KERNELS: Final[tuple[Kernel, ...]] = ("forward", "backward_dq", "backward_dkv")
HEAD_DIMS: Final = (16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Tile:
    """How much one program of a kernel holds at a time.

    In the forward kernel and that of dq, a program owns `block_m` queries and walks over tiles of
    `block_n` keys; in that of dk and dv it owns `block_n` keys and walks over tiles of `block_m`
    queries. The owned side is a multiple of the other.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


Generation = Literal["hopper", "ampere", "small"]
"""What a device can hold: "hopper" has 227 KiB of shared memory for a block, and the copy engine
that descriptors use; "ampere" is everything older; "small" is newer, with 99 KiB."""

Key = tuple[Kernel, torch.dtype, int, bool]
"""Kernel, dtype of q, k and v, head dimension, and whether there is dropout."""

_Size = tuple[int, int, int, int]
# (block_m, block_n, num_warps, num_stages), the default first.
# 16-bit inputs on Hopper: (kernel, D = 128, dropout).
_HALF: Final[dict[tuple[Kernel, bool, bool], list[_Size]]] = {
    ("forward", False, False): [(128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 4, 3), (64, 64, 4, 3)],
    ("forward", False, True): [(128, 128, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)],
    ("forward", True, False): [(128, 128, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)],
    ("forward", True, True): [(128, 128, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)],
    ("backward_dq", False, False): [(128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 3)],
    ("backward_dq", False, True): [(128, 64, 8, 3), (128, 64, 8, 2), (64, 64, 4, 3)],
    ("backward_dq", True, False): [(128, 64, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)],
    ("backward_dq", True, True): [(128, 64, 8, 2), (128, 64, 8, 3), (64, 64, 4, 3)],
    ("backward_dkv", False, False): [(64, 128, 8, 2), (64, 128, 8, 3), (64, 64, 4, 2)],
    ("backward_dkv", False, True): [(64, 128, 8, 2), (64, 64, 4, 2), (32, 128, 8, 2)],
    ("backward_dkv", True, False): [(64, 128, 8, 2), (64, 64, 4, 2), (32, 64, 4, 2)],
    ("backward_dkv", True, True): [(32, 64, 4, 2), (32, 128, 8, 2), (64, 128, 8, 2)],
}
# float32 through tf32 on Hopper: (kernel, D = 128, dropout).
_SINGLE: Final[dict[tuple[Kernel, bool, bool], list[_Size]]] = {
    ("forward", False, False): [(128, 64, 8, 2), (128, 32, 8, 3), (64, 32, 4, 3)],
    ("forward", False, True): [(128, 64, 8, 2), (128, 32, 8, 3), (64, 32, 4, 3)],
    ("forward", True, False): [(128, 32, 8, 2), (64, 32, 4, 2)],
    ("forward", True, True): [(128, 32, 8, 2), (64, 32, 4, 2)],
    ("backward_dq", False, False): [(128, 32, 8, 2), (64, 32, 4, 2)],
    ("backward_dq", False, True): [(128, 32, 8, 2), (64, 32, 4, 2)],
    ("backward_dq", True, False): [(64, 32, 4, 2), (128, 32, 8, 2)],
    ("backward_dq", True, True): [(64, 32, 4, 2), (128, 32, 8, 2)],
    ("backward_dkv", False, False): [(32, 64, 4, 2), (32, 128, 8, 2)],
    ("backward_dkv", False, True): [(32, 64, 4, 2), (32, 128, 8, 2)],
    ("backward_dkv", True, False): [(32, 64, 4, 2), (32, 64, 4, 1)],
    # Twice as many queries at a time need fewer instructions, but registers for some bytes more
    # than there are, and shared memory that only one program of a multiprocessor finds.
    ("backward_dkv", True, True): [(16, 64, 4, 2), (32, 64, 4, 1), (32, 64, 4, 2)],
}
# Everywhere else: (generation, float32 through tf32, D = 128), for forward, dq, and dk and dv. All
# fit 99 KiB of shared memory, which is what the smaller GPUs of a generation have.
_OTHER: Final[dict[tuple[Generation, bool, bool], tuple[_Size, _Size, _Size]]] = {
    ("ampere", False, False): ((128, 64, 8, 2), (64, 32, 4, 2), (32, 64, 4, 2)),
    ("ampere", False, True): ((128, 32, 8, 2), (128, 64, 8, 2), (64, 64, 8, 2)),
    ("ampere", True, False): ((64, 32, 4, 2), (64, 32, 4, 2), (32, 32, 4, 2)),
    ("ampere", True, True): ((128, 32, 8, 2), (32, 32, 4, 2), (32, 32, 4, 2)),
    ("small", False, False): ((64, 64, 4, 1), (64, 32, 4, 1), (32, 64, 4, 1)),
    ("small", False, True): ((64, 64, 4, 1), (64, 32, 4, 1), (32, 64, 4, 1)),
    ("small", True, False): ((32, 32, 4, 1), (32, 32, 4, 1), (32, 32, 4, 1)),
    ("small", True, True): ((32, 32, 4, 1), (32, 32, 4, 1), (32, 32, 4, 1)),
}
# Exact products of float32, which no matrix unit makes: each thread holds whole rows of its
# operands, so that only small tiles come near to fitting the registers. By D.
_EXACT: Final[dict[int, tuple[_Size, _Size, _Size]]] = {
    16: ((32, 32, 4, 1), (32, 32, 4, 1), (16, 16, 4, 1)),
    32: ((32, 32, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
    64: ((16, 16, 4, 1), (16, 16, 8, 1), (16, 16, 8, 1)),
    128: ((16, 16, 8, 1), (16, 16, 8, 1), (16, 16, 8, 1)),
}

# Written by `override` alone.
_OVERRIDES: dict[Key, Tile] = {}


def tile_for(
    kernel: Kernel,
    dtype: torch.dtype,
    head_dim: int,
    dropout: bool,
    *,
    generation: Generation = "hopper",
    exact: bool = False,
) -> Tile:
    """The tile that a kernel runs with.

    Args:
        kernel: which one.
        dtype: of q, k and v.
        head_dim: D, one of `HEAD_DIMS`.
        dropout: whether weights are dropped, which costs registers.
        generation: what the device can hold.
        exact: whether float32 is multiplied exactly (precision "ieee") and not through tf32.
    """
    chosen = _OVERRIDES.get((kernel, dtype, head_dim, dropout))
    if chosen is not None:
        return chosen
    if exact and dtype == torch.float32:
        return Tile(*_EXACT[head_dim][KERNELS.index(kernel)])
    return candidates(kernel, dtype, head_dim, dropout, generation=generation)[0]


def candidates(
    kernel: Kernel,
    dtype: torch.dtype,
    head_dim: int,
    dropout: bool,
    *,
    generation: Generation = "hopper",
) -> list[Tile]:
    """Tiles worth measuring, the default first; arguments as for `tile_for`."""
    single, wide = dtype.itemsize > 2, head_dim == 128
    if generation != "hopper":
        return [Tile(*_OTHER[generation, single, wide][KERNELS.index(kernel)])]
    sizes = _SINGLE[kernel, wide, dropout] if single else _HALF[kernel, wide, dropout]
    return [Tile(*size) for size in sizes]


@contextmanager
def override(tiles: Mapping[Key, Tile]) -> Iterator[None]:
    """Runs what is inside with other tiles, e.g. to measure them; not thread-safe."""
    before = dict(_OVERRIDES)
    _OVERRIDES.update(tiles)
    try:
        yield
    finally:
        _OVERRIDES.clear()
        _OVERRIDES.update(before)
