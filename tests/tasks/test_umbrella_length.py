"""Umbrella Length's rules by hand: the first action decides the last reward, and nothing else."""

from __future__ import annotations

import numpy as np

from tests.tasks.playing import assert_mean, make_env, play, returns


def test_an_episode_step_by_step() -> None:
    """Later actions change nothing; the time runs down; one bit a distractor."""
    env = make_env("UmbrellaLength", length=3, distractors=2)
    for seed in range(20):
        for choice in (0, 1):
            first = env.reset(seed)
            assert first[0] == env.need
            assert first[1] == env.has
            rewards, seen = [], [first]
            for action in (choice, 1 - choice, 1 - choice):
                obs, reward, done = env.step(action)
                rewards.append(reward)
                seen.append(obs)
            assert done
            assert all(obs[1] == choice for obs in seen[1:])
            np.testing.assert_array_equal(
                [obs[2] for obs in seen], np.array([1, 1 - 1 / 3, 1 - 2 / 3, 0], np.float32)
            )
            assert set(rewards[:2]) <= {-1, 1}
            assert rewards[2] == (1 if choice == env.need else -1)


def test_noise_is_noise() -> None:
    """Every distractor and every early reward is +1 or 1 half of the time; the same for a seed."""
    env = make_env("UmbrellaLength", length=400, distractors=127)
    seen, rewards = [env.reset(5)[3:]], []
    for _ in range(399):
        obs, reward, _ = env.step(0)
        seen.append(obs[3:])
        rewards.append(reward)
    bits = np.array(seen)
    assert set(np.unique(bits)) == {0, 1}
    # 127 columns: five standard errors.
    assert abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / 400**0.5
    assert abs(np.mean(rewards)) < 4 / 399**0.5
    # No distractor tells the reward, nor another distractor.
    table = np.column_stack([bits[1:], rewards])
    correlation = np.corrcoef(table.T) - np.eye(128)
    assert abs(correlation).max() < 6 / 400**0.5


def test_returns() -> None:
    """The oracle's last reward is 1; a guesser's return is 0 on average."""
    env = make_env("UmbrellaLength", length=6)
    oracle = returns(env, lambda env: env.need, 300)
    assert env.statistics().success
    assert_mean(oracle, 1.0)
    for seed in range(50):
        gain = play(env, lambda env: env.need, seed) - play(env, lambda env: 1 - env.need, seed)
        assert gain == 2
    assert_mean(returns(env, lambda env: 1, 300), 0.0)
