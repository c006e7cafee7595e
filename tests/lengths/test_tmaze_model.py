"""The T-Maze's model is the executable specification, told as a table."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastmaze.lengths import TMazeModel
from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import make_spec

TASKS: list[tuple[str, dict[str, Any]]] = [
    ("PassiveTMaze", dict(length=3)),
    ("ActiveTMaze", dict(length=3)),
    ("PassiveTMaze", dict(length=3, penalty_rule="action", add_timestep=True)),
    ("ActiveTMaze", dict(length=2, ambiguous_position=False, distract_reward=0.5)),
    ("TMaze", dict(corridor_length=2, oracle_length=2, expose_goal=True, goal_reward=2.5)),
]


@pytest.mark.parametrize(("task", "options"), TASKS, ids=str)
def test_random_walks(task: str, options: dict[str, Any]) -> None:
    spec = make_spec(task, **options)
    model, env, rng = TMazeModel(spec), TMaze(spec), np.random.default_rng(0)
    for goal in (-1, 1) * 20:
        shown = env.reset(seed=0, goal_y=goal)
        start = model.start()
        i = int(goal > 0)
        state = int(start.state[i])
        assert model.observation_name(int(start.obs[i])) == str([int(x) for x in shown])
        for t in range(1, spec.episode_length + 1):
            # Mostly right, so that the walks get to the junction.
            action = int(rng.integers(4)) if rng.random() < 0.4 else 0
            kernel = model.kernel(t)
            row = state * 4 + action
            assert kernel.first[row + 1] == kernel.first[row] + 1
            entry = kernel.first[row]
            paid = model.rewards(t, np.array([state]))[0, action]
            shown, reward, _ = env.step(action)
            assert model.observation_name(int(kernel.obs[entry])) == str([int(x) for x in shown])
            assert float(Fraction(int(paid), model.reward_unit)) == reward
            state = int(kernel.state[entry])


def test_the_penalty_is_the_fraction_that_is_meant() -> None:
    """-1/L as a float times L is not -1 for every L."""
    for length in (3, 7, 49, 1499, 999_983):
        model = TMazeModel(make_spec("PassiveTMaze", length=length))
        assert model.reward_unit == length
        assert not model.rounded


def test_rewards_beyond_64_bits() -> None:
    model = TMazeModel(make_spec("PassiveTMaze", length=2, goal_reward=1e30))
    assert int(model.rewards(3, np.arange(model.num_states(3))).max()) == int(1e30) * 2
