"""A spec is right or refused, and the refusal names the option."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import MAX_LENGTH, TMazeSpec, make_spec
from tests.backends.strategies import specs


@given(st.integers(1, 10_000))
def test_the_papers_tasks(length: int) -> None:
    passive = make_spec("PassiveTMaze", length=length)
    active = make_spec("ActiveTMaze", length=length)
    assert (passive.oracle_length, passive.episode_length) == (0, length + 1)
    assert (active.oracle_length, active.episode_length) == (1, length + 3)
    assert passive.penalty == active.penalty == -1 / length
    assert passive.ambiguous_position
    assert passive.tight_length == passive.episode_length
    assert make_spec("TMaze", corridor_length=length).episode_length == length + 1


def test_paper_settings_can_be_overridden() -> None:
    spec = make_spec("ActiveTMaze", length=5, ambiguous_position=False, expose_goal=True)
    assert (spec.expose_goal, spec.obs_dim, spec.episode_length) == (True, 3, 8)
    assert make_spec("PassiveTMaze", length=np.int64(7), penalty=0).penalty == 0
    for half in (np.float32(0.5), np.array(0.5), Fraction(1, 2)):
        reward = make_spec("PassiveTMaze", goal_reward=half).goal_reward
        assert (type(reward), reward) == (float, 0.5)


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        ("PassiveTMaze", {"length": 0}, ValueError, "length: expected an integer from 1"),
        ("PassiveTMaze", {"length": MAX_LENGTH}, ValueError, "length: expected an integer"),
        ("PassiveTMaze", {"length": 2.0}, TypeError, "length: expected an integer, got 2.0"),
        ("PassiveTMaze", {"length": True}, TypeError, "length"),
        ("PassiveTMaze", {"lenght": 3}, TypeError, "did you mean 'length'"),
        ("PassiveTMaze", {"corridor_length": 3}, TypeError, "no option 'corridor_length'"),
        ("PassiveTMaze", {"penalty": 0.1}, ValueError, "penalty: expected a number <= 0"),
        ("PassiveTMaze", {"penalty": "x"}, TypeError, "penalty"),
        ("PassiveTMaze", {"penalty": float("nan")}, ValueError, "penalty"),
        ("TMaze", {"goal_reward": 1e39}, ValueError, "goal_reward"),
        ("TMaze", {"oracle_length": -1}, ValueError, "oracle_length"),
        ("TMaze", {"episode_length": 0}, ValueError, "episode_length"),
        ("TMaze", {"add_timestep": 1}, TypeError, "add_timestep"),
        ("TMaze", {"goal_reward": True}, TypeError, "goal_reward: expected a number"),
        ("TMaze", {"goal_reward": np.True_}, TypeError, "goal_reward: expected a number"),
        ("TMaze", {"goal_reward": np.array(True)}, TypeError, "goal_reward: expected a number"),
        ("TMaze", {"goal_reward": np.array("1")}, TypeError, "goal_reward: expected a number"),
        ("TMaze", {"goal_reward": np.ones(1)}, TypeError, "goal_reward: expected a number"),
        ("TMaze", {"goal_reward": 1j}, TypeError, "goal_reward: expected a number"),
        ("TMaze", {"goal_reward": 10**400}, ValueError, "goal_reward: expected a finite number"),
        ("TMaze", {"penalty": -2.9e38, "distract_reward": -2.9e38},
         ValueError, "penalty + distract_reward: expected a finite number within float32"),
        ("TMaze", {"penalty_rule": np.array(["pace", "x"])}, ValueError, "penalty_rule"),
        ("TMaze", {"penalty_rule": "none"}, ValueError, "penalty_rule"),
        ("TMaze", {"penalty_rule": "action", "distract_reward": 1}, ValueError, "distract_reward"),
        ("TMaze", {"expose_goal": True, "ambiguous_position": True}, ValueError, "expose_goal"),
        ("TMaze", {"corridor_length": MAX_LENGTH, "oracle_length": 5, "episode_length": 9},
         ValueError, "corridor_length"),
        ("PassiveTmaze", {}, ValueError, "did you mean 'PassiveTMaze'"),
        (3, {}, TypeError, "task"),
    ],
)  # fmt: skip
def test_refuses(task: Any, options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make_spec(task, **options)


@given(specs(), specs())
def test_fingerprint_tells_specs_apart(one: TMazeSpec, other: TMazeSpec) -> None:
    assert (one.fingerprint == other.fingerprint) == (one == other)


@given(specs(), st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_bounds_hold(spec: TMazeSpec, actions: list[int]) -> None:
    maze = TMaze(spec)
    obs = maze.reset(seed=1)
    for action in actions:
        assert obs.shape == (spec.obs_dim,)
        assert np.all(obs >= spec.obs_low)
        assert np.all(obs <= spec.obs_high)
        obs, _, done = maze.step(action)
        if done:
            obs = maze.reset()


@pytest.mark.parametrize(("task", "first"), [("PassiveTMaze", []), ("ActiveTMaze", [2, 0])])
@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_what_the_paper_promises(task: str, first: list[int], length: int) -> None:
    """The optimal agent earns 1, without memory ½, standing still −1 (passive)."""
    maze = TMaze(make_spec(task, length=length))
    earned = {"memory": [], "guess": [], "still": []}  # type: ignore[var-annotated]
    for seed in range(40):
        for agent in earned:
            maze.reset(seed=seed)
            up = maze.goal_y > 0 if agent == "memory" else True
            walk = [*first, *[0] * length, 1 if up else 3]
            actions = walk if agent != "still" else [2] * maze.spec.episode_length
            earned[agent].append(sum(maze.step(a)[1] for a in actions))
    assert earned["memory"] == [1.0] * 40
    assert set(earned["guess"]) == {0.0, 1.0}
    assert abs(np.mean(earned["guess"]) - 0.5) < 0.25
    if task == "PassiveTMaze":
        np.testing.assert_allclose(earned["still"], -1.0)
