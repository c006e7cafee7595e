"""Pictures of tasks on a grid: a part of a large one, and all that is on it told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.envs.grid_rendering import BACKGROUNDS, SHAPES, TILE, GridRenderer
from fastmaze.reference.grid import GridEnv
from fastmaze.specs import TASKS, make_spec

GRIDS = [name for name, task in TASKS.items() if task.family.load("renderer") is GridRenderer]


def tile(image: Any, row: int, column: int) -> np.ndarray:
    return image[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]


@pytest.mark.parametrize("task", GRIDS)
def test_every_character_has_a_tile_of_its_own(task: str) -> None:
    """Over an episode of random actions, whatever is not floor looks like nothing else."""
    spec = make_spec(task)
    env: GridEnv = TASKS[task].family.load("reference")(spec)
    picture = GridRenderer(spec, "rgb_array")
    generator = np.random.default_rng(3)
    looks: dict[bytes, str] = {}
    for seed in range(4):
        env.reset(seed)
        for _ in range(30):
            if env.over:
                break
            image = picture.frame(env)
            rows, columns = env.grid_shape
            for row in range(rows):
                for column in range(columns):
                    mark = env.character(row, column)
                    assert mark in SHAPES or mark in BACKGROUNDS or mark == "·"
                    if env.is_in_view(row, column):
                        found = tile(image, row, column).tobytes()
                        assert looks.setdefault(found, mark) == mark
            env.step(int(generator.integers(spec.num_actions)))
    assert len(looks) > 3


def test_a_large_grid_is_shown_around_the_player() -> None:
    """25 × 41 cells, always as many, the player in the middle where there is room."""
    env = fastmaze.make("HeavenHell", size=60, render_mode="ansi")
    env.reset(seed=0)
    frames = [env.render()]
    for action in [0] * 60 + [2] * 60:
        env.step(action)
        frames.append(env.render())
    cells = [frame.split("\n")[:-1] for frame in frames]
    assert {(len(lines), len(line)) for lines in cells for line in lines} == {(25, 41)}
    places = [next((r, line.index("●")) for r, line in enumerate(lines) if "●" in line)
              for lines in cells]  # fmt: skip
    assert places[0] == (23, 20)  # above the way to the priest, the last row
    assert places[30] == (12, 20)
    assert places[60] == (0, 20)
    assert places[-1] == (0, 40)


def test_what_the_agent_does_not_see_is_darker() -> None:
    env = fastmaze.make("MiniGridMemory", size=9, render_mode="rgb_array")
    context = {"hallway_end": 6, "start": 2, "cue": "key", "upper": "ball"}
    env.reset(options={"context": context})
    image = env.render()
    assert image.shape == (9 * TILE, 9 * TILE, 3)
    ahead, behind = tile(image, 4, 3), tile(image, 4, 1)
    np.testing.assert_array_equal(behind, ahead // 5 * 3)
