"""Delayed Catch's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer

BOARD: Final = 7
"""Rows and columns of the board, and steps of a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DelayedCatchSpec(TaskSpec):
    """Catch ball after ball; how many were caught is paid at the very end (Raposo et al. 2021).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "DelayedCatch"
    action_names: ClassVar[tuple[str, ...]] = ("left", "stay", "right")
    obs_shape: ClassVar[tuple[int, ...]] = (BOARD, BOARD)
    obs_low: ClassVar[float] = 0
    obs_high: ClassVar[float] = 1
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("later", "<u4", 1),  # where the next runs start, as digits
        ("caught", "<u4", 1),
        ("ball", "<u4", 1),  # column
        ("paddle", "<u4", 1),  # column
    )

    runs: int = 40
    """Balls of an episode; at least 1."""
    random_paddle: bool = False
    """False: each run's ball starts in any column and the paddle in the middle. True: the ball in
    any column but the last, the paddle in one of the columns 1 to 4, as in the code of Ni et al."""

    def __post_init__(self) -> None:
        most = (MAX_LENGTH + 1) // BOARD
        object.__setattr__(self, "runs", check_integer("runs", self.runs, 1, most))
        object.__setattr__(
            self, "random_paddle", check_boolean("random_paddle", self.random_paddle)
        )

    @property
    def episode_length(self) -> int:
        """T: six steps for each fall, and one more before the next run."""
        return BOARD * self.runs - 1

    @property
    def starts(self) -> tuple[tuple[int, int], ...]:
        """(ball, paddle) of the ways in which a run can start, all equally likely."""
        if self.random_paddle:
            return tuple((ball, paddle) for paddle in range(1, 5) for ball in range(BOARD - 1))
        return tuple((ball, BOARD // 2) for ball in range(BOARD))

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {"runs": self.runs, "random_paddle": self.random_paddle}
