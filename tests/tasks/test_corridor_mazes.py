"""The T-Mazes of Bakker and of Lambrechts by hand, and what can be expected of them exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.tasks.playing import assert_mean, make_env, returns, uniform

RIGHT, UP, LEFT, DOWN = range(4)


def looks(env: Any, actions: list[int], seed: int) -> tuple[list[list[float]], list[float], bool]:
    seen, rewards, done = [env.reset(seed).tolist()], [], False
    for action in actions:
        assert not done
        obs, reward, done = env.step(action)
        seen.append(obs.tolist())
        rewards.append(reward)
    return seen, rewards, done


@pytest.mark.parametrize(
    ("task", "cues", "corridor", "junction"),
    [
        ("BakkerTMaze", ([1, 1, 0], [0, 1, 1]), [1, 0, 1], [0, 1, 0]),
        ("LambrechtsTMaze", ([0, 1, 0, 0], [1, 0, 0, 0]), [0, 0, 1, 0], [0, 0, 0, 1]),
    ],
)
def test_an_episode_step_by_step(
    task: str, cues: Any, corridor: list[float], junction: list[float]
) -> None:
    """A bump costs 0.1 wherever it is; the start shows the cue again; a turn ends the episode."""
    env = make_env(task, length=2)
    goals = set()
    for seed in range(20):
        walk = [LEFT, UP, RIGHT, DOWN, LEFT, RIGHT, RIGHT, RIGHT, LEFT, RIGHT]
        env = make_env(task, length=2, episode_length=20)
        for turn in (UP, DOWN):
            seen, rewards, done = looks(env, [*walk, turn], seed)
            cue = cues[env.goal]
            goals.add(env.goal)
            assert done
            wanted = [cue, cue, cue, corridor, corridor, cue, corridor, junction, junction,
                      corridor, junction, junction]  # fmt: skip
            assert seen == wanted
            last = 4 if turn == (UP if env.goal else DOWN) else -0.1
            assert rewards == [-0.1, -0.1, 0, -0.1, 0, 0, 0, -0.1, 0, 0, last]
            assert env.statistics().success == (last == 4)
    assert goals == {0, 1}


def test_time_runs_out() -> None:
    """By default after 3 L steps, as Lambrechts' code recommends, later with chance."""
    assert make_env("BakkerTMaze", length=7).spec.episode_length == 21
    for share in (0.0, 0.2, 0.5):
        env = make_env("LambrechtsTMaze", length=10, stochasticity=share)
        assert env.spec.episode_length == math.ceil(10 / ((1 - share) * (1 / 2 - 1 / 6)))
    env = make_env("BakkerTMaze", length=2, episode_length=3)
    _, rewards, done = looks(env, [LEFT] * 3, 0)
    assert done
    assert rewards == [-0.1] * 3
    assert not env.statistics().success


def expected(length: int, steps: int, chance: float, policy: np.ndarray) -> float:
    """Return of a policy, exactly: the chain over cells, with the goal above.

    Args:
        length: L.
        steps: T.
        chance: λ.
        policy: [L + 1, 4], how often each cell takes each action.
    """
    acted = (1 - chance) * policy + chance / 4
    at, total = np.eye(length + 1)[0], 0.0
    for _ in range(steps):
        onward = np.zeros(length + 1)
        for cell, share in enumerate(at):
            for action in range(4):
                weight = share * acted[cell, action]
                if cell == length and action in (UP, DOWN):
                    total += weight * (4 if action == UP else -0.1)
                    continue
                to = min(max(cell + (action == RIGHT) - (action == LEFT), 0), length)
                total -= 0.1 * weight * (to == cell)
                onward[to] += weight
        at = onward
    return total


@pytest.mark.parametrize("chance", [0.0, 0.3])
def test_returns(chance: float) -> None:
    """The oracle earns 4 where nothing is left to chance, else what the chain says it does."""
    length = 4
    env = make_env("LambrechtsTMaze", length=length, stochasticity=chance)
    steps = env.spec.episode_length

    def oracle(env: Any) -> int:
        return RIGHT if env.cell < length else (UP if env.goal else DOWN)

    straight = np.zeros((length + 1, 4))
    straight[:length, RIGHT] = straight[length, UP] = 1
    best = expected(length, steps, chance, straight)
    earned = returns(env, oracle, 300)
    if chance == 0:
        assert best == 4
        assert set(earned) == {4.0}
        bakker = make_env("BakkerTMaze", length=length)
        assert set(returns(bakker, oracle, 50)) == {4.0}
    else:
        assert 3 < best < 4
        assert_mean(earned, best)
    anywhere = np.full((length + 1, 4), 0.25)
    assert_mean(returns(env, uniform(4), 400), expected(length, steps, chance, anywhere))


def test_chance_takes_every_action() -> None:
    """λ near 1: whatever is chosen, each of the four happens as often."""
    env = make_env("LambrechtsTMaze", length=1, stochasticity=0.999, episode_length=1)
    assert abs(np.mean([env_moves(env, seed) for seed in range(400)]) - 0.25) < 4 * 0.43 / 400**0.5


def env_moves(env: Any, seed: int) -> bool:
    env.reset(seed)
    env.step(LEFT)
    return bool(env.cell == 1)


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.5, float("nan"), "0.1", True])
def test_stochasticity_is_checked(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^stochasticity: expected"):
        make_env("LambrechtsTMaze", stochasticity=bad)
