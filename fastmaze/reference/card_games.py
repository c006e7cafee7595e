"""The rules of the two card tasks in readable Python.

Cards are dealt from D shuffled decks, and all that matters of a card is its suit. Instead of a
shuffled deck, the number of cards left of each suit is kept: the card of moment t is number
r of those left, sorted by suit, where r is random number 0 of that moment. So is a card drawn
without replacement, and the order of the suits has the distribution of a shuffled deck's.

**Repeat First**: every step names the suit of the first card, which earns 1/T, any other -1/T; then
the next card is dealt. The observation is the suit of the card dealt last.

**Autoencode**: while the deck is dealt, no action counts (watching). The step that deals the last
card also turns the mode to play: from then on every step names the cards' suits, the last card
first; each earns 1/N if it is right, else -1/N. While playing, no card is shown, and an
observation's suit is 0.

Source: Morad et al. 2023 (POPGym); its `RepeatFirst` and `Autoencode` decide. Their discrete
observations are given one-hot here, as `gymnasium.spaces.flatten` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs.card_games import SUITS, AutoencodeSpec, RepeatFirstSpec


class _CardGame(SpecificationEnv):
    """What both have in common: the deck.

    Attributes:
        left: cards of each suit that were not dealt yet.
        right: suits named correctly in this episode.
    """

    def begin(self, context: Any) -> None:
        """Deals the first card; for a late start, all that were dealt before it as well."""
        self.left = [self.spec.cards // len(SUITS)] * len(SUITS)
        self.right = 0

    def deal(self, t: int) -> int:
        """The suit of the card of moment t, random number 0 of that moment."""
        number = self.draws.below_at(t, 0, sum(self.left))
        suit = 0
        while number >= self.left[suit]:
            number -= self.left[suit]
            suit += 1
        self.left[suit] -= 1
        return suit


class RepeatFirst(_CardGame):
    """One Repeat First task, stepped by hand; see `SpecificationEnv`."""

    spec: RepeatFirstSpec

    def begin(self, context: Any) -> None:
        """Shows the first card."""
        super().begin(context)
        self.first = self.shown = self.deal(0)
        for t in range(1, self.t + 1):
            self.shown = self.deal(t)

    def move(self, action: int) -> tuple[float, bool]:
        """Pays for the first card's suit, and deals."""
        right = action == self.first
        self.right += right
        self.shown = self.deal(self.t)
        return (1 if right else -1) / self.spec.episode_length, False

    def observation(self) -> npt.NDArray[np.float32]:
        """The suit of the card dealt last, one-hot float32 [4]."""
        return np.array([suit == self.shown for suit in range(len(SUITS))], np.float32)

    def statistics(self) -> Episode:
        """Success: every step was right."""
        steps = self.t - self.start_t
        total = (2 * self.right - steps) / self.spec.episode_length
        return Episode(total, steps, self.right == steps, False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`; the last suit's cards follow from the others'."""
        return {
            "first": self.first,
            "shown": self.shown,
            "left": self.left[:3],
            "right": self.right,
        }

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        each, remaining = self.spec.cards // len(SUITS), self.spec.cards - 1 - self.t
        self.first, self.shown, self.right = row["first"], row["shown"], row["right"]
        self.left = [*row["left"], remaining - sum(row["left"])]
        good = self.first < len(SUITS) and self.shown < len(SUITS)
        good = good and all(0 <= cards <= each for cards in self.left)
        if good:
            dealt = [each - cards for cards in self.left]
            dealt[self.first] -= 1
            # After a step, the card shown is another one than the first.
            dealt[self.shown] -= self.t > 0
            good = min(dealt) >= 0 and (self.t > 0 or self.shown == self.first)
        if not good or self.right > self.t - self.start_t:
            raise ValueError("no episode of this task can reach these values")


class Autoencode(_CardGame):
    """One Autoencode task, stepped by hand; see `SpecificationEnv`.

    Attributes:
        dealt: suits of the cards dealt so far.
    """

    spec: AutoencodeSpec

    def begin(self, context: Any) -> None:
        """Shows the first card."""
        super().begin(context)
        self.dealt = [self.deal(t) for t in range(min(self.t + 1, self.spec.cards))]

    def move(self, action: int) -> tuple[float, bool]:
        """Deals, or pays for the next suit backwards."""
        cards = self.spec.cards
        if self.t < cards:
            self.dealt.append(self.deal(self.t))
            return 0.0, False
        right = action == self.dealt[2 * cards - 1 - self.t]
        self.right += right
        return (1 if right else -1) / cards, False

    def observation(self) -> npt.NDArray[np.float32]:
        """[play?, watch?, suit], float32 [6]; the suit is one-hot."""
        mode, suit = np.zeros(2, np.float32), np.zeros(len(SUITS), np.float32)
        mode[int(self.t < self.spec.cards - 1)] = 1
        suit[self.dealt[self.t] if self.t < self.spec.cards else 0] = 1
        return np.concatenate([mode, suit])

    def statistics(self) -> Episode:
        """Success: every suit was right."""
        cards, steps = self.spec.cards, self.t - self.start_t
        named = max(self.t - max(self.start_t, cards - 1), 0)
        return Episode((2 * self.right - named) / cards, steps, self.right == named, False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`; two bits a card, sixteen cards in a number."""
        suits = [0] * 10
        for i, suit in enumerate(self.dealt):
            suits[i // 16] |= suit << 2 * (i % 16)
        return {"suits": suits, "left": self.left, "right": self.right}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        cards = self.spec.cards
        every = [row["suits"][i // 16] >> 2 * (i % 16) & 3 for i in range(160)]
        known = min(self.t + 1, cards)
        self.dealt, self.left, self.right = every[:known], row["left"], row["right"]
        left = [cards // len(SUITS) - self.dealt.count(suit) for suit in range(len(SUITS))]
        named = max(self.t - max(self.start_t, cards - 1), 0)
        if any(every[known:]) or min(left) < 0 or left != self.left or self.right > named:
            raise ValueError("no episode of this task can reach these values")
