"""Causal attention with dropout in plain torch whose memory grows with T, not with T × T.

```
             keys ->
    queries  ####....        a block of query rows at a time, and for it the keys up to its last
             ########        row: the scores of one block are all that exists at once. The
    backward makes them again from q, k and the log-sum-exp of each row.
```

What a CPU runs where torch's own attention has no answer (dropout by counter, the log-sum-exp),
and a GPU without Triton. The dropout mask is that of `reference.py`, drawn four weights at a time.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from fastmaze.kernels.reference import (
    head_keys,
    keep_threshold,
    lse_dtype,
    philox2x32,
    rows_within,
)

BLOCK_ROWS: Final = 128
"""Query rows of a block: a multiple of the 16 that share draws of the dropout mask."""

_MAX_SCORES: Final = 2**21
"""As many sequences are taken at once as keep a block's scores below this, but at least one."""


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    block_rows: int = BLOCK_ROWS,
) -> tuple[Tensor, Tensor]:
    """Attention over the keys up to a query's own; arguments are those of the reference, checked.

    Returns:
        out: float [B, H, T, D] of q's dtype, in memory [B, T, H, D]; sums are at least float32.
        lse: float32 (float64 for float64) [B, H, T].
    """
    B, H, T, D = q.shape
    sums = lse_dtype(q.dtype)
    out = q.new_empty(B, T, H, D).transpose(1, 2)  # [B, H, T, D]
    lse = q.new_empty(B, H, T, dtype=sums)
    within, poison = rows_within(seqlens, B, T, lse)
    within, keys = within.expand(B, 1, T, 1), _keys(seed, B, H, q.device)
    for b in _sequences(B, H, T, block_rows):
        outside = ~within[b]
        q_, k_, v_ = (x[b].to(sums).masked_fill(outside, 0) for x in (q, k, v))
        q_.mul_(scale)
        for rows in _blocks(T, block_rows):
            weights = _scores(q_, k_, rows)  # [b, H, R, C]
            top = weights.amax(-1, keepdim=True)
            weights.sub_(top).exp_()
            total = weights.sum(-1, keepdim=True)  # [b, H, R, 1]
            lse[b, :, rows] = (total.log() + top)[..., 0]
            if keys is not None:
                weights.mul_(_keep(keys[b], rows, dropout_p))
                total.mul_(keep_threshold(dropout_p) / 65536)
            out[b, :, rows] = weights @ v_[:, :, : rows.stop] / total
    out.mul_(poison).masked_fill_(~within, 0)
    lse.mul_(poison[..., 0]).masked_fill_(~within[..., 0], -torch.inf)
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
    block_rows: int = BLOCK_ROWS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v from that of `out`: each of its input's shape, dtype and layout."""
    B, H, T, _ = q.shape
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    within, _ = rows_within(seqlens, B, T, lse)
    within, keys = within.expand(B, 1, T, 1), _keys(seed, B, H, q.device)
    for b in _sequences(B, H, T, block_rows):
        outside = ~within[b]
        q_, k_, v_, g_, o_ = (x[b].to(lse).masked_fill(outside, 0) for x in (q, k, v, grad, out))
        q_.mul_(scale)
        # A row past the length has lse -inf; with +inf all its weights become 0.
        lse_ = lse[b, ..., None].masked_fill(outside, torch.inf)
        mean = (g_ * o_).sum(-1, keepdim=True)  # [b, H, T, 1], of d weights, weighted
        if keys is not None:
            g_.mul_(65536 / keep_threshold(dropout_p))  # kept weights are multiplied by this
        dq_, dk_, dv_ = torch.zeros_like(q_), torch.zeros_like(k_), torch.zeros_like(v_)
        for rows in _blocks(T, block_rows):
            seen, g = slice(rows.stop), g_[:, :, rows]
            weights = _scores(q_, k_, rows).sub_(lse_[:, :, rows]).exp_()  # [b, H, R, C]
            d_weights = g @ v_[:, :, seen].mT
            kept = weights
            if keys is not None:
                keep = _keep(keys[b], rows, dropout_p)
                d_weights.mul_(keep)
                kept = weights * keep
            dv_[:, :, seen] += kept.mT @ g
            d_weights.sub_(mean[:, :, rows]).mul_(weights)
            dk_[:, :, seen] += d_weights.mT @ q_[:, :, rows]
            dq_[:, :, rows] = d_weights @ k_[:, :, seen]
        dq[b] = dq_.mul_(scale).masked_fill_(outside, 0)
        dk[b], dv[b] = dk_.masked_fill_(outside, 0), dv_.masked_fill_(outside, 0)
    return dq, dk, dv


def _sequences(B: int, H: int, T: int, block_rows: int) -> list[slice]:
    """The batch in slices of as many sequences as are taken at once."""
    size = max(1, _MAX_SCORES // (H * T * block_rows))
    return [slice(b, min(b + size, B)) for b in range(0, B, size)]


def _blocks(T: int, block_rows: int) -> list[slice]:
    return [slice(i, min(i + block_rows, T)) for i in range(0, T, block_rows)]


def _scores(q: Tensor, k: Tensor, rows: slice) -> Tensor:
    """Scores of a block's rows with every key up to its last row: [b, H, R, C]."""
    scores = q[:, :, rows] @ k[:, :, : rows.stop].mT
    R = rows.stop - rows.start
    above = torch.ones(R, R, dtype=torch.bool, device=q.device).triu_(1)
    scores[..., rows.start :].masked_fill_(above, -torch.inf)
    return scores


def _keys(seed: Tensor | None, B: int, H: int, device: torch.device) -> Tensor | None:
    """The mask's key of each head, int64 [B, H, 1, 1], or None without dropout."""
    return None if seed is None else head_keys(seed, B, H, device)[..., None, None]


def _keep(keys: Tensor, rows: slice, dropout_p: float) -> Tensor:
    """The rows of `reference.dropout_keep_mask` that a block needs: bool [b, H, R, C].

    Args:
        keys: int64 [b, H, 1, 1].
        rows: the block; begins at a multiple of 16.
        dropout_p: chance of dropping a weight.
    """
    R, C = rows.stop - rows.start, rows.stop
    threshold = keep_threshold(dropout_p)
    i16, j16 = -(-R // 16), -(-C // 16)
    i = torch.arange(i16 * 8, device=keys.device)[:, None] + rows.start // 2  # row groups
    j = torch.arange(j16 * 8, device=keys.device)
    keep = torch.empty(*keys.shape[:2], i16, 2, 8, j16, 2, 8, dtype=torch.bool, device=keys.device)
    for n, words in enumerate(philox2x32(i, j, keys, rounds=7)):
        words = words.view(*keys.shape[:2], i16, 8, j16, 8)
        keep[:, :, :, n, :, :, 0] = (words & 0xFFFF) < threshold
        keep[:, :, :, n, :, :, 1] = words < threshold << 16
    return keep.flatten(2, 4).flatten(3)[..., :R, :C]  # [b, H, R, C]
