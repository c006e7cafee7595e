"""T-Maze Long's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer


@dataclass(frozen=True, kw_only=True, slots=True)
class TMazeLongSpec(TaskSpec):
    """A T-Maze whose corridor moves the agent by itself (Beck et al. 2020).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "TMazeLong"
    chance: ClassVar[float | None] = 1 / 2
    action_names: ClassVar[tuple[str, ...]] = ("left", "right", "up", "down")
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("cue", "<u4", 1),
        ("right", "<u4", 1),
    )

    length: int = 100
    """N, cells of the corridor, which is also T; at least 1."""
    noise: bool = False
    """Show one more entry, -1 or +1 at random at every step."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", check_integer("length", self.length, 1, MAX_LENGTH))
        object.__setattr__(self, "noise", check_boolean("noise", self.noise))

    @property
    def episode_length(self) -> int:
        """T: a step from each cell to the next, and one to turn."""
        return self.length

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """[start, cue, end], with noise one more."""
        return (3 + self.noise,)

    @property
    def obs_low(self) -> tuple[float, ...]:
        """Smallest value of each entry."""
        return (0.0, -1.0, 0.0) + (-1.0,) * self.noise

    @property
    def obs_high(self) -> float:
        """Largest value of all entries."""
        return 1.0

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {"length": self.length, "noise": self.noise}
