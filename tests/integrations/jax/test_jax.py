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
WAYS = ("HostLoop", "scan_rollout")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module examples/jax_callback.py."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return import_module("jax_callback")


def make_envs(task: str = "PassiveTMaze", **options: Any) -> fastmaze.FastMazeVectorEnv:
    """As the example makes them."""
    given = {"num_envs": NUM_ENVS, "autoreset_mode": "SameStep", "length": LENGTH, **options}
    return fastmaze.make_vec(task, **{k: v for k, v in given.items() if v is not None})


def test_example_runs(tmp_path: Path) -> None:
    """Both of its ways finish, give the envs' own bits, and remember the cue."""
    script = ROOT / "examples" / "jax_callback.py"
    command = [sys.executable, script, "--num-envs", "100", "--length", "7", "--rollouts", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("bits equal to make_vec: True") for line in lines[::2]), done.stdout
    assert all(line.endswith(" success 1.0 with the cue remembered") for line in lines[1::2])


@pytest.mark.parametrize("name", WAYS)
def test_cue_survives(example: Any, name: str) -> None:
    """Each episode in the arrays begins with its cue, still there after further rollouts."""
    envs = make_envs()
    run = getattr(example, name)(envs, example.random_policy(envs), LENGTH + 1)
    carry, rollouts, copies = example.first_carry(envs, 0, None), [], []
    for _ in range(5):
        carry, rollout = run(carry)
        rollouts.append(rollout)
        copies.append([np.array(column) for column in rollout])
    for rollout, copied in zip(rollouts, copies, strict=True):
        for column, before in zip(rollout, copied, strict=True):
            assert isinstance(column, jax.Array)
            np.testing.assert_array_equal(column, before)
        # A rollout is an episode.
        cues = np.asarray(rollout.obs[0])
        assert (cues[:, 0] == 0).all()
        assert set(cues[:, 1].tolist()) == {-1.0, 1.0}
        assert rollout.start[0].all()
        assert rollout.done[LENGTH].all()
        assert int(rollout.done.sum()) == int(rollout.start.sum()) == NUM_ENVS
    assert example.replay(make_envs(), 0, rollouts)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_memory_lasts_an_episode(example: Any, name: str, steps: int) -> None:
    """A state counts the steps of its episode, whatever rollouts it is carried through.

    The envs end at different times: each state has to begin anew when its own env does.
    """

    def policy(key: jax.Array, obs: jax.Array, start: jax.Array, count: jax.Array) -> Any:
        count = jnp.where(start, 0, count) + 1
        return count % 2 * 0, count

    envs = make_envs(stagger=True)
    run = getattr(example, name)(envs, policy, steps)
    carry = example.first_carry(envs, 0, jnp.full(NUM_ENVS, 99, jnp.int32))
    expected = np.zeros(NUM_ENVS, np.int32)
    ends = set()
    for _ in range(60 // steps):
        carry, rollout = run(carry)
        for start, done in zip(np.asarray(rollout.start), np.asarray(rollout.done), strict=True):
            expected = np.where(start, 0, expected) + 1
            ends.add(int(done.sum()))
        np.testing.assert_array_equal(carry.state, expected)
        np.testing.assert_array_equal(carry.start, rollout.done[-1])
        assert expected.max() <= LENGTH + 1
    assert max(ends) < NUM_ENVS


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("steps", [4, 11])
def test_cue_policy_solves_the_maze(example: Any, name: str, steps: int) -> None:
    """By what it remembers over the ends of rollouts; without the state it would guess."""
    envs = make_envs()
    run = getattr(example, name)(envs, example.cue_policy, steps)
    carry, rewards, dones = example.first_carry(envs, 2, jnp.zeros(NUM_ENVS)), [], []
    for _ in range(8):
        carry, rollout = run(carry)
        rewards.append(np.asarray(rollout.reward))
        dones.append(np.asarray(rollout.done))
    done = np.concatenate(dones)
    assert done.sum() >= 4 * NUM_ENVS
    assert (np.concatenate(rewards)[done] == 1).all()
    forgets = getattr(example, name)(envs, lambda *args: (example.cue_policy(*args)[0], 0.0), steps)
    carry = example.first_carry(envs, 2, 0.0)
    for _ in range(8):
        carry, _ = forgets(carry)
    assert envs.statistics.success.mean() < 0.9


@pytest.mark.parametrize(
    "task",
    [
        {"task": "ActiveTMaze"},
        {"task": "MiniGridMemory", "length": None, "size": 7},
        {"task": "DelayedCatch", "length": None},
        {"task": "MemoryLength"},
    ],
    ids=lambda task: task["task"],
)
def test_both_ways_agree(example: Any, task: dict[str, Any]) -> None:
    """The same key and seed give the same rollouts, of every shape, dtype, number of actions."""
    results = []
    for name in WAYS:
        envs = make_envs(**task)
        run = getattr(example, name)(envs, example.random_policy(envs), 20)
        carry, rollouts = example.first_carry(envs, 5, None), []
        for _ in range(2):
            carry, rollout = run(carry)
            rollouts.append(rollout)
        assert example.replay(make_envs(**task), 5, rollouts)
        assert rollout.obs.dtype == envs.task_spec.obs_dtype
        assert rollout.obs.shape == (20, NUM_ENVS, *envs.task_spec.obs_shape)
        drawn = set(np.unique(np.concatenate([each.actions for each in rollouts])).tolist())
        assert drawn == set(range(envs.task_spec.num_actions))
        results.append(rollouts)
    for loop, scan in zip(*results, strict=True):
        for mine, its in zip(loop, scan, strict=True):
            assert mine.dtype == its.dtype
            np.testing.assert_array_equal(mine, its)


def test_replay_notices(example: Any) -> None:
    """The example's check of bits fails when one of them is wrong."""
    envs = make_envs()
    run = example.HostLoop(envs, example.random_policy(envs), LENGTH + 2)
    _, rollout = run(example.first_carry(envs, 0, None))
    assert example.replay(make_envs(), 0, [rollout])
    assert not example.replay(make_envs(), 1, [rollout])
    for wrong in (
        {"reward": rollout.reward.at[3, 5].add(1)},
        {"start": rollout.start.at[3, 5].set(True)},
        {"done": rollout.done.at[3, 5].set(True)},
        {"obs": rollout.obs.at[3, 5, 1].add(1)},
    ):
        assert not example.replay(make_envs(), 0, [rollout._replace(**wrong)])


@pytest.mark.parametrize("name", WAYS)
def test_refuses_other_modes(example: Any, name: str) -> None:
    """In NextStep the observation after an end is no start, and a memory would be cleared early."""
    envs = make_envs(autoreset_mode="NextStep")
    with pytest.raises(ValueError, match="envs: expected autoreset_mode SameStep, got NextStep"):
        getattr(example, name)(envs, example.random_policy(envs), 3)


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
    (code,) = snippets("JAX")
    assert run_snippet(code, tmp_path) == "2048 2.0\n"
