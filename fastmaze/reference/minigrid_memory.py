"""MiniGrid Memory's rules in readable Python, here at size 13 with a hallway that ends at column 8.

```
 #############
 #       # # #
 #       # # #
 #       # # #
 #####   #o# #      o, k: a ball or a key at either end
 #k  ##### # #      k, o: the cue, in the start room
 # ▶       # #      the agent, somewhere between column 1 and the end of the hallway
 #   ##### # #
 #####   #k# #
 #       # # #
 #       # # #
 #       # # #
 #############
```

The agent turns left, turns right or goes forward; walls and objects stop it. The cell beside an
end's object ends the episode: if the object is the cue's kind, with 1 - 0.9 · t / T, else with
nothing. T ends it, too. The other four actions do nothing here: MiniGrid offers them in every task,
and this one reads `pickup` as `toggle`, which neither a key nor a ball minds, so that nothing is
ever carried.

The agent sees 7 × 7 cells, itself in the middle of the nearest row, and not through walls.

Source: Chevalier-Boisvert et al. 2018; the package minigrid (`MemoryEnv`, its `gen_obs` and
`Grid.process_vis`) decides, and a test replays it against this. Two things differ: the view alone
is the observation (not the direction and the mission, which never changes), and the end at T is a
termination, as in all tasks here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode
from fastmaze.reference.grid import GridEnv
from fastmaze.specs.minigrid_memory import VIEW, MiniGridMemorySpec

DIRECTIONS: Final = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""(x, y) ahead for the directions 0 east, 1 south, 2 west, 3 north; y grows downwards."""

LEFT, RIGHT, FORWARD = range(3)
"""The actions that do something."""

ENCODING: Final = {"·": (1, 0, 0), "#": (2, 5, 0), "k": (5, 1, 0), "o": (6, 1, 0)}
"""(type, colour, state) of floor, grey wall, green key and green ball; 0 for what is not seen."""

_KINDS: Final = "ko"
"""Characters of `OBJECTS`."""


class MiniGridMemory(GridEnv):
    """One grid, stepped by hand; see `SpecificationEnv`.

    Attributes:
        x: the agent's column.
        y: the agent's row.
        direction: where it looks, a place in `DIRECTIONS`.
        hallway_end: the last column of the hallway.
        cue: kind of the object in the start room, 0 key, 1 ball.
        upper: kind of the object at the upper end; the lower one has the other.
        cue_seen: whether the cue was in view in this episode.
    """

    spec: MiniGridMemorySpec

    def begin(self, context: Any) -> None:
        """Draws the hallway's end, the start, and the two kinds: random numbers 0 to 3."""
        ends, draws = self.spec.hallway_ends, self.draws
        if context is None:
            self.hallway_end = ends[draws.below(0, len(ends))]
            self.x = 1 + draws.below(1, self.hallway_end)
            self.cue, self.upper = draws.below(2, 2), draws.below(3, 2)
        else:
            _, self.hallway_end, self.x, self.cue, self.upper = context.tolist()
        self.y, self.direction = self.spec.middle, 0
        self._build()
        self.cue_seen = self.is_in_view(*self._cue_cell)

    def _build(self) -> None:
        """The map, [row][column], without the agent."""
        size, end, middle = self.spec.size, self.hallway_end, self.spec.middle
        border = (0, size - 1)

        def is_wall(x: int, y: int) -> bool:
            beside = abs(y - middle)
            room = (x <= 4 and beside == 2) or (x == 4 and beside == 1)
            hallway = 4 < x < end and beside == 1
            fork = (x == end and beside > 0) or x == end + 2
            return x in border or y in border or room or hallway or fork

        self.map = [["#" if is_wall(x, y) else "·" for x in range(size)] for y in range(size)]
        row, column = self._cue_cell
        self.map[row][column] = _KINDS[self.cue]
        self.map[middle - 2][end + 1] = _KINDS[self.upper]
        self.map[middle + 2][end + 1] = _KINDS[1 - self.upper]

    @property
    def _cue_cell(self) -> tuple[int, int]:
        return self.spec.middle - 1, 1

    @property
    def _at_end(self) -> bool:
        return self.x == self.hallway_end + 1 and self.y != self.spec.middle

    @property
    def _is_right(self) -> bool:
        """Whether the agent is beside the object of the cue's kind."""
        return self._at_end and (self.y < self.spec.middle) == (self.upper == self.cue)

    def move(self, action: int) -> tuple[float, bool]:
        """A turn, a step ahead, or nothing."""
        ahead_x, ahead_y = DIRECTIONS[self.direction]
        if action in (LEFT, RIGHT):
            self.direction = (self.direction + (1 if action == RIGHT else -1)) % 4
        elif action == FORWARD and self.map[self.y + ahead_y][self.x + ahead_x] == "·":
            self.x, self.y = self.x + ahead_x, self.y + ahead_y
        self.cue_seen = self.cue_seen or self.is_in_view(*self._cue_cell)
        return self._paid(), self._at_end

    def _paid(self) -> float:
        length = cast(int, self.spec.episode_length)  # the spec has put a number for None
        return 1 - 0.9 * (self.t / length) if self._is_right else 0.0

    def view(self) -> list[list[str | None]]:
        """What the agent sees, [column][row] as it looks ahead; None for cells out of sight.

        The agent is at column 3 of row 6, the nearest. Rows are lit from the nearest to the
        farthest, each first from left to right and then back: a lit cell that does not block the
        light gives it to its neighbour in that direction, to the one ahead, and to the one between.
        """
        cells = [[self._beyond(column, row) for row in range(VIEW)] for column in range(VIEW)]
        lit = [[False] * VIEW for _ in range(VIEW)]
        lit[VIEW // 2][VIEW - 1] = True
        for row in reversed(range(VIEW)):
            for columns, side in ((range(VIEW - 1), 1), (range(VIEW - 1, 0, -1), -1)):
                for column in columns:
                    if lit[column][row] and cells[column][row] != "#":
                        lit[column + side][row] = True
                        if row > 0:
                            lit[column + side][row - 1] = lit[column][row - 1] = True
        return [
            [cells[column][row] if lit[column][row] else None for row in range(VIEW)]
            for column in range(VIEW)
        ]

    def _beyond(self, column: int, row: int) -> str:
        """What stands on a cell of the view; walls outside the grid."""
        ahead, right = VIEW - 1 - row, column - VIEW // 2
        (ahead_x, ahead_y), (right_x, right_y) = (
            DIRECTIONS[self.direction],
            DIRECTIONS[(self.direction + 1) % 4],
        )
        x = self.x + ahead * ahead_x + right * right_x
        y = self.y + ahead * ahead_y + right * right_y
        inside = 0 <= x < self.spec.size and 0 <= y < self.spec.size
        return self.map[y][x] if inside else "#"

    def observation(self) -> npt.NDArray[np.uint8]:
        """The view as `ENCODING`, uint8 [column, row, 3], as MiniGrid's "image"."""
        codes = [
            [ENCODING[found] if found is not None else (0, 0, 0) for found in column]
            for column in self.view()
        ]
        return np.array(codes, np.uint8)

    def statistics(self) -> Episode:
        """The return is what the last step paid."""
        return Episode(self._paid(), self.t - self.start_t, self._is_right, bool(self.cue_seen))

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {name: int(getattr(self, name)) for name, _, _ in self.spec.state_fields}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        for name, _, _ in self.spec.state_fields:
            setattr(self, name, row[name])
        middle = self.spec.middle
        good = self.hallway_end in self.spec.hallway_ends and self.direction < 4
        good = good and self.cue <= 1 and self.upper <= 1 and self.cue_seen <= 1
        good = good and self.x <= self.hallway_end + 1 and abs(self.y - middle) <= 1
        if good:
            self._build()
            good = self.map[self.y][self.x] == "·"
        late = self.t == self.spec.episode_length
        if good:
            good = self.over if self._at_end else late or not self.over
        if good:
            # What is in view was seen; at the first step, nothing else was.
            at_start = self.t == self.start_t
            sees = self.is_in_view(*self._cue_cell)
            good = bool(self.cue_seen) if sees else not (at_start and self.cue_seen)
            starts = self.direction == 0 and self.y == middle and self.x <= self.hallway_end
            good = good and (starts or not at_start)
        if not good:
            raise ValueError("no episode of this task can reach these values")
        self.cue_seen = bool(self.cue_seen)

    @property
    def grid_shape(self) -> tuple[int, int]:
        """See `GridEnv.grid_shape`."""
        return self.spec.size, self.spec.size

    @property
    def player_cell(self) -> tuple[int, int]:
        """See `GridEnv.player_cell`."""
        return self.y, self.x

    def character(self, row: int, column: int) -> str:
        """See `GridEnv.character`."""
        is_agent = (row, column) == self.player_cell
        return "▶▼◀▲"[self.direction] if is_agent else self.map[row][column]

    def is_in_view(self, row: int, column: int) -> bool:
        """See `GridEnv.is_in_view`."""
        (ahead_x, ahead_y), (right_x, right_y) = (
            DIRECTIONS[self.direction],
            DIRECTIONS[(self.direction + 1) % 4],
        )
        x, y = column - self.x, row - self.y
        ahead, right = ahead_x * x + ahead_y * y, right_x * x + right_y * y
        if not (0 <= ahead < VIEW and abs(right) <= VIEW // 2):
            return False
        return self.view()[VIEW // 2 + right][VIEW - 1 - ahead] is not None

    def caption(self) -> str:
        """See `GridEnv.caption`."""
        return f"cue {'seen' if self.cue_seen else 'not seen'}"
