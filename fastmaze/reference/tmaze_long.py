"""T-Maze Long's rules in readable Python.

The corridor has N cells. In all but the last one, every action moves a cell to the right. In the
last one, up and left turn up, down and right turn down; turning where the cue of the first cell
pointed earns 4, else -3, and ends the episode.

    cue . . . . . . end      up:   4 if the cue was +1, else -3
     0  1 2       N - 1      down: 4 if the cue was -1, else -3

Source: Beck et al. 2020 (AMRL), its T-Maze "TL" and with noise "TLN"; its published environment
decides: with a single cell, that cell counts as the start and not as the end; the observation after
the turn is that of the last cell; the noise is drawn anew at every step, in the last cell, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs.tmaze_long import TMazeLongSpec


class TMazeLong(SpecificationEnv):
    """One T-Maze Long, stepped by hand; see `SpecificationEnv`. The clock is the cell."""

    spec: TMazeLongSpec

    def begin(self, context: Any) -> None:
        """Draws the cue, random number 0: 1 for up, 0 for down."""
        self.cue = self.draws.below(0, 2)
        self.right = 0

    def move(self, action: int) -> tuple[float, bool]:
        """Only the last action counts."""
        if self.t < self.spec.length:
            return 0.0, False
        turned_up = action in (0, 2)
        self.right = int(turned_up == self.cue)
        return (4.0 if self.right else -3.0), False

    def observation(self) -> npt.NDArray[np.float32]:
        """[start, cue at the start, end], float32; with noise one more, number 0 of the moment."""
        cell = min(self.t, self.spec.length - 1)
        start, end = cell == 0, 0 < cell == self.spec.length - 1
        entries = [start, (2 * self.cue - 1) * start, end]
        if self.spec.noise:
            entries.append(2 * self.draws.below_at(self.t, 0, 2) - 1)
        return np.array(entries, np.float32)

    def statistics(self) -> Episode:
        """The return is the last action's reward."""
        total = 4.0 if self.right else -3.0
        return Episode(total, self.t - self.start_t, bool(self.right), False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {"cue": self.cue, "right": self.right}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        self.cue, self.right = row["cue"], row["right"]
        if self.cue > 1 or self.right > int(self.t == self.spec.length):
            raise ValueError("no episode of this task can reach these values")
