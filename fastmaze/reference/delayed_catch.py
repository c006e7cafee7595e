"""Delayed Catch's rules in readable Python.

A ball falls from the top row of a 7 × 7 board, a row a step; the paddle on the bottom row moves one
column to the left or to the right, or stays, and holds at the board's edges. After six steps the
ball is down, caught if it is in the paddle's column. One more step, in which no action matters,
brings the next run's board. The last run has no such step; its last one pays the number of balls
caught in all runs, and nothing else pays.

Source: Raposo et al. 2021, who made it from bsuite's Catch, which decides within a run: the board
as 0 and 1, the order of the actions, the ball from any column, the paddle in the middle. How runs
follow one another is as in the published code of Ni et al. 2022 (pomdp-baselines, in
`envs/credit_assign/catch.py`), which draws the paddle, too: `random_paddle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode
from fastmaze.reference.grid import GridEnv
from fastmaze.specs.delayed_catch import BOARD, DelayedCatchSpec

RUNS_PER_DRAW: Final = 4
"""Runs whose starts come from one random number."""


class DelayedCatch(GridEnv):
    """One board, stepped by hand; see `SpecificationEnv`.

    A staggered start begins with the ball part of the way down.

    Attributes:
        ball: column of the ball.
        paddle: column of the paddle.
        caught: balls caught so far.
    """

    spec: DelayedCatchSpec

    @property
    def row(self) -> int:
        """The ball's row: 0 at the top, 6 at the bottom."""
        return self.t % BOARD

    @property
    def run(self) -> int:
        """Number of the present run."""
        return self.t // BOARD

    def begin(self, context: Any) -> None:
        """Draws where the first runs start."""
        self.caught = 0
        first = self.run % RUNS_PER_DRAW
        self.later = self._draw() // len(self.spec.starts) ** first
        self._start_run()

    def _draw(self) -> int:
        """Random number run // 4: four starts as digits, the first one last."""
        return self.draws.below(self.run // RUNS_PER_DRAW, len(self.spec.starts) ** RUNS_PER_DRAW)

    def _start_run(self) -> None:
        self.later, which = divmod(self.later, len(self.spec.starts))
        self.ball, self.paddle = self.spec.starts[which]

    def move(self, action: int) -> tuple[float, bool]:
        """The paddle moves and the ball falls; or the next run begins."""
        if self.row == 0:
            if self.run % RUNS_PER_DRAW == 0:
                self.later = self._draw()
            self._start_run()
        else:
            self.paddle = min(max(self.paddle + action - 1, 0), BOARD - 1)
            self.caught += self.row == BOARD - 1 and self.ball == self.paddle
        return (float(self.caught) if self.t == self.spec.episode_length else 0.0), False

    def observation(self) -> npt.NDArray[np.float32]:
        """The board, float32 [7, 7], 1 where the ball or the paddle is."""
        board = np.zeros((BOARD, BOARD), np.float32)
        board[self.row, self.ball] = board[BOARD - 1, self.paddle] = 1
        return board

    def statistics(self) -> Episode:
        """The return is the number of balls caught; a success has caught all."""
        done = self.caught == self.spec.runs
        return Episode(float(self.caught), self.t - self.start_t, done, False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {name: int(getattr(self, name)) for name in ("later", "caught", "ball", "paddle")}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        left = RUNS_PER_DRAW - 1 - self.run % RUNS_PER_DRAW
        good = row["later"] < len(self.spec.starts) ** left
        good = good and row["ball"] < BOARD - self.spec.random_paddle and row["paddle"] < BOARD
        # A ball comes down whenever the clock is one step before the next run.
        down = (self.t + 1) // BOARD - (self.start_t + 1) // BOARD
        if not good or row["caught"] > down:
            raise ValueError("no episode of this task can reach these values")
        self.later, self.caught = row["later"], row["caught"]
        self.ball, self.paddle = row["ball"], row["paddle"]

    @property
    def grid_shape(self) -> tuple[int, int]:
        """See `GridEnv.grid_shape`."""
        return BOARD, BOARD

    @property
    def player_cell(self) -> tuple[int, int]:
        """See `GridEnv.player_cell`."""
        return BOARD - 1, self.paddle

    def character(self, row: int, column: int) -> str:
        """See `GridEnv.character`."""
        if (row, column) == (self.row, self.ball):
            return "◉" if (row, column) == self.player_cell else "o"
        return "▬" if (row, column) == self.player_cell else "·"

    def caption(self) -> str:
        """See `GridEnv.caption`."""
        width = len(str(self.spec.runs))
        return f"run {self.run + 1:{width}}/{self.spec.runs}  caught {self.caught}"
