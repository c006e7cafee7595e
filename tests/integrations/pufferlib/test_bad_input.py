"""What FastMazePufferEnv and make_puffer_vec refuse, in which words, and that nobody moves."""

from __future__ import annotations

import importlib.metadata
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pufferlib", reason="nox -s pufferlib")

from gymnasium.error import ClosedEnvironmentError, ResetNeeded

import fastmaze
from fastmaze.integrations import pufferlib as ours
from fastmaze.integrations.pufferlib import FastMazePufferEnv, make_puffer_vec
from tests.integrations.pufferlib.conftest import WAYS


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


@pytest.mark.parametrize("way", ["serial", "processes", "one process"])
def test_a_wrong_action_is_refused_in_the_parent(way: str, make: Callable[..., Any]) -> None:
    """In a worker it would end the process, and recv would wait for ever."""

    def hangs(*_: Any) -> None:
        raise TimeoutError("recv waits for a dead worker")

    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    try:
        same = fastmaze.make_vec("PassiveTMaze", num_envs=6, length=3, autoreset_mode="SameStep")
        envs = make("PassiveTMaze", num_envs=6, length=3, **WAYS[way])
        same.reset(seed=0)
        for seed, error in ((-1, ValueError), ("0", TypeError), (2**64, ValueError)):
            with pytest.raises(error, match="seed: expected"):
                envs.async_reset(seed)
        envs.async_reset(0)
        envs.recv()
        right = np.zeros(6, np.int32)
        for _ in range(2):
            envs.send(right)
            np.testing.assert_array_equal(envs.recv()[0], same.step(right)[0])
            for wrong in (7, -1, 2**32):
                with pytest.raises(ValueError, match=f"actions: expected 0 to 3, got {wrong} at"):
                    envs.send(np.array([0, 0, 0, 0, 0, wrong], np.int64))
            with pytest.raises(ValueError, match=r"actions: expected shape \(6,\)"):
                envs.send(np.zeros(5, np.int32))
            with pytest.raises(TypeError, match="actions: expected an array of integers"):
                envs.send(np.full(6, 0.5))
        np.testing.assert_array_equal(envs.step(right)[0], same.step(right)[0])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 3}, "seed cannot be given here: give it to async_reset"),
        ({"buf": 1}, "buf cannot be given here: make a FastMazePufferEnv"),
        ({"vec_options": {"num_envs": 4}}, "vec_options: num_envs .* use the argument num_envs"),
        ({"vec_options": {"num_workers": 1}}, "vec_options: num_workers .* argument num_workers"),
        ({"vec_options": {"seed": 42}}, "vec_options: seed cannot be given here"),
        ({"vec_options": {"backend": "Ray"}}, "vec_options: backend .* argument vectorisation"),
        ({"vec_options": {"env_kwargs": {}}}, "vec_options: env_kwargs cannot be given here"),
    ],
)
def test_options_that_are_decided(way: str, options: dict[str, Any], message: str) -> None:
    """What would be swallowed, or would change how many copies there are, is refused."""
    with pytest.raises(TypeError, match=message):
        make_puffer_vec("PassiveTMaze", num_envs=12, **(WAYS[way] | options))


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
        ({"env_offset": 2**32 - 4, "num_workers": 2}, "env_offset"),
        (
            {"num_workers": 2, "vectorisation": "Serial", "vec_options": {"batch_size": 1}},
            "vec_options: batch_size",
        ),
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
