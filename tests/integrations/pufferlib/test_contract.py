"""FastMazePufferEnv keeps PufferLib's contract, and is the population that make_vec makes.

A wrapper that resets a step late, that shifts a buffer or that gives two workers the same mazes
still trains; only the comparison with `fastmaze.make_vec`, bit for bit, shows it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pufferlib", reason="nox -s pufferlib")

import pufferlib
import pufferlib.vector
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

import fastmaze
from fastmaze.integrations import pufferlib as ours
from fastmaze.integrations.pufferlib import FastMazePufferEnv, make_puffer_vec

TASKS: dict[str, dict[str, Any]] = {
    "PassiveTMaze": {"length": 5},
    "ActiveTMaze": {"length": 3},
    "KeyToDoor": {"length": 4},
    "BakkerTMaze": {"length": 4},
}
WAYS = {
    "alone": {"num_workers": 1},
    "serial": {"num_workers": 3, "vectorisation": "Serial"},
    "processes": {"num_workers": 2, "vec_options": {"overwork": True}},
    "one process": {"num_workers": 1, "vectorisation": "Multiprocessing"},
}


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """make_puffer_vec, of which everything is closed at the end."""
    made = []

    def make_one(*args: Any, **kwargs: Any) -> Any:
        made.append(make_puffer_vec(*args, **kwargs))
        return made[-1]

    yield make_one
    for envs in made:
        envs.close()


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


def test_a_refused_step_moves_nobody() -> None:
    env = FastMazePufferEnv("PassiveTMaze", num_envs=4, length=3)
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.zeros(4, np.int32))
    env.reset(seed=0)
    before = env.backend.get_state()
    with pytest.raises(ValueError, match="actions: expected every action"):
        env.step(np.array([0, 0, 0, 4], np.int32))
    with pytest.raises(ValueError, match="actions"):
        env.step(np.zeros(3, np.int32))
    with pytest.raises(TypeError, match="actions"):
        env.step(np.zeros(4, np.float32))
    np.testing.assert_array_equal(before, env.backend.get_state())
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.step(np.zeros(4, np.int32))
    with pytest.raises(ClosedEnvironmentError):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 10, "num_workers": 4}, "num_envs: expected a multiple of num_workers = 4"),
        ({"num_workers": 0}, "num_workers"),
        ({"num_envs": 0}, "num_envs"),
        ({"vectorisation": "Ray"}, "vectorisation: expected one of"),
        ({"num_workers": 2, "vectorisation": "PufferEnv"}, "for 2 workers"),
        ({"report_interval": 0}, "report_interval"),
        ({"length": 0}, "length"),
        ({"backend": "fast"}, "backend: expected one of"),
        ({"env_offset": -1}, "env_offset"),
        ({"task": "PassiveMaze"}, "PassiveMaze"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_puffer_vec(**{"task": "PassiveTMaze", "num_envs": 8, **options})


def test_bad_types() -> None:
    with pytest.raises(TypeError, match="corridor"):
        FastMazePufferEnv("PassiveTMaze", corridor=3)
    with pytest.raises(TypeError, match="task: expected a name beside task options"):
        FastMazePufferEnv(fastmaze.make_spec("PassiveTMaze", length=3), length=3)
    env = FastMazePufferEnv(fastmaze.make_spec("PassiveTMaze", length=3), num_envs=2)
    with pytest.raises(TypeError, match="seed"):
        env.reset(seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=-1)


def pretend(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ({}, r'needs pufferlib-core, not installed here: pip install "fastmaze\[pufferlib\]"'),
        ({"pufferlib-core": "2.0.0"}, "needs pufferlib-core >= 3.0.18, the oldest"),
        ({"pufferlib-core": "3.0.9"}, "needs pufferlib-core >= 3.0.18, the oldest"),
        ({"pufferlib": "2.0.6"}, "needs pufferlib >= 3.0"),
        ({"pufferlib": "4.0.0"}, r"needs a PufferLib 3 \(pufferlib-core 3.0.19 is known to work\)"),
    ],
)
def test_versions_that_do_not_work(
    installed: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(installed, monkeypatch)
    with pytest.raises(ImportError, match=message):
        ours._require_pufferlib()


@pytest.mark.parametrize("installed", [{"pufferlib": "3.0.0"}, {"pufferlib-core": "3.0.19"}])
def test_either_distribution_will_do(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sdist `pufferlib` and the wheels `pufferlib-core` carry the same module."""
    pretend(installed, monkeypatch)
    ours._require_pufferlib()
