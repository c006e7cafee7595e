"""bsuite's Catch, run by run, beside DelayedCatch: every board, and which balls were caught."""

from __future__ import annotations

import numpy as np
import pytest

import fastmaze
from fastmaze.bench import peers
from tests.packages.replaying import load

pytest.importorskip("bsuite", reason="bsuite is not installed: pip install bsuite")


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_replay(backend: str) -> None:
    runs, n = 40, 20
    ours = fastmaze.make_vec("DelayedCatch", num_envs=n, runs=runs, backend=backend)
    obs, _ = ours.reset(seed=0)
    theirs = [
        load("bsuite.environments.catch", "Catch", rows=7, columns=7, seed=i) for i in range(n)
    ]
    generator = np.random.default_rng(1)
    caught = np.zeros(n)
    for run in range(runs):
        for i, env in enumerate(theirs):
            env.reset()
            env._ball_x = obs[i, 0].argmax()  # what is drawn; all else must follow
            np.testing.assert_array_equal(obs[i], env._observation())
        for _ in range(6):
            # To the ball, or at random.
            way = 1 + np.sign([env._ball_x - env._paddle_x for env in theirs]).astype(np.int64)
            actions = np.where(generator.random(n) < 0.5, way, generator.integers(0, 3, n))
            obs, reward, terminated, _, info = ours.step(actions)
            for i, env in enumerate(theirs):
                timestep = env.step(actions[i])
                np.testing.assert_array_equal(obs[i], timestep.observation)
                caught[i] += timestep.last() and timestep.reward > 0
        if run < runs - 1:
            assert not terminated.any()
            assert not reward.any()
            obs = ours.step(generator.integers(0, 3, n))[0]
    assert terminated.all()
    np.testing.assert_array_equal(reward, caught)
    np.testing.assert_array_equal(info["episode_return"], caught)
    assert 5 * n < caught.sum() < runs * n


def test_the_benchmark_steps_it() -> None:
    _, make = peers.PUBLISHED["DelayedCatch"]
    step = make(fastmaze.make_vec("DelayedCatch").task_spec, 3, 1)
    for _ in range(20):
        step()
