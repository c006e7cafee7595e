"""`causal_attention`: one function for every device, registered with torch as a custom operator.

```
causal_attention ── check ── "reference" ──> reference.py, by autograd
                     │ seed  "sdpa" ───────> torch's own attention, made safe for padding
                     │       "triton" ─┐
                     │       "blockwise"──> fastmaze::causal_attention ──> its backward operator
```

`torch.compile` keeps the operators whole, so that neither breaks a graph.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fastmaze.kernels import blockwise, reference
from fastmaze.kernels.checks import check_causal_attention
from fastmaze.kernels.dispatch import (
    AttentionImpl,
    Precision,
    resolve_impl,
    resolve_precision,
    triton_module,
)
from fastmaze.kernels.reference import lse_dtype, rows_within


@overload
def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seqlens: Tensor | None = ...,
    dropout_p: float = ...,
    seed: Tensor | None = ...,
    scale: float | None = ...,
    precision: Precision | None = ...,
    return_lse: Literal[False] = ...,
    impl: AttentionImpl = ...,
) -> Tensor: ...
@overload
def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seqlens: Tensor | None = ...,
    dropout_p: float = ...,
    seed: Tensor | None = ...,
    scale: float | None = ...,
    precision: Precision | None = ...,
    return_lse: Literal[True],
    impl: AttentionImpl = ...,
) -> tuple[Tensor, Tensor]: ...
def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seqlens: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    scale: float | None = None,
    precision: Precision | None = None,
    return_lse: bool = False,
    impl: AttentionImpl = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention of each position over itself and those before it, with gradients (once).

    The dropout mask is a function of (seed, batch, head, query, key) alone: every implementation
    drops the same weights, and none stores a matrix of T × T ("reference" apart).

    Args:
        q: float16, bfloat16, float32 or float64 [B, H, T, D], of any strides with a last of 1.
        k: the same dtype and shape.
        v: the same dtype and shape.
        seqlens: int32 or int64 [B] in [0, T] on q's device, tokens of each sequence. What lies
            past them is never used, be it NaN; out and gradients are 0 there.
        dropout_p: chance in [0, 1) of dropping a weight; the rest is divided by the chance of
            staying, which is rounded to 16 bits.
        seed: int64 of one element on q's device, from which dropout draws. None takes one from
            torch's generator of the device, which `torch.manual_seed` sets.
        scale: factor of the scores, finite and above 0; D**-0.5 if None.
        precision: of Triton's products of float32. None takes what torch is set to (see
            `torch.set_float32_matmul_precision`: "highest" is "ieee", the rest "tf32"), which the
            other implementations follow always.
        return_lse: also return the log-sum-exp.
        impl: "auto" takes Triton where it runs, else torch's own attention where there is neither
            dropout nor `return_lse`, else blocks of rows in plain torch; see `resolve_impl`.

    Returns:
        out: [B, H, T, D] of q's dtype; under autocast q, k and v are cast first, float64 apart.
        lse: only with `return_lse`: float32 (float64 for float64) [B, H, T], the logarithm of the
            sum of exp(scale * q k) over a query's keys, before dropout; -inf past the length. It
            has no gradient.
        Where a length is out of range and cannot be checked without waiting for the GPU, that
        sequence and its gradients are NaN.

    Raises:
        TypeError: an argument of a wrong type or dtype.
        ValueError: an argument of a wrong shape, device, stride or value, or an `impl` that does
            not have what is asked for.
        ImportError: `impl="triton"` without Triton.
    """
    if under_autocast(q):
        q, k, v = (to_autocast(x) for x in (q, k, v))
    check_causal_attention(
        q,
        k,
        v,
        seqlens=seqlens,
        dropout_p=dropout_p,
        seed=seed,
        scale=scale,
        precision=precision,
    )
    precision = resolve_precision(precision)
    chosen = resolve_impl(
        q, impl=impl, dropout_p=dropout_p, return_lse=return_lse, precision=precision
    )
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    seqlens = None if seqlens is None else seqlens.contiguous()
    if dropout_p == 0:
        seed = None
    elif seed is None:
        seed = torch.randint(2**63 - 1, (1,), device=q.device)
    if chosen == "sdpa":
        return _sdpa(q, k, v, seqlens, scale)
    if chosen == "reference":
        out, lse = reference.causal_attention(
            q, k, v, seqlens=seqlens, dropout_p=dropout_p, seed=seed, scale=scale
        )
    else:
        out, lse = _forward(q, k, v, seqlens, seed, float(dropout_p), scale, precision, chosen)
    return (out, lse) if return_lse else out


def under_autocast(x: Tensor) -> bool:
    """Whether `torch.autocast` is on for x's device."""
    if not isinstance(x, Tensor) or not torch.amp.is_autocast_available(x.device.type):
        return False
    return torch.is_autocast_enabled(x.device.type)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Turns autocast off for x's device; costs little where it is off already."""
    return torch.autocast(x.device.type, enabled=False) if under_autocast(x) else nullcontext()


def to_autocast(x: Tensor) -> Tensor:
    """What autocast makes of an argument of a matrix product."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def _sdpa(q: Tensor, k: Tensor, v: Tensor, seqlens: Tensor | None, scale: float) -> Tensor:
    """The attention of torch itself: float [B, H, T, D]."""
    q, k, v = _own_memory(q), _own_memory(k), _own_memory(v)
    if seqlens is None:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    within, poison = rows_within(seqlens, q.shape[0], q.shape[2], q)
    q, k, v = (x.masked_fill(~within, 0) for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return (out * poison).masked_fill(~within, 0)


def _own_memory(x: Tensor) -> Tensor:
    """x, or a copy if its entries overlap in memory: torch's backward errs on those."""
    if torch.compiler.is_compiling():  # a question about strides would fix the shapes of the graph
        return x
    extent = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return x.contiguous()
            extent = stride * (size - 1) + extent
    return x


@torch.library.custom_op(
    "fastmaze::causal_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? seqlens, Tensor? seed, float dropout_p,"
    " float scale, str precision, str impl) -> (Tensor, Tensor)",
)
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    precision: str,
    impl: str,
) -> tuple[Tensor, Tensor]:
    with without_autocast(q):
        if impl == "triton":
            launcher = triton_module("causal_attention_triton").forward
            out, lse = launcher(q, k, v, seqlens, seed, dropout_p, scale, precision)
            return out, lse
        return blockwise.forward(q, k, v, seqlens, seed, dropout_p, scale)


@_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    precision: str,
    impl: str,
) -> tuple[Tensor, Tensor]:
    B, H, T, D = q.shape
    out = q.new_empty(B, T, H, D).transpose(1, 2)  # [B, H, T, D]
    # Triton's descriptors want rows that begin at multiples of 16 bytes.
    width = -(-T // 4) * 4 if impl == "triton" else T
    return out, q.new_empty(B, H, width, dtype=lse_dtype(q.dtype))[:, :, :T]


@torch.library.custom_op(
    "fastmaze::causal_attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor? seqlens,"
    " Tensor? seed, float dropout_p, float scale, str precision, str impl)"
    " -> (Tensor, Tensor, Tensor)",
)
def _backward(
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
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    with without_autocast(q):
        if impl == "triton":
            grad = grad if grad.stride(-1) == 1 else grad.contiguous()  # as of out.sum()
            launcher = triton_module("causal_attention_triton").backward
            dq, dk, dv = launcher(
                grad, q, k, v, out, lse, seqlens, seed, dropout_p, scale, precision
            )
            return dq, dk, dv
        return blockwise.backward(grad, q, k, v, lse, seqlens, seed, dropout_p, scale)


@_backward.register_fake
def _(
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
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, seqlens, seed, *ctx.options = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, seqlens, seed)


def _gradients(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    dq, dk, dv = _backward(grad, *ctx.saved_tensors, *ctx.options)
    return dq, dk, dv, None, None, None, None, None, None


_forward.register_autograd(_gradients, setup_context=_save)
