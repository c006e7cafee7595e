"""Pictures of the pixel grid-worlds: the whole room, and the crop that the player sees brighter."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastmaze.envs.rendering import Frame
from fastmaze.reference.pixel_world import PixelWorld
from fastmaze.specs.pixel_worlds import COLUMNS, VIEW, PixelWorldSpec

TILE: Final = 24
"""Pixels along a cell."""

_PHASES: Final = ("explore", "distractor", "reward")
_COLOUR_NAMES: Final = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue"}


class PixelWorldRenderer:
    """Draws pixel grid-worlds from their specification envs.

    Args:
        spec: the task.
        mode: "ansi" or "rgb_array".
    """

    def __init__(self, spec: PixelWorldSpec, mode: str) -> None:
        self._spec, self._mode = spec, mode

    def frame(self, env: PixelWorld) -> Frame:
        """The present room: text, or uint8 [7 * TILE, 11 * TILE, 3]."""
        return self._text(env) if self._mode == "ansi" else self._image(env)

    def _text(self, env: PixelWorld) -> str:
        """The room as in `fastmaze.specs.pixel_worlds`, and a line that tells the time."""
        lines = ["".join(row) for row in env.picture()]
        if self._spec.is_match:
            # Which letter is which colour is not to be seen from the letters.
            names = (f"{mark} {_COLOUR_NAMES[env.colour(mark)]}" for mark in "bce")  # type: ignore[index]
            lines.append("  ".join(names))
        width = len(str(self._spec.episode_length))
        time = f"t {env.t:{width}}/{self._spec.episode_length}"
        return "\n".join([*lines, f"{time}  {_PHASES[env.phase]}  apples {env.eaten}"])

    def _image(self, env: PixelWorld) -> Frame:
        """A tile for each cell, in the colours of the observations, darker beyond the crop."""
        picture = env.picture()
        cells = np.array([[env.colour(found) for found in row] for row in picture], np.uint8)
        row, column = divmod(env.player, COLUMNS)
        rows, columns = np.indices(cells.shape[:2])
        hidden = np.maximum(abs(rows - row), abs(columns - column)) > VIEW // 2
        cells[hidden] = cells[hidden] // 5 * 3
        return cells.repeat(TILE, axis=0).repeat(TILE, axis=1)
