"""`decode_attention`: one new token per sequence over a key-value cache, as custom operators.

Two operators, as torch must know of each whether it writes: `fastmaze::decode_attention` reads the
caches, `fastmaze::decode_attention_append` puts a key and a value into them first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fastmaze.kernels import reference
from fastmaze.kernels.checks import check_decode_attention
from fastmaze.kernels.dispatch import AttentionImpl, resolve_decode_impl, triton_module
from fastmaze.kernels.ops import under_autocast, without_autocast


def decode_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor | int,
    *,
    k: Tensor | None = None,
    v: Tensor | None = None,
    scale: float | None = None,
    num_splits: int | None = None,
    impl: AttentionImpl = "auto",
) -> Tensor:
    """Attention of one query per sequence over the keys that its cache holds, without gradients.

    Args:
        q: float16, bfloat16, float32 or float64 [N, H, D], of any strides with a last of 1.
        k_cache: the same dtype, [N, H, T_max, D], of any strides with a last of 1; slots past the
            length are never used, be they NaN. Written in place where `k` is given.
        v_cache: the same dtype and shape; written in place where `v` is given.
        lengths: tokens that each cache holds before the call: int32 or int64 [N] on q's device, or
            one int for all. Never written.
        k: [N, H, D], the new token's key: put at position lengths[n], then attended to as well.
        v: [N, H, D], its value; given if and only if `k` is.
        scale: factor of the scores, finite and above 0; D**-0.5 if None.
        num_splits: parts of a cache that Triton works on at once; chosen by size if None.
        impl: "auto" takes Triton where it runs, else torch's own attention.

    Returns:
        [N, H, D] of q's dtype, 0 where there is no key at all. Under autocast q, k and v are cast
        to the caches' dtype first. Where a length is out of range (with `k`: leaves no room) and
        cannot be checked without waiting for the GPU, that sequence is NaN and nothing is written.

    Raises:
        TypeError: an argument of a wrong type or dtype.
        ValueError: an argument of a wrong shape, device, stride or value.
        ImportError: `impl="triton"` without Triton.
    """
    if under_autocast(q) and isinstance(k_cache, Tensor):
        q = q.to(k_cache.dtype)
        k, v = (x.to(k_cache.dtype) if isinstance(x, Tensor) else x for x in (k, v))
    check_decode_attention(
        q, k_cache, v_cache, lengths, k=k, v=v, scale=scale, num_splits=num_splits
    )
    chosen = resolve_decode_impl(q, impl=impl)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    each, all_ = (lengths.contiguous(), 0) if isinstance(lengths, Tensor) else (None, lengths)
    held = (q, k_cache, v_cache, each, all_, scale, num_splits, chosen)
    if chosen != "triton" and not torch.compiler.is_compiling():
        # Calling the operator would add a fifth to the time of a short cache.
        out: Tensor = _run(*held, k, v)
    elif k is None:
        out = torch.ops.fastmaze.decode_attention(*held)
    else:
        out = torch.ops.fastmaze.decode_attention_append(*held, k, v)
    return out


def _run(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor | None,
    length: int,
    scale: float,
    num_splits: int | None,
    impl: str,
    k: Tensor | None = None,
    v: Tensor | None = None,
) -> Tensor:
    held = length if lengths is None else lengths
    with without_autocast(q):
        if impl == "reference":
            out = reference.decode_attention(q, k_cache, v_cache, held, k=k, v=v, scale=scale)
        elif impl == "sdpa":
            out = _sdpa(q, k_cache, v_cache, held, k, v, scale)
        else:
            decode = triton_module("decode_attention_triton").decode
            out = decode(q, k_cache, v_cache, held, k, v, scale, num_splits)
            if k is not None:  # autograd does not see what a kernel writes
                torch.autograd.graph.increment_version(k_cache)
                torch.autograd.graph.increment_version(v_cache)
        return out.contiguous()


def _shape_of_result(q: Tensor, *_: object) -> Tensor:
    return q.new_empty(q.shape)


def _sdpa(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor | int,
    k: Tensor | None,
    v: Tensor | None,
    scale: float,
) -> Tensor:
    """What torch has to offer, over the slots in use: float [N, H, D]."""
    longest = T_max = k_cache.shape[2]
    if isinstance(lengths, Tensor) and lengths.device.type == "cpu":
        shortest, longest = (int(end) for end in torch.aminmax(lengths))
        if shortest == longest and 0 <= longest < T_max:
            lengths = longest  # a rollout's sequences are mostly of one age
    if isinstance(lengths, int):
        if k is not None and v is not None:
            k_cache[:, :, lengths], v_cache[:, :, lengths] = k, v
            lengths += 1
        if lengths == 0:
            return torch.zeros_like(q)
        keys, values = k_cache[:, :, :lengths], v_cache[:, :, :lengths]
        return scaled_dot_product_attention(q[:, :, None], keys, values, scale=scale)[:, :, 0]
    bad = lengths < 0
    if k is not None and v is not None:
        reference.append(k_cache, v_cache, lengths, k, v)
        lengths, longest = lengths + 1, longest + 1
    bad = bad | (lengths > T_max)
    used = slice(min(max(longest, 1), T_max))
    held = torch.arange(used.stop, device=q.device) < lengths[:, None]  # [N, used]
    held = held[:, None, :, None]
    keys, values = (x[:, :, used].masked_fill(~held, 0) for x in (k_cache, v_cache))
    out = scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=held.mT, scale=scale)
    out = out[:, :, 0].masked_fill((lengths == 0)[:, None, None], 0)
    return out.masked_fill(bad[:, None, None], torch.nan)


# Defined piece by piece, as an operator that writes and was made by `torch.library.custom_op` takes
# longer to call than a small cache takes to read; there are no gradients to tell it of.
_OPERATORS = {
    "fastmaze::decode_attention": (
        "(Tensor q, Tensor k_cache, Tensor v_cache, Tensor? lengths, SymInt length,"
        " float scale, int? num_splits, str impl) -> Tensor"
    ),
    "fastmaze::decode_attention_append": (
        "(Tensor q, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor? lengths, SymInt length,"
        " float scale, int? num_splits, str impl, Tensor k, Tensor v) -> Tensor"
    ),
}
for _name, _schema in _OPERATORS.items():
    torch.library.define(_name, _schema)
    torch.library.impl(_name, "default", _run)
    torch.library.register_fake(_name, _shape_of_result)
