"""Umbrella Length's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_integer


@dataclass(frozen=True, kw_only=True, slots=True)
class UmbrellaLengthSpec(TaskSpec):
    """Take an umbrella at the first step if it will rain at the last (Osband et al. 2020).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "UmbrellaLength"
    action_names: ClassVar[tuple[str, ...]] = ("leave", "take")
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("need", "<u4", 1),
        ("has", "<u4", 1),
        ("earned", "<i4", 1),
    )

    length: int = 10
    """n, steps from the choice to the rain; at least 1."""
    distractors: int = 20
    """Random bits shown at each step, 0 to 127."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", check_integer("length", self.length, 1, MAX_LENGTH))
        checked = check_integer("distractors", self.distractors, 0, 127)
        object.__setattr__(self, "distractors", checked)

    @property
    def episode_length(self) -> int:
        """T = n."""
        return self.length

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """[need, has, time, distractors]."""
        return (3 + self.distractors,)

    @property
    def obs_low(self) -> float:
        """Bits, and a time from 1 down to 0."""
        return 0.0

    @property
    def obs_high(self) -> float:
        """Bits, and a time from 1 down to 0."""
        return 1.0

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {"length": self.length, "distractors": self.distractors}
