"""LayerNorm in Triton, with the addition before it: a program takes blocks of whole rows.

The weight's and bias's gradients are sums over all rows. Each program of the backward adds up its
rows in registers and leaves one line of a table; torch adds the lines. Which rows a program takes
depends on the shape alone, so that equal inputs give equal bits on any GPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmaze.kernels.variants import Variant, variant

ELEMENTS = 2048
"""Entries that a program holds at a time: its rows times their padded width."""
PROGRAMS = 1024
"""Programs of the backward, at most: eight for each multiprocessor of the largest GPUs."""


@triton.jit
def _normalise(b_x, m, F: tl.constexpr, eps):
    """Rows [M, F_PADDED] without mean and scale, and one over their scale [M, 1]."""
    mean = tl.sum(b_x, axis=1, keep_dims=True) / F
    centred = tl.where(m, b_x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=1, keep_dims=True) / F
    rstd = 1.0 / tl.sqrt(variance + eps)
    return centred * rstd, rstd


@triton.jit
def forward_kernel(
    x,
    residual,
    weight,
    bias,
    out,
    total,
    rows,
    eps,
    F: tl.constexpr,
    F_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
):
    """A block of rows of [rows, F]; the sum is rounded as it is stored before it is normalised."""
    o_row = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    o_f = tl.arange(0, F_PADDED)
    m_f = o_f < F
    m = (o_row < rows)[:, None] & m_f[None, :]
    o = o_row[:, None] * F + o_f[None, :]  # [BLOCK, F_PADDED]
    b_x = tl.load(x + o, mask=m, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        b_x += tl.load(residual + o, mask=m, other=0.0).to(tl.float32)
        b_sum = b_x.to(total.dtype.element_ty)
        tl.store(total + o, b_sum, mask=m)
        b_x = b_sum.to(tl.float32)
    b_normal, _ = _normalise(b_x, m, F, eps)
    b_weight = tl.load(weight + o_f, mask=m_f, other=0.0).to(tl.float32)
    b_bias = tl.load(bias + o_f, mask=m_f, other=0.0).to(tl.float32)
    b_out = b_normal * b_weight[None, :] + b_bias[None, :]
    tl.store(out + o, b_out.to(out.dtype.element_ty), mask=m)


@triton.jit
def backward_kernel(
    grad,
    grad_sum,
    x,
    weight,
    dx,
    table,
    rows,
    eps,
    F: tl.constexpr,
    F_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_GRAD_SUM: tl.constexpr,
):
    """Every n-th block of rows; the rows' means and scales are computed again."""
    i_program, num_programs = tl.program_id(0), tl.num_programs(0)
    o_block = tl.arange(0, BLOCK)
    o_f = tl.arange(0, F_PADDED)
    m_f = o_f < F
    b_weight = tl.load(weight + o_f, mask=m_f, other=0.0).to(tl.float32)
    d_weight = tl.zeros([BLOCK, F_PADDED], tl.float32)
    d_bias = tl.zeros([BLOCK, F_PADDED], tl.float32)
    for i_block in range(i_program, tl.cdiv(rows, BLOCK), num_programs):
        o_row = (i_block * BLOCK + o_block).to(tl.int64)
        m = (o_row < rows)[:, None] & m_f[None, :]
        o = o_row[:, None] * F + o_f[None, :]  # [BLOCK, F_PADDED]
        b_x = tl.load(x + o, mask=m, other=0.0).to(tl.float32)
        b_grad = tl.load(grad + o, mask=m, other=0.0).to(tl.float32)
        b_normal, rstd = _normalise(b_x, m, F, eps)
        d_weight += b_grad * b_normal
        d_bias += b_grad
        d_normal = b_grad * b_weight[None, :]
        # Neither a row's mean nor its scale reaches the output: their directions are taken out.
        along_mean = tl.sum(d_normal, axis=1, keep_dims=True) / F
        along_scale = tl.sum(d_normal * b_normal, axis=1, keep_dims=True) / F
        b_dx = (d_normal - along_mean - b_normal * along_scale) * rstd
        if HAS_GRAD_SUM:
            b_dx += tl.load(grad_sum + o, mask=m, other=0.0).to(tl.float32)
        tl.store(dx + o, b_dx.to(dx.dtype.element_ty), mask=m)
    line = i_program * F
    tl.store(table + line + o_f, tl.sum(d_weight, axis=0), mask=m_f)
    tl.store(table + num_programs * F + line + o_f, tl.sum(d_bias, axis=0), mask=m_f)


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor | None]:
    """Launches the forward on contiguous [rows, F]: normalised rows, and the sum if there is."""
    rows, F = x.shape
    out = torch.empty_like(x)
    total = None if residual is None else torch.empty_like(x)
    F_padded, block = _tile(F)
    with torch.cuda.device_of(x):
        forward_kernel[(triton.cdiv(rows, block),)](
            x,
            residual,
            weight,
            bias,
            out,
            total,
            rows,
            eps,
            F=F,
            F_PADDED=F_padded,
            BLOCK=block,
            HAS_RESIDUAL=residual is not None,
        )
    return out, total


def backward(
    grad: Tensor, grad_sum: Tensor | None, x: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Launches the backward on contiguous [rows, F]: dx, and float32 dweight and dbias [2, F]."""
    rows, F = x.shape
    F_padded, block = _tile(F)
    programs = min(PROGRAMS, triton.cdiv(rows, block))
    dx = torch.empty_like(x)
    table = torch.empty(2, programs, F, dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        backward_kernel[(programs,)](
            grad,
            grad_sum,
            x,
            weight,
            dx,
            table,
            rows,
            eps,
            F=F,
            F_PADDED=F_padded,
            BLOCK=block,
            HAS_GRAD_SUM=grad_sum is not None,
        )
    return dx, table.sum(dim=1)


def variants() -> Iterator[Variant]:
    """The compilations that the update needs, for a compiler without a GPU."""
    for F in (64, 128):
        F_padded, block = _tile(F)
        sizes = {"F": F, "F_PADDED": F_padded, "BLOCK": block}
        for x in ("fp32", "bf16"):
            names = ("x", "residual", "out", "total", "grad", "grad_sum", "dx")
            types = dict.fromkeys(names, f"*{x}") | dict.fromkeys(
                ("weight", "bias", "table"), "*fp32"
            )
            types["eps"] = "fp32"
            alone = {"residual": None, "total": None, "HAS_RESIDUAL": False}
            name = f"{x}-F{F}"
            yield variant(f"layer_norm-forward-{name}", forward_kernel, types, sizes | alone)
            yield variant(
                f"layer_norm-forward-{name}-add",
                forward_kernel,
                types,
                sizes | {"HAS_RESIDUAL": True},
            )
            alone = {"grad_sum": None, "HAS_GRAD_SUM": False}
            yield variant(f"layer_norm-backward-{name}", backward_kernel, types, sizes | alone)
            yield variant(
                f"layer_norm-backward-{name}-add",
                backward_kernel,
                types,
                sizes | {"HAS_GRAD_SUM": True},
            )


def _tile(F: int) -> tuple[int, int]:
    """Width padded to a power of two, and rows of a program."""
    F_padded = triton.next_power_of_2(F)
    return F_padded, max(1, ELEMENTS // F_padded)
