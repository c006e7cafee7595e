"""A rollout's memory that does not grow: how often each of a few distinct tokens was seen.

That is all a block can tell apart whose tokens know no position, see `fastmaze.models.histories`. A
step costs the same at any age, nothing is read from a cache of T keys, and sequences that have seen
the same are computed once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmaze.models.histories import MOST_TOKENS, Distinct, distinct, weights_of


class TokenCounts:
    """What B sequences of one age have seen, by distinct token.

    Args:
        batch_size: B.
        max_length: the most steps that will be taken; for the memory of all steps, should tokens
            become too many.

    Attributes:
        counts: how often each sequence saw each, float32 [B, K].
        history: for each step the tokens' numbers, uint8 [B].
        embedded: the distinct tokens, float32 [K, E], in order of appearance.
        tokens: what the encoder makes of them.
    """

    def __init__(self, batch_size: int, max_length: int) -> None:
        self.max_length = max_length
        self.counts = torch.zeros(batch_size, 0)
        self.history: list[Tensor] = []
        self.embedded = torch.zeros(0)
        self.tokens: Any = None
        self._prints = torch.zeros(0, dtype=torch.int64)
        self._sums = torch.zeros(batch_size, dtype=torch.int64)

    def unseen(self, prints: Tensor) -> Tensor | None:
        """Looks for new tokens in the next step.

        Args:
            prints: int64 [B], `fingerprints` of the step's tokens.

        Returns:
            Rows that hold one of each that is new, int64 [new], which have to be made known by
            `add` before `count`; None if they are too many.
        """
        known = (prints[:, None] == self._prints).any(1)
        if bool(known.all()):
            return torch.zeros(0, dtype=torch.int64)
        first: dict[int, int] = {}
        for row in (~known).nonzero()[:, 0].tolist():
            first.setdefault(int(prints[row]), row)
            if len(self._prints) + len(first) > MOST_TOKENS:
                return None
        return torch.tensor(list(first.values()))

    def add(self, prints: Tensor, embedded: Tensor) -> None:
        """Makes tokens known: their `fingerprints`, int64 [new], and float32 [new, E]."""
        self._prints = torch.cat([self._prints, prints])
        self.embedded = torch.cat([self.embedded, embedded]) if self.history else embedded
        new = self.counts.new_zeros(len(self.counts), len(prints))
        self.counts = torch.cat([self.counts, new], 1)

    def count(self, prints: Tensor) -> Distinct:
        """Takes in a step, all of whose tokens are known: int64 [B]; B histories end with it."""
        same = prints[:, None] == self._prints  # [B, K]
        self.counts += same
        ids = same.to(torch.uint8).argmax(1)
        self.history.append(ids.to(torch.uint8))
        self._sums += weights_of(ids)
        return distinct(self._sums, ids, self.counts)
