"""A rollout's memory that does not grow: how often each of a few distinct tokens was seen.

That is all a block whose tokens know no position can tell apart, see `fastmaze.models.histories`. A
step costs the same at any age, and nothing is read from a cache of T keys. Where more than
`MOST_TOKENS` turn up, the cache is made from what was counted, and goes on instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastmaze.models.histories import MOST_TOKENS, attend_to_counts, fingerprints, token_scores


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

    def unseen(self, x: Tensor) -> Tensor | None:
        """Looks at the next step's tokens, float32 [B, F].

        Returns:
            Rows that hold one of each that is new, int64 [new], which have to be made known by
            `add` before the step can be counted by `attend`; None if they are too many.
        """
        self._found = fingerprints(x)
        self._same = self._found[:, None] == self._prints  # [B, K]
        known = self._same.any(1)
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
        self._same = self._found[:, None] == self._prints
        self.queries, self.keys, self.values = (
            torch.cat([old, new]) if len(old) else new.clone()
            for old, new in ((self.queries, q), (self.keys, k), (self.values, v))
        )
        self.counts = torch.cat(
            [self.counts, self.counts.new_zeros(len(self.counts), len(rows))], 1
        )
        self._scores = token_scores(self.queries, self.keys)  # [K, H, K]

    def attend(self) -> Tensor:
        """Counts the step last shown to `unseen` and attends from it: float32 [B, H, D]."""
        self.counts += self._same
        ids = self._same.to(torch.uint8).argmax(1)
        self.history.append(ids.to(torch.uint8))
        return attend_to_counts(self._scores, self.values, ids, self.counts)

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Writes what was counted into a cache: float32 [B, H, max_length, D] each."""
        if not self.history:
            return
        ids = torch.stack(self.history, dim=1).long()  # [B, t]
        for cache, table in ((keys, self.keys), (values, self.values)):
            cache[:, :, : ids.shape[1]] = table[ids].transpose(1, 2)
