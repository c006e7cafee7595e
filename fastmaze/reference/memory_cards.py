"""Memory Cards' rules in readable Python.

2p cards lie on the table, each number of 1 to p on two of them. At each step one of those that are
left shows its number. Choosing its partner takes both away and pays 0; any other choice, also of
the card itself or of one that is gone, pays -1. Either way the card is turned down again, and the
next one, perhaps the same, shows. The episode ends with the last pair, or after T steps.

Source: Esslinger et al. 2022. Their published environment (DTQN, `envs/memory_cards.py`) decides:
what an observation holds, that the same card may show again, and that T is 50 at p = 5. Its text
promises 1 for a pair; its code pays 0, as the rules here do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs.memory_cards import MAX_PAIRS, MemoryCardsSpec


class MemoryCards(SpecificationEnv):
    """One game of memory cards, stepped by hand; see `SpecificationEnv`.

    Attributes:
        deal: the number on each card, 1 to p.
        gone: whether each card was found.
        shown: the card that shows now; 0 once all are gone.
        wrong: choices of a card that was not the partner.
    """

    spec: MemoryCardsSpec

    def begin(self, context: Any) -> None:
        """Deals, random numbers 0 to 2p - 2, and shows a card."""
        cards = self.spec.cards
        if context is None:
            deal = [1 + i // 2 for i in range(cards)]
            for i in range(cards - 1):
                other = i + self.draws.below(i, cards - i)
                deal[i], deal[other] = deal[other], deal[i]
        else:
            deal = context.tolist()[:cards]
        self.deal = deal
        self.gone = [False] * cards
        self.wrong = 0
        self._show()

    def _show(self) -> None:
        """Draws one of the cards that are left, random number 0 of this moment."""
        left = [card for card, gone in enumerate(self.gone) if not gone]
        number = self.draws.below_at(self.t, 0, len(left))
        self.shown = left[number] if left else 0

    def move(self, action: int) -> tuple[float, bool]:
        """The partner pays 0 and takes both cards away, anything else pays -1."""
        found = action != self.shown and self.deal[action] == self.deal[self.shown]
        if found:
            self.gone[action] = self.gone[self.shown] = True
        else:
            self.wrong += 1
        self._show()
        return (0.0 if found else -1.0), all(self.gone)

    def observation(self) -> npt.NDArray[np.float32]:
        """float32 [2p]: the number of the card that shows, p + 1 for those gone, 0 for the rest."""
        seen = [
            self.spec.pairs + 1 if gone else number if card == self.shown else 0
            for card, (gone, number) in enumerate(zip(self.gone, self.deal, strict=True))
        ]
        return np.array(seen, np.float32)

    def statistics(self) -> Episode:
        """The return is -1 for each wrong choice; a success has found all pairs."""
        return Episode(float(-self.wrong), self.t - self.start_t, all(self.gone), False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {
            "gone": sum(1 << card for card, gone in enumerate(self.gone) if gone),
            "shown": self.shown,
            "wrong": self.wrong,
            "deal": self.deal + [0] * (2 * MAX_PAIRS - self.spec.cards),
        }

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        cards, deal = self.spec.cards, row["deal"]
        gone = [bool(row["gone"] >> card & 1) for card in range(cards)]
        good = self.spec.is_deal(deal) and row["gone"] >> cards == 0 and row["shown"] < cards
        if good:
            # Pairs go together, and every step either finds one or is wrong.
            pairs = {(number, away) for number, away in zip(deal, gone, strict=False)}
            steps = row["wrong"] + sum(gone) // 2
            good = len(pairs) == self.spec.pairs and steps == self.t - self.start_t
            if all(gone):
                good = good and row["shown"] == 0 and self.over
            else:
                late = self.t == self.spec.episode_length
                good = good and not gone[row["shown"]] and (late or not self.over)
        if not good:
            raise ValueError("no episode of this task can reach these values")
        self.deal, self.gone = deal[:cards], gone
        self.shown, self.wrong = row["shown"], row["wrong"]
