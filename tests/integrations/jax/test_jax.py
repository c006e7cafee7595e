"""Rollouts in JAX arrays are what the envs gave, and stay so."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", reason="JAX is missing: nox -s jax")

import jax
import jax.numpy as jnp

import fastmaze
from tests.integrations.snippets import ROOT, run_snippet, snippets

NUM_ENVS, LENGTH = 64, 6
STEPS = LENGTH + 2


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module examples/jax_callback.py."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return import_module("jax_callback")


def test_example_runs(tmp_path: Path) -> None:
    """Both of its ways finish, and give the envs' own bits."""
    script = ROOT / "examples" / "jax_callback.py"
    command = [sys.executable, script, "--num-envs", "100", "--length", "7", "--rollouts", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.endswith("bits equal to make_vec: True") for line in lines), done.stdout


@pytest.mark.parametrize("name", ["HostLoop", "scan_rollout"])
def test_cue_survives(example: Any, name: str) -> None:
    """Each episode in the arrays begins with its cue, still there after further rollouts."""
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH)
    run = getattr(example, name)(envs, example.random_policy, STEPS)
    obs, _ = envs.reset(seed=0)
    key, rollouts, copies = jax.random.key(0), [], []
    for _ in range(5):
        key, obs, rollout = run(key, obs)
        rollouts.append(rollout)
        copies.append([np.array(column) for column in rollout])
    for rollout, copied in zip(rollouts, copies, strict=True):
        for column, before in zip(rollout, copied, strict=True):
            assert isinstance(column, jax.Array)
            np.testing.assert_array_equal(column, before)
        # A rollout is an episode and the row that resets.
        cues = np.asarray(rollout.obs[0])
        assert (cues[:, 0] == 0).all()
        assert set(cues[:, 1].tolist()) == {-1.0, 1.0}
        assert rollout.done[LENGTH].all()
        assert int(rollout.done.sum()) == NUM_ENVS
    assert example.replay(
        {"task": "PassiveTMaze", "num_envs": NUM_ENVS, "length": LENGTH}, 0, rollouts
    )


def test_replay_notices(example: Any) -> None:
    """The example's check of bits fails when one of them is wrong."""
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH)
    run = example.HostLoop(envs, example.random_policy, STEPS)
    _, _, rollout = run(jax.random.key(0), envs.reset(seed=0)[0])
    task = {"task": "PassiveTMaze", "num_envs": NUM_ENVS, "length": LENGTH}
    assert example.replay(task, 0, [rollout])
    assert not example.replay(task, 1, [rollout])
    assert not example.replay(task, 0, [rollout._replace(reward=rollout.reward.at[3, 5].add(1))])


def test_both_ways_agree(example: Any) -> None:
    """The same key and seed give the same rollouts, with the loop and with the scan."""
    results = []
    for make in (example.HostLoop, example.scan_rollout):
        envs = fastmaze.make_vec("ActiveTMaze", num_envs=NUM_ENVS, length=LENGTH)
        run = make(envs, example.random_policy, 20)
        results.append(run(jax.random.key(3), envs.reset(seed=5)[0])[2])
    for loop, scan in zip(*results, strict=True):
        assert loop.dtype == scan.dtype
        np.testing.assert_array_equal(loop, scan)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="memory is shared on the CPU only")
def test_handed_over_memory_is_shared(example: Any) -> None:
    """The reason why a rollout never writes into handed-over arrays: JAX did not copy them."""
    array = example.aligned((8, 3), np.float32)
    array[...] = 1
    shared = jnp.from_dlpack(array)
    assert shared.unsafe_buffer_pointer() == array.ctypes.data
    assert jnp.asarray(array).unsafe_buffer_pointer() != array.ctypes.data


def test_documented_code_runs(tmp_path: Path) -> None:
    """The Python in docs/plug-ins.md runs as it stands."""
    for code in snippets("JAX"):
        run_snippet(code, tmp_path)
