"""FastMazePufferEnv keeps PufferLib's contract, and is the population that make_vec makes.

A wrapper that resets a step late, that shifts a buffer or that gives two workers the same mazes
still trains; only the comparison with `fastmaze.make_vec`, bit for bit, shows it.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pufferlib", reason="nox -s pufferlib")

import pufferlib
import pufferlib.vector
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

import fastmaze
from fastmaze.integrations.pufferlib import FastMazePufferEnv
from tests.integrations.pufferlib.conftest import WAYS

TASKS: dict[str, dict[str, Any]] = {
    "PassiveTMaze": {"length": 5},
    "ActiveTMaze": {"length": 3},
    "KeyToDoor": {"length": 4},
    "BakkerTMaze": {"length": 4},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", TASKS)
def test_is_the_population_of_make_vec(task: str, way: str, make: Callable[..., Any]) -> None:
    """Whatever splits it, a population has one stream: that of make_vec in mode SameStep."""
    same = fastmaze.make_vec(task, num_envs=12, autoreset_mode="SameStep", **TASKS[task])
    envs = make(task, num_envs=12, **WAYS[way], **TASKS[task])
    assert envs.num_agents == envs.agents_per_batch == 12
    generator = np.random.default_rng(1)
    ended = 0
    for seed in (7, 2**40):
        envs.async_reset(seed)
        obs, reward, terminal, truncation = envs.recv()[:4]
        np.testing.assert_array_equal(obs, same.reset(seed=seed)[0])
        assert obs.dtype == same.single_observation_space.dtype
        assert not np.concatenate((reward, terminal, truncation)).any()
        for _ in range(60):
            actions = generator.integers(0, same.single_action_space.n, 12).astype(np.int32)
            envs.send(actions)
            received = envs.recv()
            for got, wanted in zip(received[:4], same.step(actions)[:4], strict=True):
                assert got.dtype == wanted.dtype
                np.testing.assert_array_equal(got, wanted)
            assert received[-1].all()  # masks: every copy is always there
            ended += int(received[2].sum())
    assert ended


@pytest.mark.parametrize("way", WAYS)
def test_an_offset_is_the_populations(way: str, make: Callable[..., Any]) -> None:
    """With env_offset, too, no two workers have the same mazes."""
    same = fastmaze.make_vec(
        "PassiveTMaze", num_envs=48, length=3, env_offset=1000, autoreset_mode="SameStep"
    )
    envs = make("PassiveTMaze", num_envs=48, length=3, env_offset=1000, **WAYS[way])
    envs.async_reset(0)
    np.testing.assert_array_equal(envs.recv()[0], same.reset(seed=0)[0])
    actions = np.zeros(48, np.int32)
    for _ in range(5):
        envs.send(actions)
        np.testing.assert_array_equal(envs.recv()[0], same.step(actions)[0])


@pytest.mark.parametrize("way", WAYS)
def test_the_last_seed(way: str, make: Callable[..., Any]) -> None:
    """Vectorisations add the number of a worker to the seed, even to the largest."""
    same = fastmaze.make_vec("PassiveTMaze", num_envs=48, length=3, autoreset_mode="SameStep")
    envs = make("PassiveTMaze", num_envs=48, length=3, **WAYS[way])
    envs.async_reset(2**64 - 1)
    np.testing.assert_array_equal(envs.recv()[0], same.reset(seed=2**64 - 1)[0])


def test_plain_vectorisation_is_one_population() -> None:
    """PufferLib's own `make`, without make_puffer_vec, gives no two workers the same mazes."""
    same = fastmaze.make_vec("PassiveTMaze", num_envs=64, length=3, autoreset_mode="SameStep")
    envs = pufferlib.vector.make(
        FastMazePufferEnv,
        env_kwargs={"task": "PassiveTMaze", "num_envs": 16, "length": 3},
        backend=pufferlib.vector.Serial,
        num_envs=4,
    )
    np.testing.assert_array_equal(envs.reset(seed=5)[0], same.reset(seed=5)[0])
    envs.close()


def directly(seed: int | None) -> Any:
    """PufferLib's Serial of two, made without `pufferlib.vector.make`."""
    kwargs = {"task": "PassiveTMaze", "num_envs": 32, "length": 3}
    return pufferlib.vector.Serial(
        [FastMazePufferEnv] * 2, [[]] * 2, [kwargs] * 2, num_envs=2, seed=seed
    )


def test_a_vectorisation_made_with_a_seed() -> None:
    """What the docstring says of it: other copies, and the seed is taken off."""
    same = fastmaze.make_vec(
        "PassiveTMaze", num_envs=64, length=3, env_offset=42 * 32, autoreset_mode="SameStep"
    )
    np.testing.assert_array_equal(directly(42).reset(seed=50)[0], same.reset(seed=8)[0])


def test_a_vectorisation_made_without_a_seed() -> None:
    """No two of its envs share mazes, nor do two of such vectorisations."""
    cues = []
    for _ in range(2):
        envs = directly(None)
        envs.async_reset()
        cues += [envs.recv()[0][:32, 1].copy(), envs.observations[32:, 1].copy()]
        envs.reset(seed=1)
        cues += [envs.observations[:32, 1].copy(), envs.observations[32:, 1].copy()]
    assert len({cue.tobytes() for cue in cues}) == 6  # reset(seed=1) twice, the same


def test_goes_on_without_a_seed() -> None:
    """A reset that names no seed starts the next episodes of the streams that are there."""
    same = fastmaze.make_vec("PassiveTMaze", num_envs=32, length=3, autoreset_mode="SameStep")
    env = FastMazePufferEnv("PassiveTMaze", num_envs=32, length=3, seed=9)
    for seed in (9, None, None):
        np.testing.assert_array_equal(env.reset()[0], same.reset(seed=seed)[0])


def test_staggers() -> None:
    same = fastmaze.make_vec(
        "PassiveTMaze", num_envs=8, length=7, autoreset_mode="SameStep", stagger=True
    )
    env = FastMazePufferEnv("PassiveTMaze", num_envs=8, length=7, stagger=True)
    env.reset(seed=0)
    same.reset(seed=0)
    for _ in range(9):
        terminals = env.step(np.zeros(8, np.int32))[2]
        np.testing.assert_array_equal(terminals, same.step(np.zeros(8, np.int32))[2])


def test_writes_into_the_arrays_of_pufferlib() -> None:
    """Nothing is copied: what comes back is what PufferLib gave, slices of larger arrays."""
    whole: dict[str, Any] = {
        "observations": np.full((24, 2), 9, np.float32),
        "rewards": np.full(24, 9, np.float32),
        "actions": np.zeros(24, np.int32),
        "teacher_actions": np.zeros(24, np.int32),
        **{name: np.ones(24, bool) for name in ("terminals", "truncations", "masks")},
    }
    buf = {name: array[8:16] for name, array in whole.items()}
    env = FastMazePufferEnv("PassiveTMaze", num_envs=8, length=3, buf=buf, seed=1)
    assert env.reset(seed=1)[0] is buf["observations"]
    for t in range(4):
        result = env.step(buf["actions"])
        for array, name in zip(
            result, ("observations", "rewards", "terminals", "truncations"), strict=False
        ):
            assert array is buf[name]
        assert buf["terminals"].all() == (t == 3)
    assert (whole["observations"][:8] == 9).all()
    assert (whole["observations"][16:] == 9).all()
    assert (abs(whole["observations"][8:16, 1]) == 1).all()  # the cues of the next episodes


@pytest.mark.parametrize("steps", [None, 0, 5])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]
)
def test_copies_go_on(copied: Callable[[Any], Any], steps: int | None) -> None:
    """Bit for bit and in arrays of their own, before a first reset and in mid-episode."""
    env = FastMazePufferEnv("PassiveTMaze", num_envs=16, length=3, report_interval=6, seed=3)
    if steps is not None:
        env.reset()
    for _ in range(steps or 0):
        env.step(np.zeros(16, np.int32))
    twin = copied(env)
    for name, array in vars(env).items():
        if isinstance(array, np.ndarray) and name not in ("agent_ids", "_indices"):
            assert not np.may_share_memory(array, getattr(twin, name)), name
    results = []
    for each in (env, twin):
        if steps is None:
            with pytest.raises(ResetNeeded):
                each.step(np.zeros(16, np.int32))
            each.reset()
        result = []
        for _ in range(12):
            *arrays, infos = each.step(np.ones(16, np.int32))
            result.append(([array.tobytes() for array in arrays], list(infos)))
        results.append(result)
    assert results[0] == results[1]
    assert any(infos for _, infos in results[0])
    env.close()
    twin.reset()
    with pytest.raises(ClosedEnvironmentError):
        copied(env)


def test_infos_are_the_means_of_the_episodes_that_ended() -> None:
    """One dict an interval: PufferLib averages what it gets, and its pipes carry every dict."""
    same = fastmaze.make_vec(
        "ActiveTMaze", num_envs=6, length=2, autoreset_mode="SameStep", stagger=True
    )
    env = FastMazePufferEnv("ActiveTMaze", num_envs=6, length=2, report_interval=8, stagger=True)
    same.reset(seed=3)
    env.reset(seed=3)
    generator = np.random.default_rng(0)
    names = ("episode_return", "episode_length", "success", "cue_seen")
    seen: dict[str, list[float]] = {name: [] for name in names}
    reports = 0
    for t in range(1, 65):
        actions = generator.integers(0, 4, 6).astype(np.int32)
        terminated, _, info = same.step(actions)[2:]
        for name in names:
            if terminated.any():
                seen[name].extend(info["final_info"][name][terminated])
        infos = env.step(actions)[4]
        assert len(infos) == (t % 8 == 0)
        if infos:
            wanted = {name: float(np.mean(values)) for name, values in seen.items()}
            wanted |= {"score": wanted["success"], "n": len(seen["success"])}
            assert infos[0] == pytest.approx(wanted)
            seen = {name: [] for name in names}
            reports += 1
    assert reports == 8
    env.reset(seed=3)
    for _ in range(4):  # what had been noted before a reset is gone
        assert env.step(np.zeros(6, np.int32))[4] == []


def test_a_corridor_of_a_thousand_ends(make: Callable[..., Any]) -> None:
    """The T-Maze that comes with PufferLib keeps its position in 8 bits and never gets there."""
    envs = make("PassiveTMaze", num_envs=4, length=1000, num_workers=2, vectorisation="Serial")
    obs, _ = envs.reset(seed=0)
    cue = obs[:, 1].copy()
    for _ in range(1000):
        obs, reward, terminal, _, _ = envs.step(np.zeros(4, np.int32))
        assert not terminal.any()
        assert not reward.any()
    assert (obs[:, 0] == 1).all()  # at the junction
    _, reward, terminal, truncation, _ = envs.step(np.where(cue > 0, 1, 3).astype(np.int32))
    assert terminal.all()
    assert not truncation.any()
    assert (reward == 1).all()


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8"])
def test_takes_whole_numbers_of_any_kind(dtype: str) -> None:
    env = FastMazePufferEnv("PassiveTMaze", num_envs=4, length=3)
    env.reset(seed=0)
    env.step(np.zeros((4, 3), dtype)[:, 0])  # not contiguous
