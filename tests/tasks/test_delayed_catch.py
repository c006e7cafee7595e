"""Delayed Catch's rules by hand: who follows the ball earns one a run, who does not a seventh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.reference.delayed_catch import DelayedCatch
from fastmaze.specs import make_spec

LEFT, STAY, RIGHT = range(3)


def board(row: int, ball: int, paddle: int) -> np.ndarray:
    wanted = np.zeros((7, 7), np.float32)
    wanted[row, ball] = wanted[6, paddle] = 1
    return wanted


def test_two_runs_step_by_step() -> None:
    """Six steps of falling, one empty one, and all that was caught paid at the last step."""
    env = DelayedCatch(make_spec("DelayedCatch", runs=2))
    obs = env.reset(2)
    ball = env.ball
    np.testing.assert_array_equal(obs, board(0, ball, 3))
    paddle = 3
    for row in range(1, 7):
        action = STAY if paddle == ball else LEFT if ball < paddle else RIGHT
        paddle += action - 1
        obs, reward, done = env.step(action)
        np.testing.assert_array_equal(obs, board(row, ball, paddle))
        assert (reward, done) == (0.0, False)
    assert env.caught == 1
    obs, reward, done = env.step(RIGHT)  # the empty step: no action matters
    np.testing.assert_array_equal(obs, board(0, env.ball, 3))
    assert (reward, done) == (0.0, False)
    ball = env.ball
    side = RIGHT if ball <= 3 else LEFT  # away from the ball, into the wall
    for row in range(1, 7):
        obs, reward, done = env.step(side)
        wall = min(3 + row, 6) if side == RIGHT else max(3 - row, 0)
        np.testing.assert_array_equal(obs, board(row, ball, wall))
    assert (reward, done) == (1.0, True)
    assert env.spec.episode_length == env.t == 13


def test_a_run_that_is_missed() -> None:
    env = DelayedCatch(make_spec("DelayedCatch", runs=1))
    env.reset(0)
    rewards = [env.step(LEFT if env.ball > 3 else RIGHT)[1] for _ in range(6)]
    assert rewards == [0.0] * 6
    assert env.statistics()[:3] == (0.0, 6, False)


@pytest.mark.parametrize("random_paddle", [False, True])
def test_the_oracle_catches_all(random_paddle: bool) -> None:
    env = DelayedCatch(make_spec("DelayedCatch", random_paddle=random_paddle))
    for seed in range(4):
        obs, done, earned = env.reset(seed), False, 0.0
        while not done:
            # What is seen is enough: the ball is above the paddle's row until it is down.
            balls = np.flatnonzero(obs[:6].any(0))
            paddle = np.flatnonzero(obs[6])[0]
            action = 1 + int(np.sign(balls[0] - paddle)) if balls.size else STAY
            obs, reward, done = env.step(action)
            assert reward == 0 or done
            earned += reward
        assert earned == 40
        assert env.statistics()[:3] == (40.0, 7 * 39 + 6, True)


def test_random_agents_catch_a_seventh() -> None:
    """The ball's column is uniform and the paddle knows nothing of it: runs / 7 exactly."""
    n, runs = 2048, 10
    envs = fastmaze.make_vec("DelayedCatch", num_envs=n, runs=runs)
    envs.reset(seed=3)
    generator = np.random.default_rng(2)
    for _ in range(7 * runs - 1):
        _, reward, terminated, _, info = envs.step(generator.integers(0, 3, n))
    assert terminated.all()
    np.testing.assert_array_equal(info["episode_return"], reward)
    assert abs(reward.mean() - runs / 7) < 4 * (runs * 6 / 49 / n) ** 0.5


@pytest.mark.parametrize("random_paddle", [False, True])
def test_starts_are_even(random_paddle: bool) -> None:
    """All pairs of columns that the rules allow come up alike, in early and in late runs."""
    spec = make_spec("DelayedCatch", runs=9, random_paddle=random_paddle)
    wanted = {(ball, paddle) for paddle in range(1, 5) for ball in range(6)}
    assert set(spec.starts) == (wanted if random_paddle else {(ball, 3) for ball in range(7)})
    envs = fastmaze.make_vec("DelayedCatch", num_envs=2400, runs=9, random_paddle=random_paddle)
    obs, _ = envs.reset(seed=8)
    for run in range(9):
        ball, paddle = obs[:, 0].argmax(1), obs[:, 6].argmax(1)
        pairs, counts = np.unique(np.stack([ball, paddle]), axis=1, return_counts=True)
        assert {tuple(pair) for pair in pairs.T.tolist()} == set(spec.starts)
        mean = 2400 / len(spec.starts)
        assert abs(counts - mean).max() < 5 * mean**0.5
        for _ in range(7 if run < 8 else 6):
            obs = envs.step(np.ones(2400, np.int64))[0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"runs": 0}, ValueError, "runs: expected an integer from 1"),
        ({"runs": 2**22}, ValueError, "runs"),
        ({"runs": 1.5}, TypeError, "runs"),
        ({"random_paddle": 1}, TypeError, "random_paddle: expected True or False"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_spec("DelayedCatch", **options)
