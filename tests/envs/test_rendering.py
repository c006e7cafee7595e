"""Pictures: right in every maze, of one size in each, and showing what they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastmaze
from fastmaze.envs.rendering import (
    HIDDEN,
    MAX_COLUMNS,
    RENDER_MODES,
    Renderer,
    Scene,
    draw_text,
    visible_columns,
)

lengths = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 10_000, 1_000_000]))


@st.composite
def places(draw: Any) -> tuple[fastmaze.TMazeSpec, int]:
    """A maze of any size, and an x in it."""
    spec = fastmaze.make_spec(
        "TMaze", corridor_length=draw(lengths), oracle_length=draw(st.integers(0, 40))
    )
    return spec, draw(st.integers(0, spec.junction))


@given(places(), st.integers(9, MAX_COLUMNS))
def test_columns_hold_what_matters(place: tuple[fastmaze.TMazeSpec, int], width: int) -> None:
    """The landmarks and the agent, in order, in the width that there is, with marks for gaps."""
    spec, x = place
    columns = visible_columns(spec, x, width)
    assert len(columns) == min(spec.junction + 1, width)
    assert {0, spec.oracle_length, spec.junction, x} <= set(columns)
    at = -1
    for i, column in enumerate(columns):
        if column == HIDDEN:
            assert columns[i + 1] - columns[i - 1] > 2  # a single cell is shown, not hidden
            at = columns[i + 1] - 1
        else:
            assert column == at + 1
            at = column


@given(places(), st.sampled_from([-1, 1]), st.sampled_from([-1, 0, 1]), st.booleans())
def test_text_of_any_scene(
    place: tuple[fastmaze.TMazeSpec, int], goal_y: int, y: int, cue: bool
) -> None:
    """One agent, at the right height; the goal where it is; the cue beside the oracle."""
    spec, x = place
    y = y if x == spec.junction else 0
    lines = draw_text(spec, Scene(x, y, 0, goal_y, goal_y * cue)).split("\n")
    assert len(lines) == 8
    text = "\n".join(lines[:7])
    agents = [line.count("●") for line in lines]
    assert agents == [0, int(y == 1), 0, int(y == 0), 0, int(y == -1), 0, 0]
    assert ("★" in lines[3 - 2 * goal_y]) == (y != goal_y)
    assert ("×" in lines[3 + 2 * goal_y]) == (y != -goal_y)
    assert text.count("▲") == int(cue and goal_y == 1)
    assert text.count("▼") == int(cue and goal_y == -1)
    assert all(len(line) <= 80 for line in lines)


def test_text_of_a_known_scene() -> None:
    spec = fastmaze.make_spec("PassiveTMaze", length=100)
    assert draw_text(spec, Scene(50, 0, 50, 1, 0), max_columns=9).split("\n")[:-1] == [
        "                         ┌───┐",
        "                         │ ★ │",
        "┌──────   ─────────   ───┘   │",
        "│ ◎  ·  ≈  ·  ●  ·  ≈  ·     │",
        "└──────   ─────────   ───┐   │",
        "                         │ × │",
        "                         └───┘",
    ]


def test_player_sees_no_goal() -> None:
    spec = fastmaze.make_spec("PassiveTMaze")
    text = draw_text(spec, Scene(3, 0, 3, 1, 0), show_goal=False)
    assert not set("★×▲▼") & set(text)


@pytest.mark.parametrize("mode", RENDER_MODES)
@pytest.mark.parametrize(
    ("task", "length"), [("PassiveTMaze", 1), ("ActiveTMaze", 5), ("PassiveTMaze", 2000)]
)
def test_frames_of_one_env_have_one_size_and_differ(mode: str, task: str, length: int) -> None:
    env = fastmaze.make(task, length=length, render_mode=mode)
    env.reset(seed=0)
    frames = [env.render()]
    for t in range(env.task_spec.episode_length):
        env.step(0 if t < length else 1)
        if t < 12 or t > length - 3:
            frames.append(env.render())
    if mode == "ansi":
        shapes = {tuple(map(len, frame.split("\n"))) for frame in frames}
        differ = len(set(frames))
    else:
        assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in frames)
        shapes = {frame.shape for frame in frames}
        differ = len({frame.tobytes() for frame in frames})
    assert len(shapes) == 1
    assert differ == len(frames)  # each step is seen


def test_pixels_show_agent_goal_and_cue() -> None:
    """Changing one thing changes pixels where that thing is, and nowhere else."""
    spec = fastmaze.make_spec("PassiveTMaze", length=9)
    renderer = Renderer(spec, "rgb_array")

    def changed(a: Scene, b: Scene) -> set[tuple[int, int]]:
        """(row, column) of the cells, 3 by 10, in which the pictures differ."""
        differs = (renderer.frame(a) != renderer.frame(b)).any(axis=2)[16:-16, 16:-16]
        blocks = differs.reshape(3, 32, 10, 32).any(axis=(1, 3))
        return set(zip(*map(np.ndarray.tolist, np.nonzero(blocks)), strict=True))

    base = Scene(4, 0, 4, 1, 0)
    assert changed(base, base) == set()
    assert changed(base, Scene(5, 0, 4, 1, 0)) == {(1, 4), (1, 5)}
    assert changed(base, Scene(4, 0, 4, -1, 0)) == {(0, 9), (2, 9)}
    assert changed(base, Scene(4, 0, 4, 1, 1)) == {(0, 0)}
    assert changed(base, Scene(4, 0, 4, 1, -1)) == {(2, 0)}


@pytest.mark.parametrize("mode", RENDER_MODES)
@pytest.mark.parametrize("backend", ["native", "numba", "device", "reference"])
@pytest.mark.parametrize("expose_goal", [False, True])
def test_population_renders_each_env(mode: str, backend: str, expose_goal: bool) -> None:
    """One frame per env, equal to the single env's, cue included."""
    options: dict[str, Any] = {
        "corridor_length": 3,
        "oracle_length": 1,
        "episode_length": 6,
        "expose_goal": expose_goal,
    }
    envs = fastmaze.make_vec("TMaze", num_envs=3, backend=backend, render_mode=mode, **options)
    singles = [fastmaze.make("TMaze", env_index=i, render_mode=mode, **options) for i in range(3)]
    envs.reset(seed=5)
    for env in singles:
        env.reset(seed=5)
    for action in (2, 0, 0, 0, 0, 1):
        frames = envs.render()
        assert isinstance(frames, tuple)
        for frame, env in zip(frames, singles, strict=True):
            np.testing.assert_array_equal(frame, env.render())
            env.step(action)
        envs.step(np.full(3, action))


def test_population_without_a_mode_says_so() -> None:
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=2)
    envs.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert envs.render() is None
