"""A rollout's memory that does not grow: how often each of a few distinct tokens was seen.

In a block whose tokens know no position, equal tokens have equal keys and values, and attention
over all steps is attention over the distinct ones, each as often as it was seen:

```
softmax over steps of s(t)  =  softmax over tokens k of  s_k + log n_k
```

A corridor shows half a dozen tokens (observation and action before it) however long it is, so that
a step costs the same at any age and nothing is read from a cache of T keys. Exact up to rounding.
Where more than `MOST_TOKENS` turn up, the cache is made from what was counted, and goes on instead.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

MOST_TOKENS: Final = 32
"""Distinct tokens that are counted; with more, a cache of all steps is as fast."""


class TokenCounts:
    """What sequences of one age have seen, by distinct token.

    Args:
        batch_size: B, sequences.
        max_length: the most steps that will be taken; for the cache, should one be needed.

    Attributes:
        queries, keys, values: those of the distinct tokens, float32 [K, H, D], in order of
            appearance.
        counts: how often each sequence saw each, float32 [B, K].
        history: for each step the tokens' numbers, uint8 [B].
    """

    def __init__(self, batch_size: int, max_length: int) -> None:
        self.max_length = max_length
        self.counts = torch.zeros(batch_size, 0)
        self.history: list[Tensor] = []
        self.queries = self.keys = self.values = torch.zeros(0)
        self._prints = torch.zeros(0, dtype=torch.int64)
        self._scores = torch.zeros(0)
        self._factors: Tensor | None = None

    def unseen(self, x: Tensor) -> Tensor | None:
        """Looks at the next step's tokens, float32 [B, F].

        Returns:
            Rows that hold one of each that is new, int64 [new], which have to be made known by
            `add` before the step can be counted by `attend`; None if they are too many.
        """
        self._found = self._fingerprints(x)
        known = (self._found[:, None] == self._prints).any(1)
        if bool(known.all()):
            return torch.zeros(0, dtype=torch.int64)
        first: dict[int, int] = {}
        for row in (~known).nonzero()[:, 0].tolist():
            first.setdefault(int(self._found[row]), row)
            if len(self._prints) + len(first) > MOST_TOKENS:
                return None
        return torch.tensor(list(first.values()))

    def add(self, rows: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Makes tokens known: their rows in the step's batch, and q, k, v float32 [new, H, D]."""
        self._prints = torch.cat([self._prints, self._found[rows]])
        first = not self.history and self.counts.shape[1] == 0
        self.queries, self.keys, self.values = (
            new.clone() if first else torch.cat([old, new])
            for old, new in ((self.queries, q), (self.keys, k), (self.values, v))
        )
        self.counts = torch.cat(
            [self.counts, self.counts.new_zeros(len(self.counts), len(rows))], 1
        )
        # Each token's scores with all, [K, H, K].
        self._scores = torch.einsum("ihd,jhd->ihj", self.queries, self.keys)
        self._scores *= self.keys.shape[-1] ** -0.5

    def attend(self) -> Tensor:
        """Counts the step last shown to `unseen` and attends from it: float32 [B, H, D]."""
        same = self._found[:, None] == self._prints  # [B, K]
        self.counts += same
        ids = same.to(torch.uint8).argmax(1)
        self.history.append(ids.to(torch.uint8))
        scores = self._scores.index_select(0, ids) + self.counts.log()[:, None]  # [B, H, K]
        weights = scores.softmax(-1).transpose(0, 1)  # [H, B, K]
        return (weights @ self.values.transpose(0, 1)).transpose(0, 1)

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Writes what was counted into a cache: float32 [B, H, max_length, D] each."""
        if not self.history:
            return
        ids = torch.stack(self.history, dim=1).long()  # [B, t]
        for cache, table in ((keys, self.keys), (values, self.values)):
            cache[:, :, : ids.shape[1]] = table[ids].transpose(1, 2)

    def _fingerprints(self, x: Tensor) -> Tensor:
        """A number for each token, int64 [B]: equal for equal bits, in whatever row they lie."""
        bits = x.contiguous().view(torch.int32)
        if self._factors is None:
            generator = torch.Generator().manual_seed(0)
            self._factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator)
            self._factors |= 1
        # Whole numbers wrap around and can be summed in any order, unlike floats.
        return (bits * self._factors).sum(1)
