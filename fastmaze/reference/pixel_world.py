"""The pixel grid-worlds' rules in readable Python: open this file to learn the tasks.

```
 explore (Key-to-Door)   distractor        reward (Key-to-Door)   reward (Visual Match)
   #######               ###########                                ###########
   #  k  #               #a   a    #            ##d##               # b  c  e #
   #     #               # a     a #            #   #               #         #
   ##   ##               #    a    #            # + #               #         #
   #     #               # a   a   #            #   #               ####   ####
   #  +  #               #a   +   a#            #####                  # + #
   #######               ###########                                   #####
```

The player sees the 5 × 5 cells around it. Each room is played for a fixed number of frames; the
action that ends a phase already returns the first frame of the next room.

Source: Ni et al. 2023, Sections 5.1 and 5.2, and their published environment. Every faster version
in FastMaze must equal this one bit for bit; the tests see to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Draws, Episode, SpecificationEnv
from fastmaze.specs.pixel_worlds import (
    APPLE_CELLS,
    COLOUR_ORDERS,
    COLOURS,
    COLUMNS,
    INDICATOR,
    MATCH_ROOM,
    ORCHARD,
    ROWS,
    VIEW,
    Layout,
    PixelWorldSpec,
    cells_of,
)

MOVES: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""(down, right) of the actions 0 north, 1 south, 2 west, 3 east."""

EXPLORE, DISTRACTOR, REWARD = range(3)
"""The phases."""

OBJECT_CELLS: Final = tuple(cells_of(MATCH_ROOM, "bce"))
NEVER: Final = 2**31 - 1
"""Frame at which no apple will be back."""

_ORCHARD_START: Final = cells_of(ORCHARD, "+")[0]
_EMPTY: Final = {" ": " ", "#": "#", "p": "#", **dict.fromkeys("k+adbce", " ")}
"""What stands on a cell of a room's pattern if nothing is drawn for it."""


def _to_bytes(thousandths: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(part * 255 // 1000 for part in thousandths)


_RGB: Final = {character: _to_bytes(rgb) for character, rgb in COLOURS.items()}
_TAKEN, _INDICATED, _ENTERED, _RIGHT, _SEEN = 1, 2, 4, 8, 16


class PixelWorld(SpecificationEnv):
    """One pixel grid-world, stepped by hand; see `SpecificationEnv`.

    Attributes:
        layout: what was drawn for this episode.
        player: the cell of the player, row · 11 + column.
    """

    spec: PixelWorldSpec
    layout: Layout
    player: int

    def __init__(self, spec: PixelWorldSpec, env_index: int = 0) -> None:
        super().__init__(spec, env_index)
        # The rooms before anything is put into them: nothing but walls and floor.
        patterns = (spec.explore_room, ORCHARD, spec.reward_room)
        self._rooms = [[[_EMPTY[found] for found in row] for row in room] for room in patterns]

    def begin(self, context: Any) -> None:
        """Draws the layout, and enters the room that is played at the present time."""
        self.layout = self._draw() if context is None else Layout.from_bytes(context)
        # The frame after which each cell's apple is there: before the first one, or never.
        apples = self.layout.apples
        self.due = [-1 if apples >> i & 1 else NEVER for i in range(len(APPLE_CELLS))]
        self.eaten = 0
        self.taken = self.indicated = False  # the key; and by the last step
        self.entered = self.right = False  # the door, or an object; and it was the right one
        self.seen = False  # the target's colour
        self._enter(self.phase)

    def move(self, action: int) -> tuple[float, bool]:
        """One frame of the phase that the action belongs to, then perhaps the next room."""
        phase = self._phase_of(self.t - 1)
        frame = self.t - self._first_frame(phase)
        down, right = MOVES[action]
        row, column = self.player // COLUMNS + down, self.player % COLUMNS + right
        if 0 <= row < ROWS and 0 <= column < COLUMNS and self._is_free(phase, row, column):
            self.player = row * COLUMNS + column
        self.indicated = False
        reward = (self._explore, self._eat, self._ask)[phase](frame)
        if self.phase != phase:
            self._enter(self.phase)
        return reward, False

    @property
    def phase(self) -> int:
        """The phase whose room is shown: at the very end still the last one."""
        return self._phase_of(min(self.t, self.spec.episode_length - 1))

    def _phase_of(self, t: int) -> int:
        end = self.spec.explore_frames
        return (t >= end) + (t >= end + self.spec.length)

    def _first_frame(self, phase: int) -> int:
        """Time at the first frame of a phase."""
        spec = self.spec
        return (0, spec.explore_frames, spec.explore_frames + spec.length)[phase]

    def _enter(self, phase: int) -> None:
        """Puts the player where the phase starts."""
        self.player = (self.layout.start, _ORCHARD_START, self.layout.reward_start)[phase]
        self.indicated = False
        if phase == EXPLORE:
            self._look()

    def _is_free(self, phase: int, row: int, column: int) -> bool:
        # The door stays shut for who has not picked up the key.
        is_door = phase == REWARD and not self.spec.is_match
        shut = is_door and not self.taken and row * COLUMNS + column == self.layout.goal
        return self._rooms[phase][row][column] != "#" and not shut

    def _explore(self, frame: int) -> float:
        self._look()
        if not self.spec.is_match and self.player == self.layout.object and not self.taken:
            self.taken = self.indicated = True
        return 0.0

    def _eat(self, frame: int) -> float:
        """An apple that was there at the last frame is eaten; it is back some frames later."""
        if self.player not in APPLE_CELLS:
            return 0.0
        apple, again = APPLE_CELLS.index(self.player), self.spec.respawn_every
        if frame - 1 <= self.due[apple]:
            return 0.0
        self.due[apple] = frame + again if again else NEVER
        self.eaten += 1
        return self.spec.apple_reward

    def _ask(self, frame: int) -> float:
        """The door pays once, and so does the object of the right colour; the others nothing."""
        cells = OBJECT_CELLS if self.spec.is_match else (self.layout.goal,)
        if self.entered or self.player not in cells:
            return 0.0
        self.entered = True
        if self.spec.is_match:
            self.right = cells.index(self.player) == self.layout.goal
            return self.spec.final_reward if self.right else 0.0
        return self.spec.final_reward

    def _look(self) -> None:
        """The target's colour is seen when it is within the crop."""
        if self.spec.is_match and self._in_view(self.layout.object):
            self.seen = True

    def _in_view(self, cell: int) -> bool:
        down = cell // COLUMNS - self.player // COLUMNS
        right = cell % COLUMNS - self.player % COLUMNS
        return max(abs(down), abs(right)) <= VIEW // 2

    def room(self, phase: int) -> list[list[str]]:
        """The room as characters, [7][11], without the player."""
        room = [row.copy() for row in self._rooms[phase]]

        def put(character: str, cell: int) -> None:
            room[cell // COLUMNS][cell % COLUMNS] = character

        if phase == EXPLORE and self.spec.is_match:
            put("bce"[self.layout.goal], self.layout.object)
        elif phase == EXPLORE and not self.taken:
            put("k", self.layout.object)
        elif phase == EXPLORE and self.indicated:
            put("i", INDICATOR[0] * COLUMNS + INDICATOR[1])
        elif phase == DISTRACTOR:
            frame = self.t - self._first_frame(DISTRACTOR)
            for cell, due in zip(APPLE_CELLS, self.due, strict=True):
                if frame > due:
                    put("a", cell)
        elif phase == REWARD and self.spec.is_match and not self.entered:
            for character, cell in zip("bce", OBJECT_CELLS, strict=True):
                put(character, cell)
        elif phase == REWARD and not self.spec.is_match:
            put("d", self.layout.goal)
        return room

    def picture(self) -> list[list[str]]:
        """The room as characters, [7][11], with the player; only the door hides it."""
        room = self.room(self.phase)
        row, column = divmod(self.player, COLUMNS)
        if room[row][column] != "d":
            room[row][column] = "+"
        return room

    def colour(self, character: str) -> tuple[int, ...]:
        """RGB of a character in this episode, each 0 to 255."""
        if character in "bce":
            return _to_bytes(COLOUR_ORDERS[self.layout.colours]["bce".index(character)])
        return _RGB[character]

    def observation(self) -> npt.NDArray[np.uint8]:
        """The crop around the player, uint8 [3, 5, 5] or [75]; background outside the room."""
        picture, half = self.picture(), VIEW // 2
        top, left = self.player // COLUMNS - half, self.player % COLUMNS - half
        crop = [
            [
                picture[r][c] if 0 <= r < ROWS and 0 <= c < COLUMNS else " "
                for c in range(left, left + VIEW)
            ]
            for r in range(top, top + VIEW)
        ]
        image = np.array([[self.colour(found) for found in row] for row in crop], np.uint8)
        return np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(self.spec.obs_shape)

    def statistics(self) -> Episode:
        """What this episode amounts to so far."""
        spec = self.spec
        paid = self.right if spec.is_match else self.entered
        # Counted, not summed step by step: exact, and the same in every backend.
        episode_return = self.eaten * spec.apple_reward + (spec.final_reward if paid else 0.0)
        flag = self.seen if spec.is_match else self.taken
        success = paid and spec.final_reward > 0
        return Episode(episode_return, self.t - self.start_t, success, flag)

    def _draw(self) -> Layout:
        """Random numbers 0 to 4, and from 8 on one for each apple."""
        spec, draws = self.spec, self.draws

        def any_of(k: int, values: list[int]) -> int:
            return values[draws.below(k, len(values))]

        # The first num_apples of a random order of the apple cells.
        order, apples = list(range(len(APPLE_CELLS))), 0
        for i in range(spec.num_apples):
            other = i + draws.below(8 + i, len(order) - i)
            order[i], order[other] = order[other], order[i]
            apples |= 1 << order[i]
        # Fixed colours are those of the first episode.
        colours = Draws(self.seed, self.env_index, 0) if spec.fixed_colours else draws
        return Layout(
            object=any_of(0, spec.object_cells),
            start=any_of(1, spec.start_cells),
            goal=any_of(2, spec.goals),
            reward_start=any_of(3, spec.reward_start_cells),
            colours=colours.below(4, len(COLOUR_ORDERS)) if spec.is_match else 0,
            apples=apples,
        )

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        flags = (
            self.taken * _TAKEN
            | self.indicated * _INDICATED
            | self.entered * _ENTERED
            | self.right * _RIGHT
            | self.seen * _SEEN
        )
        layout = self.layout
        return {
            "due": [*self.due, NEVER, NEVER],
            "apples": self.eaten,
            "player": self.player,
            "object": layout.object,
            "explore_start": layout.start,
            "goal": layout.goal,
            "reward_start": layout.reward_start,
            "colours": layout.colours,
            "flags": flags,
            "zero": 0,
        }

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        spec, due, flags = self.spec, row["due"], row["flags"]
        again = spec.respawn_every
        # Eaten at frame 1 or later, and no later than now or the phase's end.
        last = min(self.t - self._first_frame(DISTRACTOR), spec.length)
        good = due[len(APPLE_CELLS) :] == [NEVER, NEVER]
        for time in due:
            good = good and (time in (-1, NEVER) or (again > 0 and 1 <= time - again <= last))
        apples = sum(time != NEVER for time in due)
        good = good and (apples == spec.num_apples if again else apples <= spec.num_apples)
        # Which of the cells held apples at first is no longer known, nor does it matter.
        anything = (1 << spec.num_apples) - 1
        layout = Layout(
            object=row["object"],
            start=row["explore_start"],
            goal=row["goal"],
            reward_start=row["reward_start"],
            colours=row["colours"],
            apples=anything,
        )
        known = _ENTERED | (_RIGHT | _SEEN if spec.is_match else _TAKEN | _INDICATED)
        good = good and spec.is_possible(layout) and flags & ~known == 0
        # The first touch of an object makes all of them vanish.
        touching = spec.is_match and self.phase == REWARD and row["player"] in OBJECT_CELLS
        good = good and (not touching or bool(flags & _ENTERED))
        good = good and 0 <= row["apples"] <= self.t - self.start_t and row["zero"] == 0
        if not good or not 0 <= row["player"] < ROWS * COLUMNS:
            raise ValueError("no episode of this task can reach these values")
        self.layout, self.due, self.eaten = layout, due[: len(APPLE_CELLS)], row["apples"]
        self.taken, self.indicated = bool(flags & _TAKEN), bool(flags & _INDICATED)
        self.entered, self.right = bool(flags & _ENTERED), bool(flags & _RIGHT)
        self.seen, self.player = bool(flags & _SEEN), row["player"]
        if self._rooms[self.phase][self.player // COLUMNS][self.player % COLUMNS] == "#":
            raise ValueError("the player stands in a wall")
