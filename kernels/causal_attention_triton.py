"""Launches the Triton kernels of causal attention, forward and backward.

The arguments are validated already (see `checks`). Nothing here waits for the device, so a CUDA
graph can capture it: lengths and the dropout seed stay in device tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import torch
import triton
from torch import Tensor
from triton.runtime import _allocation

from fastmaze.kernels.causal_backward import causal_backward_dkv, causal_backward_dq
from fastmaze.kernels.causal_forward import causal_forward
from fastmaze.kernels.reference import keep_threshold, lse_dtype
from fastmaze.kernels.tiles import Generation, Kernel, Tile, tile_for

_ALIGNMENT: Final = 16
"""Bytes that addresses and strides of a descriptor must be multiples of."""

_MAX_PROGRAMS: Final = 2**21 - 1
"""Each program writes up to 1 KiB of descriptors, at an offset that Triton keeps in 32 bits."""


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp.

    Args:
        q: float [B, H, T, D].
        k: float [B, H, T, D].
        v: float [B, H, T, D].
        seqlens: int32 or int64 [B], or None for T everywhere.
        seed: int64, one entry; None without dropout.
        dropout_p: chance of dropping a weight.
        scale: what scores are multiplied by.
        precision: "ieee" or "tf32", for float32.

    Returns:
        out, like q, [B, T, H, D] in memory so that the projection after it needs no copy; and lse,
        float32 [B, H, T], whose rows lie a multiple of 16 bytes apart.
    """
    B, H, T, D = q.shape
    q, k, v = _aligned(q), _aligned(k), _aligned(v)
    out = _heads_last(q)
    lse = _row_scratch(q)
    tile = _tile("forward", q, dropout_p, precision)
    with _on(q):
        causal_forward[_grid(q, tile.block_m)](
            q, k, v, out, lse, seqlens, seed,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3],
            B, H, T, lse.stride(1), scale, *_dropout(dropout_p),
            D=D, **_meta(tile, seqlens, dropout_p, precision),
        )  # fmt: skip
    return out, lse


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, each laid out like `torch.empty_like` of its tensor.

    Args:
        grad: gradient of `out`.
        q: as in `forward`, like all that follow.
        k: "
        v: "
        out: what `forward` returned.
        lse: "
        seqlens: as in `forward`.
        seed: "
        dropout_p: "
        scale: "
        precision: "
    """
    B, H, T, D = q.shape
    grad, out = _aligned(grad), _aligned(out)
    results = [torch.empty_like(x) for x in (q, k, v)]
    dq, dk, dv = (x if _fits(x) else _heads_last(x) for x in results)
    q, k, v = _aligned(q), _aligned(k), _aligned(v)
    padded, delta = _row_scratch(q), _row_scratch(q)
    if lse.stride() == padded.stride() and lse.data_ptr() % _ALIGNMENT == 0:
        padded = lse
    else:
        padded.copy_(lse)
    numbers = (B, H, T, padded.stride(1), scale, *_dropout(dropout_p))
    strides = [s for x in (q, k, v, grad) for s in x.stride()[:3]]
    with _on(q):
        tile = _tile("backward_dq", q, dropout_p, precision)
        causal_backward_dq[_grid(q, tile.block_m)](
            q, k, v, grad, out, padded, delta, dq, seqlens, seed,
            *strides, *out.stride()[:3], *dq.stride()[:3], *numbers,
            D=D, **_meta(tile, seqlens, dropout_p, precision),
        )  # fmt: skip
        tile = _tile("backward_dkv", q, dropout_p, precision)
        causal_backward_dkv[_grid(q, tile.block_n)](
            q, k, v, grad, padded, delta, dk, dv, seqlens, seed,
            *strides, *dk.stride()[:3], *dv.stride()[:3], *numbers,
            D=D, **_meta(tile, seqlens, dropout_p, precision),
        )  # fmt: skip
    for result, written in zip(results, (dq, dk, dv), strict=True):
        if result is not written:
            result.copy_(written)
    return results[0], results[1], results[2]


def _grid(q: Tensor, block: int) -> tuple[int]:
    B, H, T, _ = q.shape
    programs = triton.cdiv(T, block) * B * H
    if programs > _MAX_PROGRAMS:
        raise ValueError(
            f"q: expected B * H * T / {block} of at most {_MAX_PROGRAMS} with impl='triton',"
            f" got {programs} of shape {list(q.shape)}; split the batch"
        )
    return (programs,)


def _aligned(x: Tensor) -> Tensor:
    """x, or a copy if a descriptor could not address it: the projection's views always fit."""
    return x if _fits(x) else _heads_last(x).copy_(x)


def _fits(x: Tensor) -> bool:
    unit = _ALIGNMENT // x.element_size()
    rows = all(s > 0 and s % unit == 0 for s in x.stride()[:3])
    return rows and x.stride(3) == 1 and x.data_ptr() % _ALIGNMENT == 0


def _heads_last(x: Tensor) -> Tensor:
    """An empty tensor of the shape of x, [B, T, H, D] in memory."""
    B, H, T, D = x.shape
    return x.new_empty(B, T, H, D).transpose(1, 2)


def _row_scratch(q: Tensor) -> Tensor:
    """One number for each query, float32 [B, H, T]; rows begin at multiples of 16 bytes."""
    B, H, T, _ = q.shape
    return q.new_empty(B, H, -(-T // 4) * 4, dtype=lse_dtype(q.dtype))[:, :, :T]


def _tile(kernel: Kernel, q: Tensor, dropout_p: float, precision: str) -> Tile:
    return tile_for(
        kernel,
        q.dtype,
        q.shape[3],
        dropout_p > 0,
        generation=_generation(q.device.index) if q.is_cuda else "hopper",
        exact=precision == "ieee",
    )


@functools.cache
def _generation(device: int) -> Generation:
    properties: Any = torch.cuda.get_device_properties(device)
    if properties.major >= 9 and properties.shared_memory_per_block_optin >= 227 * 1024:
        return "hopper"
    return "small" if properties.major >= 9 else "ampere"


def _dropout(dropout_p: float) -> tuple[int, float]:
    """Keep probability in units of 2**-16, and its inverse; whatever without dropout."""
    threshold = keep_threshold(dropout_p)
    return threshold, 65536 / threshold


def _meta(tile: Tile, seqlens: Tensor | None, dropout_p: float, precision: str) -> dict[str, Any]:
    return {
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "HAS_SEQLENS": seqlens is not None,
        "DROPOUT": dropout_p > 0,
        "PRECISION": precision,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


@contextmanager
def _on(x: Tensor) -> Iterator[None]:
    """The device of x made current, with memory for the descriptors that programs write."""
    before = _allocation._allocator.get()
    triton.set_allocator(_scratch)
    try:
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            yield
    finally:
        triton.set_allocator(before)


def _scratch(size: int, alignment: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")
