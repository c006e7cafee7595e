"""The two-layer MLP in Triton: hidden activations live in registers, a slice of them at a time.

```
            hidden 4F
 rows   [ s0 | s1 | s2 | ... ]     forward, dx: a program keeps its rows, walks over the slices
                                   weights:     a program keeps its slice, walks over its rows
```

The weights' gradients are sums over all rows: each program leaves the sum over its share in a
table, and torch adds the shares, always in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmaze.kernels.mlp import WIDTHS
from fastmaze.kernels.variants import Variant, variant

"""F, for which tiles were chosen."""
ROWS = 128
"""Rows of a program of the forward and of the input's gradient."""
WEIGHT_SLICE = 128
"""Hidden activations of a program of the weights' gradients; the hidden width is a multiple."""
PROGRAMS = 128
"""Programs of the weights' gradients: about one for each multiprocessor of the largest GPUs."""
WARPS = 8


@triton.jit
def _sigmoid_of_gelu(h):
    """GELU's factor of h: 0.5·(1 + tanh u) is the sigmoid of 2u, u = √(2/π)·(h + 0.044715 h³)."""
    inner = -1.5957691216057308 * (h + 0.044715 * h * h * h)
    return 1.0 / (1.0 + tl.exp(tl.minimum(inner, 80.0)))  # exp stays finite


@triton.jit
def _slope_of_gelu(h, sigmoid):
    """The derivative of h · sigmoid(2u(h))."""
    inner = 1.5957691216057308 * (1.0 + 0.134145 * h * h)
    return sigmoid + h * sigmoid * (1.0 - sigmoid) * inner


@triton.jit
def forward_kernel(
    x,
    w1,
    b1,
    w2,
    b2,
    out,
    rows,
    F: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Rows of [rows, F] through both layers; w1 is [HIDDEN, F], w2 is [F, HIDDEN]."""
    o_row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    o_f = tl.arange(0, F)
    m = (o_row < rows)[:, None]
    o = o_row.to(tl.int64)[:, None] * F + o_f[None, :]
    b_x = tl.load(x + o, mask=m, other=0.0)  # [BLOCK, F]
    acc = tl.zeros([BLOCK, F], tl.float32)
    for start in range(0, HIDDEN, SLICE):
        o_h = start + tl.arange(0, SLICE)
        b_w1 = tl.load(w1 + o_h[None, :] * F + o_f[:, None])  # [F, SLICE]
        h = tl.dot(b_x, b_w1, input_precision=PRECISION)
        h += tl.load(b1 + o_h).to(tl.float32)[None, :]  # [BLOCK, SLICE]
        g = (h * _sigmoid_of_gelu(h)).to(b_x.dtype)
        b_w2 = tl.load(w2 + o_f[None, :] * HIDDEN + o_h[:, None])  # [SLICE, F]
        acc = tl.dot(g, b_w2, acc, input_precision=PRECISION)
    acc += tl.load(b2 + o_f).to(tl.float32)[None, :]
    tl.store(out + o, acc.to(out.dtype.element_ty), mask=m)


@triton.jit
def input_gradient_kernel(
    grad,
    x,
    w1,
    b1,
    w2,
    dx,
    rows,
    F: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of rows of x, from hidden activations computed again."""
    o_row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    o_f = tl.arange(0, F)
    m = (o_row < rows)[:, None]
    o = o_row.to(tl.int64)[:, None] * F + o_f[None, :]
    b_x = tl.load(x + o, mask=m, other=0.0)  # [BLOCK, F]
    b_grad = tl.load(grad + o, mask=m, other=0.0)
    acc = tl.zeros([BLOCK, F], tl.float32)
    for start in range(0, HIDDEN, SLICE):
        o_h = start + tl.arange(0, SLICE)
        b_w1 = tl.load(w1 + o_h[:, None] * F + o_f[None, :])  # [SLICE, F]
        h = tl.dot(b_x, tl.trans(b_w1), input_precision=PRECISION)
        h += tl.load(b1 + o_h).to(tl.float32)[None, :]  # [BLOCK, SLICE]
        b_w2 = tl.load(w2 + o_f[:, None] * HIDDEN + o_h[None, :])  # [F, SLICE]
        dg = tl.dot(b_grad, b_w2, input_precision=PRECISION)
        dh = (dg * _slope_of_gelu(h, _sigmoid_of_gelu(h))).to(b_x.dtype)
        acc = tl.dot(dh, b_w1, acc, input_precision=PRECISION)
    tl.store(dx + o, acc.to(dx.dtype.element_ty), mask=m)


@triton.jit
def weight_gradient_kernel(
    grad,
    x,
    w1,
    b1,
    w2,
    dw1,
    db1,
    dw2,
    rows,
    F: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A slice's gradients over every n-th block of rows: dw1 and dw2 are [n, HIDDEN, F]."""
    i_share, num_shares = tl.program_id(1), tl.num_programs(1)
    o_h = tl.program_id(0) * SLICE + tl.arange(0, SLICE)
    o_f = tl.arange(0, F)
    b_w1 = tl.load(w1 + o_h[:, None] * F + o_f[None, :])  # [SLICE, F]
    b_w2 = tl.load(w2 + o_h[:, None] + o_f[None, :] * HIDDEN)  # [SLICE, F]
    b_b1 = tl.load(b1 + o_h).to(tl.float32)[:, None]
    d_w1 = tl.zeros([SLICE, F], tl.float32)
    d_w2 = tl.zeros([SLICE, F], tl.float32)
    d_b1 = tl.zeros([SLICE], tl.float32)
    for i_block in range(i_share, tl.cdiv(rows, BLOCK), num_shares):
        o_row = i_block * BLOCK + tl.arange(0, BLOCK)
        m = (o_row < rows)[:, None]
        o = o_row.to(tl.int64)[:, None] * F + o_f[None, :]
        b_x = tl.load(x + o, mask=m, other=0.0)  # [BLOCK, F]
        b_grad = tl.load(grad + o, mask=m, other=0.0)
        # Transposed, so that the slice's activations are the left factors below.
        h = tl.dot(b_w1, tl.trans(b_x), input_precision=PRECISION) + b_b1  # [SLICE, BLOCK]
        dg = tl.dot(b_w2, tl.trans(b_grad), input_precision=PRECISION)
        sigmoid = _sigmoid_of_gelu(h)
        dh = dg * _slope_of_gelu(h, sigmoid)
        d_b1 += tl.sum(dh, axis=1)
        d_w1 = tl.dot(dh.to(b_x.dtype), b_x, d_w1, input_precision=PRECISION)
        g = (h * sigmoid).to(b_x.dtype)
        d_w2 = tl.dot(g, b_grad, d_w2, input_precision=PRECISION)
    o = (i_share * HIDDEN + o_h)[:, None] * F + o_f[None, :]
    tl.store(dw1 + o, d_w1)
    tl.store(dw2 + o, d_w2)
    tl.store(db1 + i_share * HIDDEN + o_h, d_b1)


def forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, precision: str) -> Tensor:
    """Launches the forward on contiguous [rows, F]."""
    rows, F = x.shape
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        forward_kernel[(triton.cdiv(rows, ROWS),)](
            x, w1, b1, w2, b2, out, rows, **_row_sizes(F, w1.shape[0], x.dtype, precision)
        )
    return out


def backward(
    grad: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, precision: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Launches the backward on contiguous [rows, F]: dx, and float32 dw1, db1, dw2 and db2."""
    rows, F = x.shape
    hidden = w1.shape[0]
    for_rows = _row_sizes(F, hidden, x.dtype, precision)
    for_weights = _weight_sizes(F, hidden, x.dtype, precision)
    slices = hidden // WEIGHT_SLICE
    shares = min(triton.cdiv(rows, for_weights["BLOCK"]), max(1, PROGRAMS // slices))
    dx = torch.empty_like(x)
    new: dict[str, Any] = {"dtype": torch.float32, "device": x.device}
    d_w1, d_w2 = (torch.empty(shares, hidden, F, **new) for _ in range(2))
    d_b1 = torch.empty(shares, hidden, **new)
    with torch.cuda.device_of(x):
        input_gradient_kernel[(triton.cdiv(rows, ROWS),)](grad, x, w1, b1, w2, dx, rows, **for_rows)
        weight_gradient_kernel[(slices, shares)](
            grad, x, w1, b1, w2, d_w1, d_b1, d_w2, rows, **for_weights
        )
    d_b2 = grad.sum(dim=0, dtype=torch.float32)
    return dx, d_w1.sum(dim=0), d_b1.sum(dim=0), d_w2.sum(dim=0).t(), d_b2


def variants() -> Iterator[Variant]:
    """The compilations that the update needs, for a compiler without a GPU."""
    tables = dict.fromkeys(("dw1", "dw2", "db1"), "*fp32")
    inputs = ("x", "w1", "b1", "w2", "b2", "out", "grad", "dx")
    for F in WIDTHS:
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            for kind, kernel, sizes in (
                ("forward", forward_kernel, _row_sizes),
                ("input_gradient", input_gradient_kernel, _row_sizes),
                ("weight_gradient", weight_gradient_kernel, _weight_sizes),
            ):
                constants = sizes(F, 4 * F, dtype, "tf32")
                options = {k: constants.pop(k) for k in ("num_warps", "num_stages")}
                yield variant(
                    f"mlp-{kind}-{name}-F{F}",
                    kernel,
                    dict.fromkeys(inputs, f"*{name}") | tables,
                    constants,
                    **options,
                )


def _row_sizes(F: int, hidden: int, dtype: torch.dtype, precision: str) -> dict[str, Any]:
    """Tiles of the forward and of the input's gradient that compile for sm_90 without spills."""
    wide = dtype == torch.float32 and F == 128  # 64 hidden would not fit into shared memory
    return {
        "F": F,
        "HIDDEN": hidden,
        "BLOCK": ROWS,
        "SLICE": 32 if wide else 64,
        "PRECISION": precision,
        "num_warps": WARPS,
        "num_stages": 2,
    }


def _weight_sizes(F: int, hidden: int, dtype: torch.dtype, precision: str) -> dict[str, Any]:
    """Tiles of the weights' gradients that compile for sm_90 without spills."""
    return {
        "F": F,
        "HIDDEN": hidden,
        "BLOCK": 32 if dtype == torch.float32 else 64,
        "SLICE": WEIGHT_SLICE,
        "PRECISION": precision,
        "num_warps": WARPS,
        "num_stages": 2,
    }
