"""LayerNorm over the last dimension, alone or with the residual addition before it.

```
 x + residual -> sum -> (sum − mean) / sqrt(variance + eps) · weight + bias
                  |
                  +---> also returned: the next residual stream
```

What it saves, in passes over x [..., F], with the addition: forward 4 (two read, two written)
instead of 5, backward 4 instead of 8 (plain torch reads gradient and sum once for dx and once for
the weights, then adds the stream's gradient), and 3 launches instead of 5. At B = 64, T = 10,000,
F = 128 in float32 a pass is 328 MB. Alone it saves the weights' second reading of gradient and sum
in the backward: 3 passes instead of 5; the forward moves as much as torch's. Mean and scale are not
kept for the backward: a row is read there anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmaze.kernels.fused import FUSED_DTYPES, accumulator, check_impl, takes_triton

MAX_WIDTH = 2048
MAX_ROWS = 2**31 - 4096
"""The kernels count rows, up to the end of the last block, in 32 bits."""


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float = 1e-5, impl: str = "auto"
) -> Tensor:
    """Normalises the last dimension: mean 0, variance 1, then weight and bias.

    Differentiable once, in x, weight and bias; gradients are the same bits each time. Means and
    variances are made in float32 (float64 for float64).

    Args:
        x: float [..., F], at least one row, F up to 2048.
        weight: float [F], of any of the dtypes.
        bias: float [F], of the weight's dtype.
        eps: added to the variance; positive.
        impl: "auto", "triton" or "reference".

    Returns:
        Like x, [..., F].

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit, or an `impl` that is unknown or cannot run.
    """
    _check(x, None, weight, bias, eps, impl)
    out: Tensor = _forward_op(x, weight, bias, eps, impl)
    return out


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Adds, then normalises as `layer_norm`; differentiable in residual too.

    Args:
        x: float [..., F].
        residual: like x.
        weight: float [F].
        bias: float [F], of the weight's dtype.
        eps: added to the variance; positive.
        impl: "auto", "triton" or "reference".

    Returns:
        The normalised sum and the sum itself, both like x. What is normalised is the sum as
        rounded to x's dtype.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit, or an `impl` that is unknown or cannot run.
    """
    _check(x, residual, weight, bias, eps, impl)
    out, total = _add_forward_op(x, residual, weight, bias, eps, impl)
    return out, total


def _check(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, impl: str
) -> None:
    check_impl(impl)
    dtypes = (*FUSED_DTYPES, torch.float64)
    if x.ndim < 1 or 0 in x.shape or x.shape[-1] > MAX_WIDTH:
        raise ValueError(f"x: expected [..., F] with F from 1 to {MAX_WIDTH}, got {list(x.shape)}")
    if x.numel() // x.shape[-1] > MAX_ROWS:
        raise ValueError(f"x: expected at most {MAX_ROWS} rows, got {list(x.shape)}")
    for name, tensor in (("x", x), ("weight", weight)):
        if tensor.dtype not in dtypes:
            raise TypeError(f"{name}: expected a floating-point dtype, got {tensor.dtype}")
    if not eps > 0.0:
        raise ValueError(f"eps: expected a positive number, got {eps}")
    expected = [("weight", weight, weight.dtype, x.shape[-1:])]
    expected.append(("bias", bias, weight.dtype, x.shape[-1:]))
    if residual is not None:
        expected.append(("residual", residual, x.dtype, x.shape))
    for name, tensor, dtype, shape in expected:
        if tensor.dtype != dtype:
            raise TypeError(f"{name}: expected {dtype}, got {tensor.dtype}")
        if tensor.shape != shape:
            raise ValueError(f"{name}: expected {list(shape)}, got {list(tensor.shape)}")
        if tensor.device != x.device:
            raise ValueError(f"{name}: expected device {x.device}, got {tensor.device}")


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Rows without mean and scale, and one over their scale [..., 1], as the accumulator."""
    x = x.to(accumulator(x.dtype))
    centred = x - x.mean(dim=-1, keepdim=True)
    rstd = (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt()
    return centred * rstd, rstd


def reference_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor | None]:
    """The twin in plain torch: the normalised rows, and the sum if there is a residual."""
    total = x if residual is None else x + residual
    normal, _ = _normalise(total, eps)
    out = (normal * weight.to(normal.dtype) + bias.to(normal.dtype)).to(x.dtype)
    return out, None if residual is None else total


def reference_backward(
    grad: Tensor, grad_sum: Tensor | None, x: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """The twin's gradients for x [rows, F]: dx, and dweight and dbias [2, F] as summed."""
    normal, rstd = _normalise(x, eps)
    grad = grad.to(normal.dtype)
    d_normal = grad * weight.to(normal.dtype)
    # Neither a row's mean nor its scale reaches the output: their directions are taken out.
    along_mean = d_normal.mean(dim=-1, keepdim=True)
    along_scale = (d_normal * normal).mean(dim=-1, keepdim=True)
    dx = (d_normal - along_mean - normal * along_scale) * rstd
    if grad_sum is not None:
        dx = dx + grad_sum.to(normal.dtype)
    return dx.to(x.dtype), torch.stack([(grad * normal).sum(dim=0), grad.sum(dim=0)])


def _forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, impl: str
) -> tuple[Tensor, Tensor | None]:
    forward = reference_forward
    if takes_triton(x, impl):
        from fastmaze.kernels import layer_norm_triton

        forward = layer_norm_triton.forward
    add = None if residual is None else _rows(residual)
    out, total = forward(_rows(x), add, weight.contiguous(), bias.contiguous(), eps)
    return out.view(x.shape), None if total is None else total.view(x.shape)


@torch.library.custom_op("fastmaze::layer_norm", mutates_args=())
def _forward_op(x: Tensor, weight: Tensor, bias: Tensor, eps: float, impl: str) -> Tensor:
    return _forward(x, None, weight, bias, eps, impl)[0]


@_forward_op.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, impl: str) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("fastmaze::add_layer_norm", mutates_args=())
def _add_forward_op(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, impl: str
) -> tuple[Tensor, Tensor]:
    out, total = _forward(x, residual, weight, bias, eps, impl)
    assert total is not None  # there is a residual
    return out, total


@_add_forward_op.register_fake
def _(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, impl: str
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.custom_op("fastmaze::layer_norm_backward", mutates_args=())
def _backward_op(
    grad: Tensor, grad_sum: Tensor | None, x: Tensor, weight: Tensor, eps: float, impl: str
) -> tuple[Tensor, Tensor]:
    backward = reference_backward
    if takes_triton(x, impl):
        from fastmaze.kernels import layer_norm_triton

        backward = layer_norm_triton.backward
    add = None if grad_sum is None else _rows(grad_sum)
    dx, d_affine = backward(_rows(grad), add, _rows(x), weight.contiguous(), eps)
    return dx.view(x.shape), d_affine.to(weight.dtype)


@_backward_op.register_fake
def _(
    grad: Tensor, grad_sum: Tensor | None, x: Tensor, weight: Tensor, eps: float, impl: str
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty((2, x.shape[-1]))


def _rows(x: Tensor) -> Tensor:
    """X as contiguous [rows, F]."""
    return x.reshape(-1, x.shape[-1]).contiguous()


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.eps, ctx.impl = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    dx, (d_weight, d_bias) = _backward_op(grad, None, x, weight, ctx.eps, ctx.impl)
    return dx, d_weight, d_bias, None, None


def _add_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, weight, _, ctx.eps, ctx.impl = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1], weight)


def _add_backward(
    ctx: Any, grad: Tensor | None, grad_sum: Tensor | None
) -> tuple[Tensor | None, ...]:
    total, weight = ctx.saved_tensors
    if grad is None:  # only the sum was used
        return grad_sum, grad_sum, None, None, None, None
    dx, (d_weight, d_bias) = _backward_op(grad, grad_sum, total, weight, ctx.eps, ctx.impl)
    return dx, dx, d_weight, d_bias, None, None


_forward_op.register_autograd(_backward, setup_context=_setup_context)
_add_forward_op.register_autograd(_add_backward, setup_context=_add_setup_context)
