"""The picture of a maze in pixels: tiles drawn once with NumPy, then pasted; no other library.

Every shape is a coverage, float [H, W] from 0 outside to 1 inside with soft edges, and is blended
in one colour over what is there.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from fastmaze.envs.rendering import HIDDEN, Scene, visible_columns
from fastmaze.specs import TMazeSpec

TILE: Final = 32
"""Pixels along a cell."""

MARGIN: Final = 16
"""Pixels around the maze; the one below holds the bar that shows the time."""

Colour = tuple[int, int, int]
Image = npt.NDArray[np.float32]

PAPER: Final = (250, 249, 245)
WALL: Final = (47, 54, 68)
FLOOR: Final = (226, 231, 238)
FLOOR_ODD: Final = (217, 223, 232)
SEAM: Final = (207, 214, 224)
ORACLE: Final = (252, 231, 178)
CUE: Final = (222, 142, 12)
GOAL_FLOOR: Final = (203, 234, 216)
GOAL: Final = (22, 135, 88)
TRAP_FLOOR: Final = (247, 218, 211)
TRAP: Final = (201, 84, 62)
AGENT: Final = (37, 94, 214)
WHITE: Final = (255, 255, 255)


class Painter:
    """Draws the scenes of one task as uint8 [3 * TILE + 2 * MARGIN, W, 3]."""

    def __init__(self, spec: TMazeSpec) -> None:
        self._spec = spec
        # Two shades in turn, so that one sees the corridor pass where the picture scrolls along.
        self._floors = (_tile(FLOOR), _tile(FLOOR_ODD))
        self._oracle = _tile(ORACLE)
        _blend(self._oracle, _ring(0.28, 0.05) + _disc(0.11), CUE)
        self._goal = _tile(GOAL_FLOOR)
        _blend(self._goal, _polygon(_star()), GOAL)
        self._trap = _tile(TRAP_FLOOR)
        _blend(self._trap, _polygon(_cross()), TRAP)
        self._up = _polygon(_arrow())
        self._agent = _disc(0.36)
        self._eyes = _disc(0.08, -0.12, -0.06) + _disc(0.08, 0.12, -0.06)
        self._zigzag = _zigzag(half_width=3.0)
        self._zigzag_edges = np.clip(_zigzag(half_width=4.6) - self._zigzag, 0, 1)

    def draw(self, scene: Scene) -> npt.NDArray[np.uint8]:
        """The picture of a scene."""
        columns = visible_columns(self._spec, scene.x)
        last = len(columns) - 1
        height, width = 3 * TILE + 2 * MARGIN, len(columns) * TILE + 2 * MARGIN
        image = np.empty((height, width, 3), np.float32)
        image[:] = PAPER
        self._draw_walls(image, last)
        for column, x in enumerate(columns):
            self._paste(image, column, 0, self._oracle if x == 0 else self._floors[x % 2])
        for y in (-1, 1):
            self._paste(image, last, y, self._goal if y == scene.goal_y else self._trap)
        for column, x in enumerate(columns):
            if x == HIDDEN:
                self._draw_break(image, column)
        if scene.cue:
            # Beside the oracle, on the side of the goal.
            arrow = self._up if scene.cue > 0 else self._up[::-1]
            _blend(_cell(image, 0, scene.cue), arrow, CUE)
        self._draw_agent(image, columns.index(scene.x), scene.y)
        self._draw_time(image, scene.t / self._spec.episode_length)
        return np.rint(image).astype(np.uint8)

    def _draw_walls(self, image: Image, last: int) -> None:
        """A dark rim around corridor and arms; the tiles cover the inside."""
        rim = 4
        top, left = MARGIN + TILE, MARGIN
        image[top - rim : top + TILE + rim, left - rim : left + (last + 1) * TILE + rim] = WALL
        left += last * TILE
        image[MARGIN - rim : MARGIN + 3 * TILE + rim, left - rim : left + TILE + rim] = WALL

    def _paste(self, image: Image, column: int, y: int, tile: Image) -> None:
        _cell(image, column, y)[:] = tile

    def _draw_break(self, image: Image, column: int) -> None:
        """A torn strip of paper across the corridor: cells are left out here."""
        rows = slice(MARGIN + TILE - 8, MARGIN + 2 * TILE + 8)
        left = MARGIN + column * TILE
        patch = image[rows, left : left + TILE]
        _blend(patch, self._zigzag_edges, WALL)
        _blend(patch, self._zigzag, PAPER)
        # The strip sticks out of the corridor by a little, without its edges.
        patch[:3] = patch[-3:] = PAPER

    def _draw_agent(self, image: Image, column: int, y: int) -> None:
        cell = _cell(image, column, y)
        _blend(cell, self._agent, WHITE)
        _blend(cell, _disc(0.31), AGENT)
        _blend(cell, self._eyes, WHITE)

    def _draw_time(self, image: Image, passed: float) -> None:
        """A bar below the maze that fills from left to right as the episode passes."""
        rows = slice(-7, -3)
        bar = image[rows, MARGIN:-MARGIN]
        bar[:] = SEAM
        bar[:, : round(passed * bar.shape[1])] = AGENT


def _cell(image: Image, column: int, y: int) -> Image:
    """A view of one cell's pixels."""
    top, left = MARGIN + (1 - y) * TILE, MARGIN + column * TILE
    return image[top : top + TILE, left : left + TILE]


def _tile(colour: Colour) -> Image:
    """A tile with a thin seam around it."""
    tile = np.empty((TILE, TILE, 3), np.float32)
    tile[:] = colour
    shade = np.float32(0.92)
    tile[0] *= shade
    tile[-1] *= shade
    tile[1:-1, 0] *= shade
    tile[1:-1, -1] *= shade
    return tile


def _blend(image: Image, coverage: Image, colour: Colour) -> None:
    """Lays a colour over the image, in place, as far as it covers."""
    alpha = np.minimum(coverage, 1)[..., None]
    image += alpha * (np.array(colour, np.float32) - image)


def _grid() -> tuple[Image, Image]:
    """(right, down) of each pixel's centre from the tile's centre, in tiles."""
    axis = ((np.arange(TILE) + 0.5) / TILE - 0.5).astype(np.float32)
    right, down = np.meshgrid(axis, axis)
    return right, down


def _disc(radius: float, right: float = 0.0, down: float = 0.0) -> Image:
    rights, downs = _grid()
    distance = np.hypot(rights - right, downs - down)
    coverage: Image = np.clip((radius - distance) * TILE + 0.5, 0, 1)
    return coverage


def _ring(radius: float, half_width: float) -> Image:
    return _disc(radius + half_width) - _disc(radius - half_width)


def _zigzag(half_width: float) -> Image:
    """Coverage of a zigzag strip, of `half_width` pixels, through a tile and 8 pixels beyond."""
    rows, columns = np.mgrid[-8 : TILE + 8, 0:TILE].astype(np.float32)
    phase = (rows + 8) / 16
    middle = TILE / 2 - 0.5 + 6 * (np.abs(2 * (phase - np.floor(phase)) - 1) - 0.5)
    coverage: Image = np.clip(half_width - np.abs(columns - middle) + 0.5, 0, 1)
    return coverage


def _polygon(corners: list[tuple[float, float]]) -> Image:
    """Coverage of a polygon with corners (right, down) in tiles: even-odd rule, 16 samples."""
    samples = 4
    axis = (np.arange(TILE * samples) + 0.5) / (TILE * samples) - 0.5
    right, down = np.meshgrid(axis, axis)
    inside = np.zeros(right.shape, np.bool_)
    for (r0, d0), (r1, d1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if d0 != d1:
            crosses = (d0 > down) != (d1 > down)
            inside ^= crosses & (right < r0 + (down - d0) / (d1 - d0) * (r1 - r0))
    blocks = inside.reshape(TILE, samples, TILE, samples)
    coverage: Image = blocks.mean(axis=(1, 3), dtype=np.float32)
    return coverage


def _star() -> list[tuple[float, float]]:
    """Five points, the first one up."""
    corners = []
    for k in range(10):
        radius = 0.34 if k % 2 == 0 else 0.15
        angle = math.pi * k / 5
        corners.append((radius * math.sin(angle), 0.02 - radius * math.cos(angle)))
    return corners


def _cross() -> list[tuple[float, float]]:
    """An x of two bars."""
    arm, half = 0.24, 0.05
    plus = [(half, arm), (half, half), (arm, half), (arm, -half), (half, -half), (half, -arm)]
    plus += [(-r, -d) for r, d in plus]
    turn = math.sqrt(0.5)
    return [((r - d) * turn, (r + d) * turn) for r, d in plus]


def _arrow() -> list[tuple[float, float]]:
    """A broad arrow, upwards."""
    half = [(0.0, -0.36), (0.28, -0.04), (0.11, -0.04), (0.11, 0.3)]
    return half + [(-right, down) for right, down in reversed(half[1:])]
