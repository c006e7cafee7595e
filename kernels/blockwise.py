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

import math
from typing import Final

import torch
from torch import Tensor

from fastmaze.kernels.reference import head_keys, keep_threshold, lse_dtype, rows_within

BLOCK_ROWS: Final = 128
"""Query rows of a block: a multiple of the 16 that share draws of the dropout mask."""

_MAX_SCORES: Final = 2**18
"""As many sequences are taken at once as keep a block's scores below this, but at least one: a
block and its dropout mask then stay in a CPU's cache from one operation to the next."""

_WORD: Final = 0xFFFFFFFF
_MULTIPLIER: Final = 0xD256D193
_KEY_STEP: Final = 0x9E3779B9


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
    out = q.new_empty(B, T, H, D).transpose(1, 2)  # [B, H, T, D]
    lse = q.new_empty(B, H, T, dtype=lse_dtype(q.dtype))
    within, poison = rows_within(seqlens, B, T, lse)
    keys = None if seed is None else head_keys(seed, B, H, q.device)
    for b in _sequences(B, H, T, block_rows):
        outside = None if seqlens is None else ~within[b]
        q_, k_, v_ = (_heads(x[b], lse.dtype, outside) for x in (q, k, v))  # [N, T, D]
        for rows in _blocks(T, block_rows):
            weights = _scores(q_, k_, rows, scale)  # [N, R, C]
            R = weights.shape[1]
            above = weights.new_full((R, R), -torch.inf).triu_(1)
            weights[..., rows.start :].tril_().add_(above)
            top = weights.amax(-1, keepdim=True)  # [N, R, 1]
            _exponentiate(weights.sub_(top), rows)
            total = weights.sum(-1, keepdim=True)
            lse[b, :, rows] = (total.log() + top).view(-1, H, R)
            if keys is not None:
                weights.mul_(_keep(keys[b], rows, dropout_p))
                total.mul_(keep_threshold(dropout_p) / 65536)
            out[b, :, rows] = weights.bmm(v_[:, : rows.stop]).div_(total).view(-1, H, R, D)
    if seqlens is not None:
        out.mul_(poison).masked_fill_(~within, 0)
        lse.mul_(poison[..., 0]).masked_fill_(~within[..., 0], -torch.inf)
    return out, lse


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    block_rows: int = BLOCK_ROWS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v from that of the output: each of its input's shape, dtype and layout."""
    B, H, T, D = q.shape
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    within, _ = rows_within(seqlens, B, T, lse)
    keys = None if seed is None else head_keys(seed, B, H, q.device)
    for b in _sequences(B, H, T, block_rows):
        outside = None if seqlens is None else ~within[b]
        q_, k_, v_, g_ = (_heads(x[b], lse.dtype, outside) for x in (q, k, v, grad))
        lse_ = lse[b].reshape(-1, T, 1)
        if keys is not None:
            g_ = g_ * (65536 / keep_threshold(dropout_p))  # kept weights are multiplied by this
        dq_, dk_, dv_ = (x.new_zeros(x.shape) for x in (q_, k_, v_))
        for rows in _blocks(T, block_rows):
            seen, g = slice(rows.stop), g_[:, rows]
            weights = _scores(q_, k_, rows, scale).sub_(lse_[:, rows])  # [N, R, C]
            _exponentiate(weights, rows)
            d_weights = g.bmm(v_[:, seen].mT)
            keep = None if keys is None else _keep(keys[b], rows, dropout_p)
            if keep is not None:
                d_weights.mul_(keep)
            # Less their weighted mean. It is also the sum of grad * out, but that rounds otherwise:
            # the first rows' small gradients would be lost in the difference.
            mean = d_weights.mul_(weights).sum(-1, keepdim=True)
            d_weights.addcmul_(weights, mean, value=-1)
            if keep is not None:
                weights.mul_(keep)
            dv_[:, seen].baddbmm_(weights.mT, g)
            dk_[:, seen].baddbmm_(d_weights.mT, q_[:, rows], alpha=scale)
            dq_[:, rows] = d_weights.bmm(k_[:, seen]).mul_(scale)
        for whole, part in ((dq, dq_), (dk, dk_), (dv, dv_)):
            part = part.view(-1, H, T, D)
            whole[b] = part if outside is None else part.masked_fill_(outside, 0)
    return dq, dk, dv


def _sequences(B: int, H: int, T: int, block_rows: int) -> list[slice]:
    """The batch in slices of as many sequences as are taken at once."""
    size = max(1, _MAX_SCORES // (H * T * min(T, block_rows)))
    return [slice(b, min(b + size, B)) for b in range(0, B, size)]


def _blocks(T: int, block_rows: int) -> list[slice]:
    return [slice(i, min(i + block_rows, T)) for i in range(0, T, block_rows)]


def _heads(x: Tensor, dtype: torch.dtype, outside: Tensor | None) -> Tensor:
    """Heads of all sequences in a row, [b, H, T, D] to [b H, T, D], with 0 past the lengths."""
    x = x.to(dtype)
    return (x if outside is None else x.masked_fill(outside, 0)).flatten(0, 1)


def _scores(q: Tensor, k: Tensor, rows: slice, scale: float) -> Tensor:
    """Scores of a block's rows with every key up to its last row: [N, R, C]."""
    q, k = q[:, rows], k[:, : rows.stop]
    scores = q.new_empty(len(q), q.shape[1], k.shape[1])
    return torch.baddbmm(scores, q, k.mT, beta=0, alpha=scale, out=scores)


def _exponentiate(x: Tensor, rows: slice) -> None:
    """Makes weights of a block's scores less their rows' maximum or log-sum-exp, in place.

    What lies above the diagonal becomes 0. Bounded first, as an exponential that falls out of
    range takes a CPU a hundred times as long; the bound is too small to change a sum.
    """
    least = math.log(torch.finfo(x.dtype).tiny) + 1
    x.clamp_(least, 1).exp_()
    x[..., rows.start :].tril_()


def _keep(keys: Tensor, rows: slice, dropout_p: float) -> Tensor:
    """The rows of `reference.dropout_keep_mask` that a block needs: uint8 [b H, R, C], 1 to keep.

    Args:
        keys: int64 [b, H].
        rows: the block; begins at a multiple of 16.
        dropout_p: chance of dropping a weight.
    """
    R, C = rows.stop - rows.start, rows.stop
    threshold = keep_threshold(dropout_p)
    i16, j16, N = -(-R // 16), -(-C // 16), keys.numel()
    i = torch.arange(i16 * 8, device=keys.device)[:, None] + rows.start // 2  # row groups
    j = torch.arange(j16 * 8, device=keys.device)
    # Eight columns' bytes at a time, each 0 or 1, are moved to their place as one integer.
    keep = torch.empty(N, i16, 2, 8, j16, 2, dtype=torch.int64, device=keys.device)
    for n, words in enumerate(_draw(i, j, keys.view(N, 1, 1))):
        for m, kept in enumerate(((words & 0xFFFF) < threshold, words < threshold << 16)):
            keep[:, :, n, :, :, m] = kept.view(torch.int64).view(N, i16, 8, j16)
    return keep.view(torch.uint8).view(N, i16 * 16, j16 * 16)[:, :R, :C]


def _draw(c0: Tensor, c1: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.philox2x32` of seven rounds, in place: two words, int64 [N, I, J] of 32 bits.

    Args:
        c0: int64 [I, 1].
        c1: int64 [J].
        key: int64 [N, 1, 1].
    """
    # Integers wrap around, so a product of 64 bits is whole, but for the sign's bits in its upper
    # half, which are masked out.
    low = c0 * _MULTIPLIER
    c0 = (low >> 32 ^ c1) ^ key
    product, spare = torch.empty_like(c0), torch.empty_like(c0)
    for _ in range(6):
        key = key + _KEY_STEP & _WORD
        torch.mul(c0, _MULTIPLIER, out=product)
        torch.bitwise_right_shift(product, 32, out=c0)
        c0.bitwise_xor_(low).bitwise_xor_(key).bitwise_and_(_WORD)
        low, product, spare = product, spare, product
    return c0, low.bitwise_and_(_WORD)
