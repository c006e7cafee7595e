"""A transformer block's MLP as one operation: contract(gelu(expand(x))), GELU by its tanh formula.

What it saves: the hidden activations, four times as wide as x, are never in memory; the backward
computes them again. In passes over a hidden-sized array [rows, 4F], plain torch's forward makes 4
(expand writes, GELU reads and writes, contract reads) and its backward 8, and two such arrays wait
for the backward; here there are none. At B = 64, T = 10,000, F = 128 such an array is 1.31 GB in
float32, 0.66 GB in bfloat16: 7.9 GB of traffic and 1.3 GB of memory a layer and update in bfloat16.
The price is arithmetic: 9 matrix products of rows × F × 4F instead of 6 (2 forward as before,
7 backward instead of 4). The forward alone, as the target network and rollouts use it, has no
price. Whether the backward gains time, not only memory, is open until it is measured on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from fastmaze.kernels.checks import PRECISIONS
from fastmaze.kernels.dispatch import Precision, resolve_precision
from fastmaze.kernels.fused import FUSED_DTYPES, check_impl, takes_triton
from fastmaze.kernels.ops import to_autocast, under_autocast, without_autocast

WIDTHS = (64, 128)
"""F for which there is a kernel."""
MAJORS = (9, 10)
"""Compute capabilities whose multiprocessors have the 192 KiB of the largest tiles: H100, B200."""
MAX_ROWS = 2**31 - 4096
"""The kernels count rows, up to the end of the last block, in 32 bits."""


def mlp(
    x: Tensor,
    w_expand: Tensor,
    b_expand: Tensor,
    w_contract: Tensor,
    b_contract: Tensor,
    *,
    precision: Precision | None = None,
    impl: str = "auto",
) -> Tensor:
    """Applies both linear layers with GELU between them to the last dimension.

    Differentiable once, in all five; gradients are the same bits each time. The kernels take F = 64
    or 128; with "auto" other widths, GPUs of other compute capabilities than 9 and 10, and float32
    without tf32 (where the tensor cores cannot help) take plain torch, which computes the hidden
    activations again too.

    Args:
        x: float [..., F], at least one row.
        w_expand: [4F, F] of the same dtype, as all of them; the weight of a `torch.nn.Linear`.
        b_expand: [4F].
        w_contract: [F, 4F].
        b_contract: [F].
        precision: of the kernel's float32 products: "ieee", "tf32", or None for what torch is set
            to (see `causal_attention`), which plain torch follows in any case.
        impl: "auto", "triton" or "reference".

    Returns:
        Like x, [..., F]; under autocast all are cast first, float64 apart.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit, no such `precision` or `impl`, or an `impl`
            that cannot run here.
    """
    check_impl(impl)
    if under_autocast(x):
        x, w_expand, b_expand, w_contract, b_contract = (
            to_autocast(t) for t in (x, w_expand, b_expand, w_contract, b_contract)
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")
    if x.ndim < 1 or 0 in x.shape:
        raise ValueError(f"x: expected [..., F] with at least one row, got {list(x.shape)}")
    if x.dtype not in (*FUSED_DTYPES, torch.float64):
        raise TypeError(f"x: expected a floating-point dtype, got {x.dtype}")
    F = x.shape[-1]
    if x.numel() // F > MAX_ROWS:
        raise ValueError(f"x: expected at most {MAX_ROWS} rows, got {list(x.shape)}")
    for name, tensor, shape in (
        ("w_expand", w_expand, (4 * F, F)),
        ("b_expand", b_expand, (4 * F,)),
        ("w_contract", w_contract, (F, 4 * F)),
        ("b_contract", b_contract, (F,)),
    ):
        if tensor.dtype != x.dtype:
            raise TypeError(f"{name}: expected {x.dtype}, got {tensor.dtype}")
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected {list(shape)}, got {list(tensor.shape)}")
        if tensor.device != x.device:
            raise ValueError(f"{name}: expected device {x.device}, got {tensor.device}")
    if impl == "triton" and F not in WIDTHS:
        raise ValueError(f"x: impl 'triton' takes a width of {WIDTHS}, got {F}")
    if impl == "triton" and x.is_cuda and not _has_room(x):
        raise ValueError(f"impl: 'triton' expected a GPU of compute capability {MAJORS}")
    precision = resolve_precision(precision)
    out: Tensor = _forward_op(x, w_expand, b_expand, w_contract, b_contract, precision, impl)
    return out


def reference_forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """The twin in plain torch."""
    return linear(gelu(linear(x, w1, b1), approximate="tanh"), w2, b2)


def reference_backward(
    grad: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The twin's gradients for x [rows, F], hidden activations computed again."""
    h = linear(x, w1, b1)  # [rows, 4F]
    g = gelu(h, approximate="tanh")
    dh = torch.ops.aten.gelu_backward(grad @ w2, h, approximate="tanh")
    return dh @ w1, dh.t() @ x, dh.sum(dim=0), grad.t() @ g, grad.sum(dim=0)


@torch.library.custom_op("fastmaze::mlp", mutates_args=())
def _forward_op(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    precision: str,
    impl: str,
) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    w1, b1, w2, b2 = (w.contiguous() for w in (w1, b1, w2, b2))
    if _takes_triton(x, precision, impl):
        from fastmaze.kernels import mlp_triton

        return mlp_triton.forward(rows, w1, b1, w2, b2, precision).view(x.shape)
    with without_autocast(x):
        return reference_forward(rows, w1, b1, w2, b2).view(x.shape)


@_forward_op.register_fake
def _(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, precision: str, impl: str
) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("fastmaze::mlp_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    precision: str,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad, rows = (t.reshape(-1, x.shape[-1]).contiguous() for t in (grad, x))
    w1, b1, w2 = (w.contiguous() for w in (w1, b1, w2))
    if _takes_triton(x, precision, impl):
        from fastmaze.kernels import mlp_triton

        dx, *sums = mlp_triton.backward(grad, rows, w1, b1, w2, precision)
    else:
        with without_autocast(x):
            dx, *sums = reference_backward(grad, rows, w1, b1, w2)
    d_w1, d_b1, d_w2, d_b2 = (d.to(x.dtype).contiguous() for d in sums)
    return dx.view(x.shape), d_w1, d_b1, d_w2, d_b2


@_backward_op.register_fake
def _(
    grad: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, precision: str, impl: str
) -> tuple[Tensor, ...]:
    like = (x, w1, b1, w2, w2[:, 0])
    return tuple(t.new_empty(t.shape) for t in like)


def _takes_triton(x: Tensor, precision: str, impl: str) -> bool:
    if impl == "auto" and x.shape[-1] not in WIDTHS:
        return False
    if impl == "auto" and x.dtype == torch.float32 and precision == "ieee":
        return False
    if impl == "auto" and x.is_cuda and not _has_room(x):
        return False
    return takes_triton(x, impl)


def _has_room(x: Tensor) -> bool:
    return torch.cuda.get_device_capability(x.device)[0] in MAJORS


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w1, b1, w2, _, ctx.precision, ctx.impl = inputs
    ctx.save_for_backward(x, w1, b1, w2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = _backward_op(grad, *ctx.saved_tensors, ctx.precision, ctx.impl)
    return (*grads, None, None)


_forward_op.register_autograd(_backward, setup_context=_setup_context)
