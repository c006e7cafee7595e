"""Attention as the Q-network uses it: what a rollout's step adds to `fastmaze.kernels`."""

from __future__ import annotations

from typing import Final, get_args

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fastmaze.kernels import AttentionImpl, decode_attention
from fastmaze.kernels.dispatch import resolve_impl

__all__ = ["ATTENTION_IMPLS", "AttentionImpl", "attend_to_cache", "check_attention_impl"]

ATTENTION_IMPLS: Final[tuple[str, ...]] = get_args(AttentionImpl)


def check_attention_impl(
    impl: AttentionImpl, head_dim: int, device: str, dropout_p: float = 0.0
) -> None:
    """Refuses what cannot run: before anything is made, rather than in the first forward pass.

    Raises:
        ValueError, TypeError, ImportError: so it is.
    """
    resolve_impl(torch.empty(1, 1, 1, head_dim, device=device), impl=impl, dropout_p=dropout_p)


def attend_to_cache(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    length: int | Tensor,
    *,
    impl: AttentionImpl = "auto",
    dropout_p: float = 0.0,
) -> Tensor:
    """Adds one step to the cache and attends from it to itself and all before it; no gradients.

    The published runs collect episodes with dropout on. The kernels decode without, so that
    dropout takes torch's own attention here, whatever `impl` says.

    Args:
        q: float [B, H, D], the step's query.
        k: float [B, H, D], its key.
        v: float [B, H, D], its value.
        keys: float [B, H, max_length, D], written at `length`.
        values: float [B, H, max_length, D], written at `length`.
        length: steps that the cache holds already: one int, or int64 [B] on the device, which is
            then not waited for.
        impl: which kernel to use.
        dropout_p: chance of dropping an attention weight.

    Returns:
        float [B, H, D].
    """
    if dropout_p == 0:
        return decode_attention(q, keys, values, length, k=k, v=v, impl=impl)
    if isinstance(length, Tensor):
        return _drop_among_all(q, k, v, keys, values, length, dropout_p)
    keys[:, :, length], values[:, :, length] = k, v
    held = slice(length + 1)
    y = scaled_dot_product_attention(
        q[:, :, None], keys[:, :, held], values[:, :, held], dropout_p=dropout_p
    )
    return y[:, :, 0]


def _drop_among_all(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, length: Tensor, dropout_p: float
) -> Tensor:
    """As `attend_to_cache` with dropout, over every slot of the cache: shapes know no length."""
    slots = torch.arange(keys.shape[2], device=q.device)
    newest = (slots == length[:, None])[:, None, :, None]  # [B, 1, max_length, 1]
    held = (slots <= length[:, None])[:, None, :, None]
    for cache, new in ((keys, k), (values, v)):
        cache.copy_(torch.where(newest, new[:, :, None], cache))
    # What lies past the end may be anything, also NaN, which no mask of the scores takes away.
    y = scaled_dot_product_attention(
        q[:, :, None],
        keys.masked_fill(~held, 0),
        values.masked_fill(~held, 0),
        attn_mask=held.mT,
        dropout_p=dropout_p,
    )
    return y[:, :, 0]
