"""The rules of the T-Mazes of Bakker and of Lambrechts in readable Python.

                          up = L + 1
    0 . . . . . . . . . . L
                          down = L + 2

The agent walks a corridor of cells 0 to L. Turning up or down at the junction, cell L, ends the
episode: it earns 4 at the goal, -0.1 on the other side. A step that moves nowhere costs 0.1, every
other earns 0. With stochasticity λ, an action is replaced by any of the four, each as likely, with
probability λ; moments' random number 0 decides whether, number 1 by which.

Cell 0 shows where the goal is, whenever the agent stands there. Bakker's bits are 011 for a goal
above, 110 for one below, 101 in the corridor, 010 at the junction; Lambrechts' observation is
one-hot of [up, down, corridor, junction]. Behind the junction, all looks like the junction.

Sources: Bakker 2001, and Lambrechts et al. 2022, whose published environment decides what either
leaves open: the order of the actions, what the last observation shows, and, for both mazes, after
how many steps an episode ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs.corridor_mazes import CHANCES, CorridorMazeSpec

RIGHT, UP, LEFT, DOWN = range(4)
BITS: Final = ((0, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 0))
"""Bakker's code of: goal up, goal down, corridor, junction."""


class CorridorMaze(SpecificationEnv):
    """One such maze, stepped by hand; see `SpecificationEnv`.

    Attributes:
        cell: 0 to L + 2.
        goal: 1 if the goal is above, else 0.
        fines: steps that cost 0.1.
    """

    spec: CorridorMazeSpec

    def begin(self, context: Any) -> None:
        """Draws the side of the goal, random number 0."""
        self.goal = self.draws.below(0, 2)
        self.cell = self.fines = 0

    def move(self, action: int) -> tuple[float, bool]:
        """Walks, bumps or turns."""
        if self.spec.chances and self.draws.below_at(self.t, 0, CHANCES) < self.spec.chances:
            action = self.draws.below_at(self.t, 1, 4)
        length, before = self.spec.length, self.cell
        if action == LEFT:
            self.cell = max(self.cell - 1, 0)
        elif action == RIGHT:
            self.cell = min(self.cell + 1, length)
        elif self.cell == length:
            self.cell = length + (1 if action == UP else 2)
        turned = self.cell > length
        if turned and self.right:
            return 4.0, True
        fined = turned or self.cell == before
        self.fines += fined
        return (-0.1 if fined else 0.0), turned

    @property
    def right(self) -> bool:
        """Whether the agent is at the goal."""
        return self.cell == self.spec.length + 2 - self.goal

    def observation(self) -> npt.NDArray[np.float32]:
        """What the cell looks like, float32 [4] or [3]."""
        length = self.spec.length
        look = 1 - self.goal if self.cell == 0 else 2 if self.cell < length else 3
        return np.array(np.eye(4)[look] if self.spec.one_hot else BITS[look], np.float32)

    def statistics(self) -> Episode:
        """Success: the episode ended at the goal."""
        total = (4.0 if self.right else 0.0) + self.fines * -0.1
        return Episode(total, self.t - self.start_t, self.right, False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {"cell": self.cell, "goal": self.goal, "fines": self.fines}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        self.cell, self.goal, self.fines = row["cell"], row["goal"], row["fines"]
        length, steps = self.spec.length, self.t - self.start_t
        turned = self.cell > length
        good = 0 <= self.cell <= length + 2 and 0 <= self.goal <= 1
        good = good and 0 <= self.fines <= steps
        good = good and (
            self.over if turned else not self.over or self.t == self.spec.episode_length
        )
        if not good:
            raise ValueError("no episode of this task can reach these values")
