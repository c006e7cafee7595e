"""A rollout's memory that does not grow: how often each of a few distinct tokens was seen.

That is all a block can tell apart whose tokens know no position, see `fastmaze.models.histories`. A
step costs the same at any age, nothing is read from a cache of T keys, and sequences that have seen
the same are computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from fastmaze.models.encoder import HistoryState, State
from fastmaze.models.histories import MOST_TOKENS, Distinct, distinct, weights_of


class CountingEncoder(Protocol):
    """An encoder to which a history is its newest token, and how often each was seen."""

    def initial_state(self, batch_size: int, max_length: int) -> State:
        """See `SequenceEncoder`."""

    def prepare_tokens(self, x: Tensor) -> Any:
        """What it needs to know of distinct tokens, float32 [K, E]: embedded steps."""

    def encode_counts(self, tokens: Any, newest: Tensor, counts: Tensor) -> Tensor:
        """What `forward` gives at a step that ends such a history, up to rounding.

        Args:
            tokens: what `prepare_tokens` returned.
            newest: int64 [R], number of each history's newest token.
            counts: float32 [R, K], how often each holds each token.

        Returns:
            float32 [R, F].
        """

    def state_after(self, tokens: Any, history: Tensor, max_length: int) -> State:
        """The state that `step` goes on from after steps that were counted.

        Args:
            tokens: what `prepare_tokens` returned.
            history: int64 [B, t], numbers of the tokens of t steps, at least one.
            max_length: as for `initial_state`.
        """


class TokenCounts(HistoryState):
    """What B sequences of one age have seen, by distinct token.

    Args:
        encoder: makes histories of them.
        batch_size: B.
        max_length: the most steps that will be taken; for the memory of all steps, should tokens
            become too many.

    Attributes:
        counts: how often each sequence saw each, float32 [B, K].
        history: for each step the tokens' numbers, uint8 [B].
        embedded: the distinct tokens, float32 [K, E], in order of appearance.
        tokens: what the encoder makes of them.
    """

    def __init__(self, encoder: CountingEncoder, batch_size: int, max_length: int) -> None:
        self.encoder, self.batch_size, self.max_length = encoder, batch_size, max_length
        self.counts = torch.zeros(batch_size, 0)
        self.history: list[Tensor] = []
        self.embedded = torch.zeros(0)
        self.tokens: Any = None
        self._prints = torch.zeros(0, dtype=torch.int64)
        self._sums = torch.zeros(batch_size, dtype=torch.int64)

    def advance(
        self, prints: Tensor, embed: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """Takes in a step; None where its tokens are too many. See `HistoryState`."""
        new = self.unseen(prints)
        if new is None:
            return None
        if len(new):
            self.add(prints[new], embed(new))
            self.tokens = self.encoder.prepare_tokens(self.embedded)
        newest, counts, where = self.count(prints)
        return self.encoder.encode_counts(self.tokens, newest, counts), where

    def every_step(self) -> State:
        """The encoder's own state after the steps that were counted."""
        if not self.history:
            return self.encoder.initial_state(self.batch_size, self.max_length)
        history = torch.stack(self.history, dim=1).long()  # [B, t]
        return self.encoder.state_after(self.tokens, history, self.max_length)

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
