"""Options of the T-Mazes of Bakker and of Lambrechts, one maze seen through two codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer, check_real

CHANCES: Final = 1 << 30
"""Steps in which `stochasticity` counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorridorMazeSpec(TaskSpec):
    """A T-Maze that ends where the agent turns, and where bumping into a wall costs.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "CorridorMaze"
    action_names: ClassVar[tuple[str, ...]] = ("right", "up", "left", "down")
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("cell", "<i4", 1),
        ("goal", "<i4", 1),
        ("fines", "<i4", 1),
    )
    ends_early: ClassVar[bool] = True

    length: int = 10
    """L, cells from the start to the junction; at least 1."""
    stochasticity: float = 0.0
    """λ, how often an action is replaced by any of the four; from 0 to below 1."""
    one_hot: bool = True
    """Observe one-hot, as Lambrechts et al. do; else three bits, as Bakker does."""
    episode_length: int
    """T, steps until the episode ends by itself."""

    def __post_init__(self) -> None:
        checked = check_integer("length", self.length, 1, MAX_LENGTH // 3)
        object.__setattr__(self, "length", checked)
        object.__setattr__(self, "stochasticity", _check_stochasticity(self.stochasticity))
        object.__setattr__(self, "one_hot", check_boolean("one_hot", self.one_hot))
        checked = check_integer("episode_length", self.episode_length, 1, MAX_LENGTH)
        object.__setattr__(self, "episode_length", checked)

    @property
    def chances(self) -> int:
        """λ in steps of 1 / `CHANCES`: how many of so many actions are replaced."""
        return round(self.stochasticity * CHANCES)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """[up, down, corridor, junction], or three bits."""
        return (4,) if self.one_hot else (3,)

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
        return {
            "length": self.length,
            "chances": self.chances,
            "one_hot": self.one_hot,
            "episode_length": self.episode_length,
        }


def bakker_t_maze(*, length: int = 10, episode_length: int | None = None) -> CorridorMazeSpec:
    """The T-Maze of Bakker 2001: three bits, no chance.

    Args:
        length: N, cells from the start to the junction.
        episode_length: T; None for 3 N.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """
    steps = _recommended_steps(length, 0.0) if episode_length is None else episode_length
    return CorridorMazeSpec(length=length, one_hot=False, episode_length=steps)


def lambrechts_t_maze(
    *, length: int = 50, stochasticity: float = 0.0, episode_length: int | None = None
) -> CorridorMazeSpec:
    """The T-Maze of Lambrechts et al. 2022: one-hot, with some actions replaced.

    Args:
        length: L, cells from the start to the junction.
        stochasticity: λ, how often an action is replaced by any of the four.
        episode_length: T; None for 3 L / (1 - λ), rounded up.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """
    steps = _recommended_steps(length, stochasticity) if episode_length is None else episode_length
    return CorridorMazeSpec(length=length, stochasticity=stochasticity, episode_length=steps)


def _check_stochasticity(value: Any) -> float:
    number = check_real("stochasticity", value) + 0.0
    if not 0 <= number < 1:
        raise ValueError(f"stochasticity: expected a number from 0 to below 1, got {number}")
    if number and not 0 < round(number * CHANCES) < CHANCES:
        raise ValueError(
            f"stochasticity: expected 0, or a number that is a step of 1/{CHANCES} from 0 and 1 at "
            f"least, got {number}"
        )
    return number


def _recommended_steps(length: Any, stochasticity: Any) -> int:
    """T as Lambrechts' code recommends it: its explorer drifts to the right by a third."""
    cells = check_integer("length", length, 1, MAX_LENGTH // 3)
    steps = math.ceil(cells / ((1.0 - _check_stochasticity(stochasticity)) * (1 / 2 - 1 / 6)))
    if steps > MAX_LENGTH:
        raise ValueError(
            f"stochasticity: expected one that leaves at most {MAX_LENGTH} steps, or else an "
            f"episode_length, got {stochasticity}"
        )
    return steps
