"""Attention in plain torch, one readable line after another: what every kernel here must equal.

```
query    key 0 1 2 3      dropout takes weights out of this triangle by counter:
    0        1 . . .      whether (b, h, i, j) stays is a function of the seed and these four
    1        1 1 . .      numbers alone, so that any kernel, whatever its tiles, and its backward
    2        1 1 1 .      find the same mask without storing it.
    3        1 1 1 1
```

Everything here is differentiable by autograd, works in any float dtype (the tests call it in
float64) and holds matrices of T × T: it is meant to be compared with, not to be fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIER = 0xD256D193
_KEY_STEP = 0x9E3779B9


def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seqlens: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Softmax attention over the keys up to and including a query's own position.

    Args:
        q: float [B, H, T, D].
        k: float [B, H, T, D].
        v: float [B, H, T, D].
        seqlens: int32 or int64 [B], tokens of each sequence; nothing past them matters.
        dropout_p: chance of dropping an attention weight.
        seed: int64 of one element; needed where `dropout_p` > 0.
        scale: factor of the scores, D**-0.5 if None.

    Returns:
        out: float [B, H, T, D], 0 in rows past the length.
        lse: float32 (float64 for float64) [B, H, T], the logarithm of the sum of a row's
            exponentials before dropout, -inf past the length. Without gradient.
        A sequence whose length is not in [0, T] is NaN, and so are its gradients.
    """
    B, H, T, D = q.shape
    within, poison = rows_within(seqlens, B, T, q)
    # A row within the length sees only keys within it, so zeros may stand for what lies past it.
    q, k, v = (x.masked_fill(~within, 0) for x in (q, k, v))
    scores = q @ k.mT * (D**-0.5 if scale is None else scale)  # [B, H, T, T]
    above = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(above, -torch.inf)
    weights = scores.softmax(-1)
    lse = scores.detach().to(lse_dtype(q.dtype)).logsumexp(-1)  # [B, H, T]
    if dropout_p > 0:
        if seed is None:
            raise ValueError("seed: expected a tensor where dropout_p > 0, got None")
        keep = dropout_keep_mask(seed, B, H, T, dropout_p, q.device)
        weights = weights.masked_fill(~keep, 0) * (65536 / keep_threshold(dropout_p))
    out = (weights @ v * poison).masked_fill(~within, 0)
    lse = (lse * poison[..., 0]).masked_fill(~within[..., 0], -torch.inf)
    return out, lse


def decode_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor | int,
    *,
    k: Tensor | None = None,
    v: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention of one query per sequence over what its cache holds.

    Args:
        q: float [N, H, D].
        k_cache: float [N, H, T_max, D]; written in place where `k` is given.
        v_cache: float [N, H, T_max, D]; written in place where `v` is given.
        lengths: tokens that each cache holds before the call, int32 or int64 [N] or one int.
        k: float [N, H, D], the key to be put at position lengths[n] and attended to.
        v: float [N, H, D], its value.
        scale: factor of the scores, D**-0.5 if None.

    Returns:
        float [N, H, D]; 0 where there is no key at all. A sequence whose length is negative or
        leaves no room is NaN, and its cache stays as it was.
    """
    N, _, T_max, D = k_cache.shape
    lengths = torch.as_tensor(lengths, device=q.device).expand(N)
    counts = lengths + (k is not None)  # keys to attend to
    bad = (lengths < 0) | (counts > T_max)
    if k is not None and v is not None:
        append(k_cache, v_cache, lengths, k, v)
    held = torch.arange(T_max, device=q.device) < counts[:, None]  # [N, T_max]
    held = held[:, None, :, None]
    keys, values = k_cache.masked_fill(~held, 0), v_cache.masked_fill(~held, 0)
    scores = keys @ q[..., None] * (D**-0.5 if scale is None else scale)  # [N, H, T_max, 1]
    weights = scores.masked_fill(~held, -torch.inf).softmax(-2)
    out = (weights.mT @ values)[:, :, 0]  # [N, H, D]
    out = out.masked_fill((counts == 0)[:, None, None], 0)
    return out.masked_fill(bad[:, None, None], torch.nan)


def append(k_cache: Tensor, v_cache: Tensor, lengths: Tensor, k: Tensor, v: Tensor) -> None:
    """Writes k and v, [N, H, D], into caches [N, H, T_max, D] at `lengths`, where there is room."""
    every = torch.arange(len(lengths), device=lengths.device)
    no_room = ((lengths < 0) | (lengths >= k_cache.shape[2]))[:, None, None]
    place = lengths.clamp(0, k_cache.shape[2] - 1)
    for cache, new in ((k_cache, k), (v_cache, v)):
        cache[every, :, place] = torch.where(no_room, cache[every, :, place], new)


def dropout_keep_mask(
    seed: Tensor | int,
    batch: int,
    heads: int,
    length: int,
    dropout_p: float,
    device: torch.device | str | None = None,
) -> Tensor:
    """Which attention weights stay: bool [B, H, T, T] over (batch, head, query, key).

    One draw of two words serves four weights, the rows i and i + 8 by the columns j and j + 8 of
    each 16 by 16: matrix instructions leave just these in one thread, in a tile and in its
    transpose. A weight stays where its 16 bits are below `keep_threshold`.

    Args:
        seed: int64 of one element.
        batch: B.
        heads: H.
        length: T.
        dropout_p: chance of dropping a weight, in [0, 1).
        device: where the mask is made.
    """
    i = torch.arange(length, device=device)[:, None]
    j = torch.arange(length, device=device)
    key = head_keys(seed, batch, heads, device)[..., None, None]  # [B, H, 1, 1]
    even, odd = philox2x32(8 * (i // 16) + i % 8, 8 * (j // 16) + j % 8, key, rounds=7)
    word = torch.where(i // 8 % 2 == 0, even, odd)  # [B, H, T, T]
    value = word >> (16 * (j // 8 % 2)) & 0xFFFF
    return value < keep_threshold(dropout_p)


def head_keys(
    seed: Tensor | int, batch: int, heads: int, device: torch.device | str | None = None
) -> Tensor:
    """The Philox key of each head of each sequence: int64 [B, H] of 32 bits."""
    seed = torch.as_tensor(seed, dtype=torch.int64, device=device).reshape(())
    head = torch.arange(batch * heads, device=device)
    return philox2x32(seed & _WORD, seed >> 32 & _WORD, head, rounds=10)[0].view(batch, heads)


def keep_threshold(dropout_p: float) -> int:
    """How many of the 65,536 values of 16 bits keep a weight: in [1, 65535].

    The keep probability really used is this over 65,536, at most 2^-17 from 1 - dropout_p where
    neither bound is met; kept weights are divided by it.
    """
    return min(max(round((1 - dropout_p) * 65536), 1), 65535)


def philox2x32(c0: Tensor, c1: Tensor, key: Tensor, *, rounds: int) -> tuple[Tensor, Tensor]:
    """Philox2x32 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).

    Args:
        c0: int64 of 32 bits, first word of the counter.
        c1: int64 of 32 bits, second word; broadcast against `c0` and `key`.
        key: int64 of 32 bits.
        rounds: 10 as published, 7 the fewest that pass every test there.

    Returns:
        Two random words, int64 of 32 bits each.
    """
    for _ in range(rounds):
        # The product has 64 bits and int64 holds 63: multiply by M - 2^32, which fits, and add
        # what is missing, 2^32 times c0, to the upper half.
        product = c0 * (_MULTIPLIER - 2**32)
        c0, c1 = (product >> 32) + c0 ^ key ^ c1, product & _WORD
        key = key + _KEY_STEP & _WORD
    return c0, c1


def rows_within(
    seqlens: Tensor | None, batch: int, length: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Which rows belong to the sequences, and what to multiply each sequence by.

    Returns:
        within: bool [B or 1, 1, T or 1, 1]; all true for a length that is out of range.
        poison: [B or 1, 1, 1, 1] of `like`'s dtype; NaN for a length out of range, else 1. A
            product carries the NaN into the gradients too.
    """
    if seqlens is None:
        one = torch.ones(1, 1, 1, 1, dtype=like.dtype, device=like.device)
        return one.bool(), one
    lengths = seqlens.view(batch, 1, 1, 1)
    bad = (lengths < 0) | (lengths > length)
    within = (torch.arange(length, device=like.device)[:, None] < lengths) | bad
    poison = torch.ones(batch, 1, 1, 1, dtype=like.dtype, device=like.device)
    return within, poison.masked_fill(bad, torch.nan)


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the log-sum-exp, and of every sum: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
