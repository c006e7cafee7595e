"""The distinct histories of a batch: all that a block which knows no position can tell apart.

In a block whose tokens know no position, equal tokens have equal keys and values, and attention
over all steps is attention over the distinct ones, each as often as it was seen:

```
softmax over steps of s(t)  =  softmax over tokens k of  s_k + log n_k
```

So what it makes of a history depends on the newest token and on how often each was seen, and on
nothing else. A corridor shows half a dozen tokens (observation and action before it) however long
it is, and episodes that walked alike share their histories. Each is computed once:

```
episodes   c r r r     tokens  c r l       histories   newest   counts c r l
           c r l r                          0           c              1 0 0
           c r r l                          1           r              1 1 0
                                            2           r              1 2 0
where      0 1 2 3                          3           r              1 3 0
           0 1 4 5                          4           l              1 1 1
           0 1 2 6                          5           r              1 2 1
                                            6           l              1 2 1
```

Exact up to rounding; without a matrix of T x T, and with a cost that does not know the age of an
episode. Where more than `MOST_TOKENS` tokens turn up, nothing is gained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

MOST_TOKENS: Final = 32
"""Distinct tokens that are counted; with more, attention over all steps is as fast."""


class Distinct(NamedTuple):
    """R distinct histories of K distinct tokens."""

    newest: Tensor
    """int64 [R]: number of each history's newest token."""
    counts: Tensor
    """float32 [R, K]: how often each history holds each token."""
    where: Tensor
    """int64: which history each of those has that were asked about."""

    @property
    def rows(self) -> int:
        """R."""
        return len(self.newest)


class DistinctHistories(Protocol):
    """R distinct histories, as an encoder tells them apart."""

    @property
    def rows(self) -> int:
        """R."""

    @property
    def where(self) -> Tensor:
        """int64: which history each of those has that were asked about."""


@dataclass(frozen=True, slots=True)
class Histories:
    """The distinct histories in B sequences of T steps."""

    tokens: Tensor
    """int64 [K]: a step, of B * T in a row, that holds each distinct token."""
    distinct: DistinctHistories
    """Those that the steps end: `where` is int64 [B * T]."""


def find_histories(prints: Tensor) -> Histories | None:
    """The distinct histories of whole sequences; None where their tokens are too many.

    Args:
        prints: int64 [B, T], equal where tokens are: `fingerprints`.
    """
    kinds, ids = torch.unique(prints, return_inverse=True)  # [K], [B, T]
    K = len(kinds)
    if K > MOST_TOKENS:
        return None
    counts = torch.nn.functional.one_hot(ids, K).to(torch.int32).cumsum(1, dtype=torch.int32)
    sums = weights_of(ids).cumsum(1)
    found = distinct(sums.flatten(), ids.flatten(), counts.flatten(0, 1))
    return Histories(_any_place(ids, K), found)


def weights_of(ids: Tensor) -> Tensor:
    """A random number for each token's number, int64 as `ids`.

    Summed over a history, wrapped around, they are a number for what it holds.
    """
    return random_numbers(2 * MOST_TOKENS)[:MOST_TOKENS].to(ids.device)[ids]


def distinct(sums: Tensor, ids: Tensor, counts: Tensor) -> Distinct:
    """The distinct ones among N histories.

    Args:
        sums: int64 [N], `weights_of` their tokens, summed.
        ids: int64 [N], numbers of their newest tokens.
        counts: [N, K], how often each holds each token.
    """
    keys = sums + random_numbers(2 * MOST_TOKENS)[MOST_TOKENS:].to(ids.device)[ids]
    numbers, where = torch.unique(keys, return_inverse=True)
    one = _any_place(where, len(numbers))
    rows, newest = counts.index_select(0, one), ids.index_select(0, one)
    same = torch.equal(rows.index_select(0, where), counts)
    if not (same and torch.equal(newest.index_select(0, where), ids)):
        # Two share a number, which comes about once in a billion batches: all are kept apart.
        rows, newest, where = counts, ids, torch.arange(len(ids), device=ids.device)
    return Distinct(newest, rows.to(torch.float32), where)


def fingerprints(x: Tensor) -> Tensor:
    """A number for each row of float32 [..., F], int64 [...]: equal for equal bits."""
    bits = x.contiguous().view(torch.int32)
    bits = bits ^ bits >> 16  # the low bits of small whole numbers are all zero
    # Whole numbers wrap around and can be summed in any order, unlike floats.
    factors = random_numbers(bits.shape[-1]).to(x.device)
    prints: Tensor = (bits * factors).sum(-1)
    return prints


def attend_to_counts(scores: Tensor, values: Tensor, newest: Tensor, counts: Tensor) -> Tensor:
    """Attention of histories, float32 [R, H, D].

    Args:
        scores: float32 [K, H, K], each token's scaled scores with all.
        values: float32 [K, H, D].
        newest: int64 [R], as in `Distinct`.
        counts: float32 [R, K], as in `Distinct`.
    """
    seen = scores.index_select(0, newest) + counts.log()[:, None]  # [R, H, K]
    weights = seen.softmax(-1).transpose(0, 1)  # [H, R, K]
    return weights.matmul(values.transpose(0, 1)).transpose(0, 1)


def token_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Each token's scaled scores with all: float32 [K, H, D] twice to [K, H, K]."""
    scores: Tensor = torch.einsum("ihd,jhd->ihj", queries, keys) * keys.shape[-1] ** -0.5
    return scores


def _any_place(numbers: Tensor, count: int) -> Tensor:
    """For each of 0 to count - 1 a place, counted in a row, where it stands: int64 [count]."""
    places = torch.arange(numbers.numel(), device=numbers.device)
    return places.new_empty(count).scatter_(0, numbers.flatten(), places)


@cache
def random_numbers(count: int) -> Tensor:
    """Odd ones, always the same: int64 [count]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-(2**62), 2**62, (count,), generator=generator) | 1
