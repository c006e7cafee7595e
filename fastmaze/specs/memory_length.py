"""Memory Length's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLengthSpec(TaskSpec):
    """Remember some bits of the first step, and name one of them at the last (Osband et al. 2020).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "MemoryLength"
    action_names: ClassVar[tuple[str, ...]] = ("zero", "one")
    chance: ClassVar[float | None] = 1 / 2
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("bits", "<u4", 1),
        ("query", "<u4", 1),
        ("right", "<u4", 1),
    )

    length: int = 10
    """n, steps from the bits to the question; at least 1."""
    bits: int = 1
    """Bits to remember, 1 to 30."""
    show_time: bool = True
    """Observe 1 - k/n first, which tells when the question comes."""

    def __post_init__(self) -> None:
        checked = check_integer("length", self.length, 1, MAX_LENGTH - 1)
        object.__setattr__(self, "length", checked)
        object.__setattr__(self, "bits", check_integer("bits", self.bits, 1, 30))
        object.__setattr__(self, "show_time", check_boolean("show_time", self.show_time))

    @property
    def episode_length(self) -> int:
        """T: the first step shows what the reset showed, so one more than n."""
        return self.length + 1

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """[time, question, bits]."""
        return (self.show_time + 1 + self.bits,)

    @property
    def whole_obs(self) -> bool:
        """Whether all entries of an observation are whole numbers: all but the time."""
        return not self.show_time

    @property
    def obs_low(self) -> tuple[float, ...]:
        """Smallest value of each entry."""
        return (0.0,) * self.show_time + (0.0,) + (-1.0,) * self.bits

    @property
    def obs_high(self) -> tuple[float, ...]:
        """Largest value of each entry; 1 where the question is always 0, for a box has a width."""
        question = float(max(self.bits - 1, 1))
        return (1.0,) * self.show_time + (question,) + (1.0,) * self.bits

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {"length": self.length, "bits": self.bits, "show_time": self.show_time}
