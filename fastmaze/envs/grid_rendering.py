"""Pictures of tasks on a grid: a character, or a coloured tile, for each cell around the player."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from fastmaze.envs.rendering import Frame
from fastmaze.reference.grid import GridEnv
from fastmaze.specs import TaskSpec

TILE: Final = 24
"""Pixels along a cell."""

MAX_ROWS, MAX_COLUMNS = 25, 41
"""Cells of the largest picture; of a larger grid it shows what is around the player."""

_Shape = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.bool_]]
_RGB = tuple[int, int, int]

_FLOOR: Final = (238, 238, 234)
_BLUE, _GREEN, _RED, _GOLD = (37, 94, 214), (34, 150, 74), (208, 52, 44), (222, 158, 20)

BACKGROUNDS: Final[Mapping[str, _RGB]] = {" ": (255, 255, 255), "#": (90, 90, 96)}
"""RGB of cells that are no floor: outside, and walls."""


def _disc(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return u**2 + v**2 < 0.1


def _arrow(ahead: npt.NDArray[np.float64], side: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (ahead > -0.35) & (abs(side) < (0.4 - ahead) * 0.45)


def _key(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    distance = u**2 + (v + 0.18) ** 2
    ring = (distance < 0.035) & (distance > 0.008)
    shaft = (abs(u) < 0.06) & (v > 0) & (v < 0.4)
    teeth = (u > 0) & (u < 0.2) & ((abs(v - 0.2) < 0.05) | (abs(v - 0.35) < 0.05))
    return ring | shaft | teeth


SHAPES: Final[Mapping[str, tuple[_RGB, _Shape]]] = {
    "●": (_BLUE, _disc),  # the agent
    "▶": (_BLUE, lambda u, v: _arrow(u, v)),
    "▼": (_BLUE, lambda u, v: _arrow(v, u)),
    "◀": (_BLUE, lambda u, v: _arrow(-u, v)),
    "▲": (_BLUE, lambda u, v: _arrow(-v, u)),
    "★": (_GREEN, lambda u, v: abs(u) + abs(v) < 0.42),  # heaven
    "×": (_RED, lambda u, v: (abs(abs(u) - abs(v)) < 0.1) & (abs(u) < 0.35)),  # hell
    "◎": (_GOLD, _disc),  # the priest
    "k": (_GREEN, _key),
    "o": (_GREEN, _disc),
    "▬": (_BLUE, lambda u, v: v > 0.15),  # the paddle
    "◉": (_GREEN, lambda u, v: _disc(u, v) | (v > 0.15)),  # the paddle with the ball
}
"""Colour of each character, and which parts of its tile have it: functions of the distance from
the middle, to the right and downwards, -0.5 to 0.5. Characters without a shape are floor."""


class GridRenderer:
    """Draws tasks whose specification env is a `GridEnv`.

    Args:
        spec: the task.
        mode: "ansi" or "rgb_array".
    """

    def __init__(self, spec: TaskSpec, mode: str) -> None:
        self._spec, self._mode = spec, mode
        middle = (np.arange(TILE) + 0.5) / TILE - 0.5
        v, u = np.meshgrid(middle, middle, indexing="ij")
        self._tiles = {mark: self._tile(rgb, shape(u, v)) for mark, (rgb, shape) in SHAPES.items()}
        for mark, rgb in BACKGROUNDS.items():
            self._tiles[mark] = np.full((TILE, TILE, 3), rgb, np.uint8)
        self._floor = self._tile(_FLOOR, np.zeros((TILE, TILE), np.bool_))

    @staticmethod
    def _tile(rgb: _RGB, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        tile = np.full((TILE, TILE, 3), _FLOOR, np.uint8)
        tile[-1] = tile[:, -1] = (222, 222, 216)  # a line between cells
        tile[where] = rgb
        return tile

    def frame(self, env: GridEnv) -> Frame:
        """The cells around the player: text with a line below, or uint8 [R * TILE, C * TILE, 3].

        In a picture, cells that the present observation does not show are darker.
        """
        player = env.player_cell
        rows, columns = (
            _window(at, length, most)
            for at, length, most in zip(
                player, env.grid_shape, (MAX_ROWS, MAX_COLUMNS), strict=True
            )
        )
        cells = [[env.character(row, column) for column in columns] for row in rows]
        if self._mode == "ansi":
            length = self._spec.episode_length
            time = f"t {env.t:{len(str(length))}}/{length}  {env.caption()}"
            return "\n".join(["".join(row) for row in cells] + [time])
        return np.concatenate(
            [
                np.concatenate(
                    [
                        self._drawn(mark, env.is_in_view(row, column))
                        for mark, column in zip(line, columns, strict=True)
                    ],
                    axis=1,
                )
                for line, row in zip(cells, rows, strict=True)
            ]
        )

    def _drawn(self, mark: str, in_view: bool) -> npt.NDArray[np.uint8]:
        tile = self._tiles.get(mark, self._floor)
        return tile if in_view else tile // 5 * 3


def _window(at: int, length: int, most: int) -> range:
    """Up to `most` of `length` rows or columns, with `at` in the middle where there is room."""
    first = min(max(at - most // 2, 0), max(length - most, 0))
    return range(first, min(first + most, length))
