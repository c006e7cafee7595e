"""HeavenHell's rules by hand: who asks the priest earns 1 in 4n + 3 steps, who guesses 0."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.reference.heaven_hell import MOVES, HeavenHell
from fastmaze.specs import make_spec

NORTH, SOUTH, EAST, WEST = range(4)


def oracle(size: int) -> Any:
    """Walks to the priest and back, then to the arm that was named; sees observations alone."""
    heard = yield SOUTH
    for _ in range(size):
        heard = yield EAST
    way = EAST if heard[2] > 0 else WEST
    assert heard[2] in (-1, 1)
    for action in [WEST] * size + [NORTH] * (size + 1) + [way] * size:
        heard = yield action
    yield SOUTH  # any action


def play(env: HeavenHell, seed: int) -> tuple[list[float], bool]:
    agent, rewards, done = oracle(env.spec.size), [], False
    env.reset(seed)
    action = next(agent)
    while not done:
        obs, reward, done = env.step(action)
        rewards.append(reward)
        if not done:
            action = agent.send(obs)
    return rewards, env.statistics().cue_seen


@pytest.mark.parametrize("size", [1, 3, 10])
def test_the_oracle_earns_one_in_the_last_step_that_there_is(size: int) -> None:
    env = HeavenHell(make_spec("HeavenHell", size=size))
    heavens = set()
    for seed in range(20):
        rewards, asked = play(env, seed)
        assert rewards == [0.0] * (4 * size + 2) + [1.0]
        assert asked
        assert env.statistics().success
        heavens.add(env.heaven)
    assert heavens == {-1, 1}
    assert env.spec.episode_length == 4 * size + 3


def test_one_step_less_is_too_little() -> None:
    env = HeavenHell(make_spec("HeavenHell", size=2, episode_length=10))
    rewards, _ = play(env, 0)
    assert rewards == [0.0] * 10
    assert not env.statistics().success


def test_what_is_seen() -> None:
    """The first cell looks different later, the priest alone says which arm is heaven."""
    env = HeavenHell(make_spec("HeavenHell", size=2, episode_length=30))
    context = env.spec.encode_context("heaven", -1)
    np.testing.assert_array_equal(env.reset(0, context), [0, 0, 0, 1])
    walk = [SOUTH, NORTH, SOUTH, EAST, EAST, EAST, WEST, WEST, WEST, NORTH, WEST]
    seen = [[0, -1, 0, 0], [0, 0, 0, 0], [0, -1, 0, 0], [1, -1, 0, 0], [2, -1, -1, 0],
            [2, -1, -1, 0], [1, -1, 0, 0], [0, -1, 0, 0], [0, -1, 0, 0], [0, 0, 0, 0],
            [0, 0, 0, 0]]  # fmt: skip
    for action, wanted in zip(walk, seen, strict=True):
        np.testing.assert_array_equal(env.step(action)[0], wanted)


@pytest.mark.parametrize(("side", "pays"), [(WEST, 1), (EAST, -1)])
@pytest.mark.parametrize("last", range(4))
def test_whatever_is_done_at_an_arms_end_pays(side: int, pays: int, last: int) -> None:
    env = HeavenHell(make_spec("HeavenHell", size=2, episode_length=30))
    env.reset(0, env.spec.encode_context("heaven", -1))
    for action in [NORTH, NORTH, side, side]:
        assert env.step(action)[1:] == (0.0, False)
    obs, reward, done = env.step(last)
    assert (reward, done) == (pays, True)
    np.testing.assert_array_equal(obs, [0, 0, 0, 0])
    statistics = env.statistics()
    assert statistics[:4] == (pays, 5, pays > 0, False)


def test_the_floor_is_what_the_picture_shows() -> None:
    """From every cell, exactly the moves into cells of the picture that are not blank succeed."""
    env = HeavenHell(make_spec("HeavenHell", size=3, episode_length=100))
    env.reset(0)
    rows, columns = env.grid_shape
    floor = {
        (column - 3, 3 - row)
        for row in range(rows)
        for column in range(columns)
        if env.character(row, column) != " "
    }
    assert len(floor) == 4 * 3 + 2
    for x, y in floor - {(3, 3), (-3, 3)}:
        for action, (right, up) in enumerate(MOVES):
            env.reset()
            env.x, env.y = x, y
            env.step(action)
            to = (x + right, y + up)
            assert (env.x, env.y) == (to if to in floor else (x, y))


def test_random_agents_earn_nothing_on_average() -> None:
    """Heaven is left as often as right, and to them both ways are the same; 0 by symmetry."""
    envs = fastmaze.make_vec("HeavenHell", num_envs=4096, size=1, episode_length=60)
    envs.reset(seed=1)
    earned = np.zeros(4096)
    open_ = np.ones(4096, bool)
    generator = np.random.default_rng(0)
    for _ in range(60):
        _, reward, terminated, _, _ = envs.step(generator.integers(0, 4, 4096))
        earned += np.where(open_, reward, 0)
        open_ &= ~terminated
    assert not open_.any()
    assert set(np.unique(earned)) == {-1, 0, 1}
    # Most walks of 60 steps come to an end of a maze of six cells.
    assert abs(earned).mean() > 0.9
    assert abs(earned.mean()) < 4 * (abs(earned).mean() / 4096) ** 0.5


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_heaven_can_be_set(backend: str) -> None:
    envs = fastmaze.make_vec("HeavenHell", num_envs=3, size=1, backend=backend)
    envs.reset(seed=0, options={"heaven": [-1, 1, -1]})
    obs = [envs.step(np.full(3, action))[0] for action in (SOUTH, EAST)][-1]
    np.testing.assert_array_equal(obs[:, 2], [-1, 1, -1])
    with pytest.raises(ValueError, match=re.escape("options['heaven'][1]: expected -1 or +1")):
        envs.reset(options={"heaven": [-1, 0, -1]})
    with pytest.raises(TypeError, match="expected an integer"):
        envs.reset(options={"heaven": [-1, "right", -1]})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": 0}, ValueError, "size: expected an integer from 1"),
        ({"size": 2.0}, TypeError, "size"),
        ({"size": 2**23}, ValueError, "size"),
        ({"episode_length": 0}, ValueError, "episode_length: expected an integer from 1"),
        ({"episode_length": True}, TypeError, "episode_length"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_spec("HeavenHell", **options)
