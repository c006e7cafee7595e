"""T-Maze Long by hand: the corridor moves by itself, and only the last action counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tasks.playing import assert_mean, make_env, returns, uniform

LEFT, RIGHT, UP, DOWN = range(4)


@pytest.mark.parametrize("last", [LEFT, RIGHT, UP, DOWN])
def test_an_episode_step_by_step(last: int) -> None:
    env = make_env("TMazeLong", length=4)
    for seed in range(10):
        cue = env.reset(seed)[1]
        assert cue in (-1, 1)
        seen = [env.observation().tolist()]
        for action in (LEFT, UP, DOWN):
            obs, reward, done = env.step(action)
            seen.append(obs.tolist())
            assert (reward, done) == (0, False)
        obs, reward, done = env.step(last)
        seen.append(obs.tolist())
        assert done
        assert reward == (4 if (cue == 1) == (last in (LEFT, UP)) else -3)
        assert seen == [[1, cue, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_one_cell_is_the_start_and_not_the_end() -> None:
    env = make_env("TMazeLong", length=1)
    cue = env.reset(0)[1]
    obs, _, done = env.step(UP)
    assert done
    assert obs.tolist() == [1, cue, 0]


def test_noise_is_one_more_entry() -> None:
    """-1 or +1 at every step, the first and the last among them, unlike the cue."""
    env = make_env("TMazeLong", length=300, noise=True)
    quiet = make_env("TMazeLong", length=300)
    seen = [env.reset(1)]
    plain = [quiet.reset(1)]
    for _ in range(300):
        seen.append(env.step(RIGHT)[0])
        plain.append(quiet.step(RIGHT)[0])
    noise = np.array(seen)[:, 3]
    np.testing.assert_array_equal(np.array(seen)[:, :3], plain)
    assert set(noise) == {-1, 1}
    assert abs(noise.mean()) < 4 / 300**0.5


@pytest.mark.parametrize("noise", [False, True])
def test_returns(noise: bool) -> None:
    """The oracle earns 4; a guesser 4 or -3, each half of the time."""
    env = make_env("TMazeLong", length=3, noise=noise)
    assert set(returns(env, lambda env: UP if env.cue else DOWN, 50)) == {4.0}
    guesses = returns(env, uniform(4), 300)
    assert set(guesses) == {4.0, -3.0}
    assert_mean(guesses, 0.5)
