"""Memory Cards' options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_integer

MAX_PAIRS: Final = 16
"""Most pairs in a deal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCardsSpec(TaskSpec):
    """Find the partner of the card that shows, among cards that showed before (Esslinger et al.).

    `reset` takes `options={"deal": …}`, a list of 2p numbers per env, each of 1 to p twice, instead
    of drawing it.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "MemoryCards"
    reset_option: ClassVar[str | None] = "deal"
    context_size: ClassVar[int] = 2 * MAX_PAIRS
    ends_early: ClassVar[bool] = True
    obs_low: ClassVar[float] = 0
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("gone", "<u4", 1),  # bit i is 1 once card i was found
        ("shown", "<u4", 1),
        ("wrong", "<u4", 1),  # choices of a card that was not the partner
        ("deal", "u1", 2 * MAX_PAIRS),
    )

    pairs: int = 5
    """p; 2p cards, of which each action chooses one; 1 to 16."""
    episode_length: int = 50
    """T, steps after which an episode ends even if cards are left."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", check_integer("pairs", self.pairs, 1, MAX_PAIRS))
        length = check_integer("episode_length", self.episode_length, 1, MAX_LENGTH)
        object.__setattr__(self, "episode_length", length)

    @property
    def cards(self) -> int:
        """How many cards there are."""
        return 2 * self.pairs

    @property
    def action_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A card each."""
        return tuple(f"card {i}" for i in range(self.cards))

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """An entry for each card."""
        return (self.cards,)

    @property
    def obs_high(self) -> float:
        """What is shown of a card that was found."""
        return self.pairs + 1

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {"pairs": self.pairs, "episode_length": self.episode_length}

    def is_deal(self, deal: list[int]) -> bool:
        """Whether the numbers of 2 · `MAX_PAIRS` cards are a deal; 0 where there is no card."""
        rest = deal[self.cards :]
        dealt = [number for number in range(1, self.pairs + 1) for _ in range(2)]
        return sorted(deal[: self.cards]) == dealt and not any(rest)

    def encode_context(self, name: str, value: Any) -> npt.NDArray[np.uint8]:
        """See `TaskSpec.encode_context`: the numbers of the cards, then zeros."""
        wanted = f"{name}: expected a list of {self.cards} numbers, each of 1 to {self.pairs} twice"
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise TypeError(f"{wanted}, got {type(value).__name__}")
        deal = [check_integer(f"{name}[{i}]", number) for i, number in enumerate(value)]
        if len(deal) != self.cards or not self.is_deal(deal):
            raise ValueError(f"{wanted}, got {deal}")
        return np.array(deal + [0] * (2 * MAX_PAIRS - self.cards), np.uint8)

    def check_context(self, context: npt.NDArray[np.uint8]) -> None:
        """See `TaskSpec.check_context`."""
        if not self.is_deal(context.tolist()):
            raise ValueError("deal: no episode of this task can begin with what is given")
