"""What a person sees of a maze: which cells fit into the picture, and the picture as text.

A long corridor is cut: the picture keeps the oracle, the start, the junction and the cells around
the agent, with a mark for each run of hidden cells, and always has the same width.

```
                         ┌───┐
  ▲                      │ ★ │
┌──────   ───────────────┘   │
│ ◎  ·  ≈  ·  ·  ●  ·  ·     │
└──────   ───────────────┐   │
                         │ × │
                         └───┘
```
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import TMazeSpec

RENDER_MODES: Final = ("ansi", "rgb_array")
"""Text, or an RGB image."""

MAX_COLUMNS: Final = 24
"""Columns of a picture, of cells or marks for hidden cells; text is three characters a column."""

Frame: TypeAlias = str | npt.NDArray[np.uint8]
"""One picture: str ("ansi"), or uint8 [H, W, 3] ("rgb_array")."""

HIDDEN: Final = -1
"""In place of an x: a run of cells that are left out."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to draw."""

    x: int
    """Cells from the oracle."""
    y: int
    """-1, 0 or +1."""
    t: int
    """Steps taken."""
    goal_y: int
    """The goal, -1 or +1."""
    cue: int
    """The goal if the agent is being shown it now, else 0."""

    @classmethod
    def from_observation(
        cls, spec: TMazeSpec, position: Sequence[int], obs: Sequence[float]
    ) -> Scene:
        """From (x, y, t, goal_y) and what the agent observes there."""
        x, y, t, goal_y = position
        # An ambiguous position leaves one entry for the cue (at the oracle) and the arm.
        cue = obs[2] if not spec.ambiguous_position else obs[1] if x == 0 else 0
        return cls(x, y, t, goal_y, int(cue))


def check_render_mode(mode: str | None) -> str | None:
    """The mode, if it is None or one of `RENDER_MODES`.

    Raises:
        ValueError: it is neither.
    """
    if mode is None or (isinstance(mode, str) and mode in RENDER_MODES):
        return mode
    raise ValueError(f"render_mode: expected None or one of {RENDER_MODES}, got {mode!r}")


class Renderer:
    """Draws the scenes of one T-Maze.

    Args:
        spec: the task.
        mode: one of `RENDER_MODES`.
    """

    def __init__(self, spec: TMazeSpec, mode: str) -> None:
        from fastmaze.envs.pixels import Painter

        self._spec = spec
        self._painter = Painter(spec) if mode == "rgb_array" else None

    def frame(self, scene: Scene) -> Frame:
        """The picture of a scene; all pictures of one task have one size."""
        if self._painter is None:
            return draw_text(self._spec, scene)
        return self._painter.draw(scene)


class TMazeRenderer:
    """Draws T-Mazes from their specification envs; arguments as for `Renderer`."""

    def __init__(self, spec: TMazeSpec, mode: str) -> None:
        self._spec, self._renderer = spec, Renderer(spec, mode)

    def frame(self, maze: TMaze) -> Frame:
        """The picture of a maze in its present state."""
        position = (maze.x, maze.y, maze.t, maze.goal_y)
        scene = Scene.from_observation(self._spec, position, maze.observation().tolist())
        return self._renderer.frame(scene)


def visible_columns(spec: TMazeSpec, x: int, max_columns: int = MAX_COLUMNS) -> list[int]:
    """The x of each column of a picture with the agent at `x`, `HIDDEN` for a run left out.

    Starts with the landmarks and adds the cells nearest to the agent until the picture is full,
    so that the agent stays in the middle of its stretch of corridor. The landmarks
    are kept even where `max_columns` is less than they need, 9 at most.
    """
    width = min(spec.junction + 1, max_columns)
    shown = _landmarks(spec) | {x}
    columns = _with_marks(shown)
    distance = 1
    while len(columns) < width:
        for cell in (x + distance, x - distance):
            if 0 <= cell <= spec.junction and len(columns) < width:
                shown.add(cell)
                columns = _with_marks(shown)
        distance += 1
    return columns


def least_columns(spec: TMazeSpec) -> int:
    """Columns that the landmarks need, with the agent wherever it takes the most."""
    landmarks = _landmarks(spec)
    # In the middle of a gap the agent stands between two marks.
    middles = {(a + b) // 2 for a, b in itertools.pairwise(sorted(landmarks))}
    return max(len(visible_columns(spec, x, max_columns=0)) for x in landmarks | middles)


def text_width(columns: int) -> int:
    """Characters across a picture in text: three a column, and the walls of the arms."""
    return 3 * columns + 3


def columns_within(width: int) -> int:
    """Columns of the widest picture in text that has at most `width` characters."""
    return (width - text_width(0)) // 3


def _landmarks(spec: TMazeSpec) -> set[int]:
    """The oracle, the start, the junction, and the cells next to the ends of the corridor."""
    near = (0, 1, spec.oracle_length, spec.junction - 1, spec.junction)
    return {cell for cell in near if 0 <= cell <= spec.junction}


def _with_marks(shown: set[int]) -> list[int]:
    """The cells in order, one mark for each gap; a gap of a single cell shows that cell."""
    columns: list[int] = []
    for cell in sorted(shown):
        gap = cell - columns[-1] - 1 if columns else 0
        if gap == 1:
            columns.append(cell - 1)
        elif gap > 1:
            columns.append(HIDDEN)
        columns.append(cell)
    return columns


@dataclass(frozen=True, slots=True)
class Style:
    """How the parts of a picture in text are written; each may hold escape codes for colours."""

    agent: str = "●"
    oracle: str = "◎"
    floor: str = "·"
    hidden: str = "≈"
    goal: str = "★"
    trap: str = "×"
    cue_up: str = "▲"
    cue_down: str = "▼"


PLAIN: Final = Style()
"""No colours."""

COLOURED: Final = Style(
    agent="\x1b[1;94m●\x1b[0m",
    oracle="\x1b[33m◎\x1b[0m",
    floor="\x1b[2m·\x1b[0m",
    hidden="\x1b[2m≈\x1b[0m",
    goal="\x1b[1;92m★\x1b[0m",
    trap="\x1b[91m×\x1b[0m",
    cue_up="\x1b[1;93m▲\x1b[0m",
    cue_down="\x1b[1;93m▼\x1b[0m",
)
"""For terminals."""


def draw_text(
    spec: TMazeSpec,
    scene: Scene,
    style: Style = PLAIN,
    *,
    show_goal: bool = True,
    max_columns: int = MAX_COLUMNS,
) -> str:
    """The scene as eight lines of text, the last one telling time and position.

    Args:
        spec: the task.
        scene: what to draw.
        style: how the parts are written.
        show_goal: False leaves both arms blank, for a player who has to remember.
        max_columns: columns of three characters; see `visible_columns`.
    """
    columns = visible_columns(spec, scene.x, max_columns)[:-1]  # the corridor without the junction
    left_of_arm = " " * (3 * len(columns) + 1)
    wall = "".join("   " if x == HIDDEN else "───" for x in columns)
    junction = spec.junction

    def content(x: int, y: int) -> str:
        if (x, y) == (scene.x, scene.y):
            return style.agent
        if y:
            return " " if not show_goal else style.goal if y == scene.goal_y else style.trap
        if x == junction:
            return " "
        return {HIDDEN: style.hidden, 0: style.oracle}.get(x, style.floor)

    def beside(y: int) -> str:
        """The space above or below the corridor, where the cue shows beside the oracle."""
        cue = style.cue_up if y > 0 else style.cue_down
        return f"  {cue if scene.cue == y else ' '}{left_of_arm[3:]}"

    corridor = "".join(f" {content(x, 0)} " for x in columns)
    width = len(str(max(spec.episode_length, junction)))
    return "\n".join(
        [
            f"{left_of_arm}┌───┐",
            f"{beside(1)}│ {content(junction, 1)} │",
            f"┌{wall}┘   │",
            f"│{corridor}  {content(junction, 0)} │",
            f"└{wall}┐   │",
            f"{beside(-1)}│ {content(junction, -1)} │",
            f"{left_of_arm}└───┘",
            f"t {scene.t:{width}}/{spec.episode_length}  x {scene.x:{width}}  y {scene.y:2}",
        ]
    )
