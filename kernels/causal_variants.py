"""Every compilation of the causal attention kernels, for those who look at the machine code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import torch

from fastmaze.kernels.causal_backward import causal_backward_dkv, causal_backward_dq
from fastmaze.kernels.causal_forward import causal_forward
from fastmaze.kernels.tiles import HEAD_DIMS, KERNELS, Generation, Kernel, Tile, tile_for
from fastmaze.kernels.variants import Variant, variant

_TYPES: Final = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_TENSORS: Final = ("q", "k", "v", "grad", "out", "dq", "dk", "dv")
_KERNELS: Final[dict[Kernel, Any]] = {
    "forward": causal_forward,
    "backward_dq": causal_backward_dq,
    "backward_dkv": causal_backward_dkv,
}


def variants(generation: Generation = "hopper") -> Iterator[Variant]:
    """One for each kernel, dtype and precision, D, dropout or not, lengths or not."""
    kinds = ((torch.float32, True), *((dtype, False) for dtype in _TYPES))
    for (dtype, exact), kernel, D, dropout, lengths in product(
        kinds, KERNELS, HEAD_DIMS, (False, True), (False, True)
    ):
        tile = tile_for(kernel, dtype, D, dropout, generation=generation, exact=exact)
        yield describe(kernel, dtype, D, tile, dropout=dropout, lengths=lengths, exact=exact)


def describe(
    kernel: Kernel,
    dtype: torch.dtype,
    D: int,
    tile: Tile,
    *,
    dropout: bool,
    lengths: bool,
    exact: bool = False,
) -> Variant:
    """The compilation of one kernel with one tile, e.g. of a candidate."""
    function, element = _KERNELS[kernel], "*" + _TYPES[dtype]
    types = dict.fromkeys(_TENSORS, element) | {"lse": "*fp32", "delta": "*fp32"}
    types |= {"seqlens": "*i64", "seed": "*i64"}
    types |= {"scale": "fp32", "keep_scale": "fp32"}
    constants: dict[str, Any] = {
        "D": D,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "HAS_SEQLENS": lengths,
        "DROPOUT": dropout,
        "PRECISION": "ieee" if exact else "tf32",
    }
    # A tensor that is not passed is a constant for the compiler.
    constants |= {
        name: None for name, given in (("seqlens", lengths), ("seed", dropout)) if not given
    }
    strides = tuple(n for n in function.arg_names if n.endswith(("_sb", "_sh", "_st")))
    name = (
        f"{kernel} {_TYPES[dtype]}{' exact' if exact else ''} D={D}"
        f"{' dropout' if dropout else ''}{' lengths' if lengths else ''}"
        f" {tile.block_m}x{tile.block_n}"
    )
    return variant(
        name,
        function,
        types,
        constants,
        aligned=strides,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
