"""HeavenHell's rules in readable Python, here with n = 2.

```
 ★ · · · ×      y = 2
     ·          y = 1
     ●          y = 0, where the agent starts
     · · ◎      y = -1
```

One arm's end is heaven, the other one hell, and only the priest ◎ says which: all other cells look
the same in both worlds. Whatever the agent does at an arm's end pays +1 in heaven or -1 in hell and
ends the episode. Walls stop a move. The best walk takes n + 1 steps to the priest, n + 1 back, 2n
to heaven, and the one that is paid: 4n + 3.

Source: Esslinger et al. 2022, who took Geffner and Bonet's task from the package gym-pomdps; its
files `heavenhell_<n>.pomdp` decide: the order of the actions, that an arm's end pays on the action
taken there, that the first observation differs from that of the same cell later, and that the last
one shows the start. Observations are numbers there; here they are coordinates, one for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode
from fastmaze.reference.grid import GridEnv
from fastmaze.specs.heaven_hell import HeavenHellSpec

MOVES: Final = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""(x, y) of the actions 0 north, 1 south, 2 east, 3 west."""


class HeavenHell(GridEnv):
    """One HeavenHell maze, stepped by hand; see `SpecificationEnv`.

    Attributes:
        x: cells to the east of the start.
        y: cells to the north of the start.
        heaven: -1 if the left arm's end is heaven, +1 if the right one's is.
        outcome: what was paid, -1, 0 or +1.
        asked: whether the agent was at the priest's in this episode.
    """

    spec: HeavenHellSpec

    def begin(self, context: Any) -> None:
        """Draws which arm is heaven, random number 0."""
        right = self.draws.below(0, 2) if context is None else int(context[0]) - 1
        self.heaven = 2 * right - 1
        self.x = self.y = self.outcome = 0
        self.asked = False

    def move(self, action: int) -> tuple[float, bool]:
        """Whatever the action, an arm's end pays and ends; elsewhere it is a step."""
        n = self.spec.size
        if (abs(self.x), self.y) == (n, n):
            self.outcome = 1 if (self.x > 0) == (self.heaven > 0) else -1
            self.x = self.y = 0
            return float(self.outcome), True
        x, y = self.x + MOVES[action][0], self.y + MOVES[action][1]
        if self._is_floor(x, y):
            self.x, self.y = x, y
        self.asked = self.asked or self._at_priest
        return 0.0, False

    def _is_floor(self, x: int, y: int) -> bool:
        n = self.spec.size
        stem, arms, below = x == 0 and -1 <= y <= n, y == n and abs(x) <= n, y == -1 and 0 <= x <= n
        return stem or arms or below

    @property
    def _at_priest(self) -> bool:
        return (self.x, self.y) == (self.spec.size, -1)

    def observation(self) -> npt.NDArray[np.float32]:
        """[x, y, heaven at the priest's and else 0, 1 at the first step of all], float32."""
        said = self.heaven if self._at_priest else 0
        return np.array([self.x, self.y, said, self.t == self.start_t], np.float32)

    def statistics(self) -> Episode:
        """The return is what the arm's end paid."""
        return Episode(
            float(self.outcome), self.t - self.start_t, self.outcome == 1, bool(self.asked)
        )

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        names = ("x", "y", "heaven", "outcome", "asked")
        return {name: int(getattr(self, name)) for name in names}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        good = self._is_floor(row["x"], row["y"]) and row["heaven"] in (-1, 1)
        good = good and row["outcome"] in (-1, 0, 1) and row["asked"] in (0, 1)
        at_start = (row["x"], row["y"]) == (0, 0)
        if row["outcome"]:
            good = good and at_start and self.over
        else:
            good = good and (not self.over or self.t == self.spec.episode_length)
        # Nothing has happened yet at the first step.
        good = good and (self.t > self.start_t or (at_start and row["asked"] == 0))
        if not good:
            raise ValueError("no episode of this task can reach these values")
        self.x, self.y, self.heaven = row["x"], row["y"], row["heaven"]
        self.outcome, self.asked = row["outcome"], bool(row["asked"])

    @property
    def grid_shape(self) -> tuple[int, int]:
        """See `GridEnv.grid_shape`."""
        return self.spec.size + 2, 2 * self.spec.size + 1

    @property
    def player_cell(self) -> tuple[int, int]:
        """See `GridEnv.player_cell`."""
        return self.spec.size - self.y, self.spec.size + self.x

    def character(self, row: int, column: int) -> str:
        """See `GridEnv.character`; heaven and hell show, though the agent does not see them."""
        n = self.spec.size
        x, y = column - n, n - row
        if (x, y) == (self.x, self.y):
            return "●"
        if (abs(x), y) == (n, n):
            return "★" if (x > 0) == (self.heaven > 0) else "×"
        return "◎" if (x, y) == (n, -1) else "·" if self._is_floor(x, y) else " "

    def caption(self) -> str:
        """See `GridEnv.caption`."""
        return f"{'has' if self.asked else 'has not'} asked  paid {self.outcome}"
