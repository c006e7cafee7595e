"""Options of the two card tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from fastmaze.specs.base import TaskSpec
from fastmaze.specs.checks import check_integer

SUITS: Final = ("spades", "diamonds", "clubs", "hearts")
"""What an observation shows of a card, and what the actions name."""
DECK: Final = 52
"""Cards of one deck, as many of each suit."""

MOST_DECKS: Final = 1_000
"""A staggered start deals every card that comes before it."""


class _CardGameSpec(TaskSpec):
    """What both have in common."""

    __slots__ = ()

    action_names: ClassVar[tuple[str, ...]] = SUITS
    decks: int

    @property
    def cards(self) -> int:
        """N, cards of all decks together."""
        return DECK * self.decks

    @property
    def obs_low(self) -> float:
        """Every entry is 0 or 1."""
        return 0.0

    @property
    def obs_high(self) -> float:
        """Every entry is 0 or 1."""
        return 1.0

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {"decks": self.decks}


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatFirstSpec(_CardGameSpec):
    """Name the suit of the first card at every step (Morad et al. 2023, POPGym).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "RepeatFirst"
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("first", "<u4", 1),
        ("shown", "<u4", 1),
        ("left", "<u4", 3),
        ("right", "<u4", 1),
    )

    decks: int = 1
    """D, decks of 52 cards, 1 to 1,000; POPGym's easy, medium and hard have 1, 8 and 16."""

    def __post_init__(self) -> None:
        checked = check_integer("decks", self.decks, 1, MOST_DECKS)
        object.__setattr__(self, "decks", checked)

    @property
    def episode_length(self) -> int:
        """T: every card but the first is dealt by a step."""
        return self.cards - 1

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """The suit of the card that was dealt last, one-hot."""
        return (len(SUITS),)


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencodeSpec(_CardGameSpec):
    """Watch a deck being dealt, then name its suits backwards (Morad et al. 2023, POPGym).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "Autoencode"
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("suits", "<u4", 10),
        ("left", "<u4", 4),
        ("right", "<u4", 1),
    )

    decks: int = 1
    """D, decks of 52 cards, 1 to 3: POPGym's easy, medium and hard."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "decks", check_integer("decks", self.decks, 1, 3))

    @property
    def episode_length(self) -> int:
        """T: N - 1 steps to watch and N to play."""
        return 2 * self.cards - 1

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """[play?, watch?, suit], the suit one-hot."""
        return (2 + len(SUITS),)
