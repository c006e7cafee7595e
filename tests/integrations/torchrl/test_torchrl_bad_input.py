"""The TorchRL env refuses bad input: the error names the argument, and nothing has changed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="TorchRL is missing here: nox -s torchrl runs these")
pytest.importorskip("torchrl", reason="TorchRL is missing here: nox -s torchrl runs these")

from gymnasium.error import ResetNeeded  # noqa: E402

import fastmaze  # noqa: E402
from fastmaze.envs.backends.errors import NotReady  # noqa: E402
from tests.integrations.torchrl.trainer import (  # noqa: E402
    FastMazeTorchEnv,
    TensorDict,
    create_env_fns,
)

BACKENDS = ["native", "device"]


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"task": "PassiveTMaz"}, ValueError, "task: expected one of"),
    ({"lenght": 3}, TypeError, "has no option 'lenght'"),
    ({"task": fastmaze.make_spec("RepeatFirst"), "length": 3}, TypeError, "length: a spec has"),
    ({"task": 3}, TypeError, "task: expected"),
    ({"num_envs": 0}, ValueError, "num_envs"),
    ({"num_envs": 2.0}, TypeError, "num_envs"),
    ({"backend": "gpu"}, ValueError, "backend: expected one of"),
    ({"device": "cuda"}, ValueError, "device: expected none with backend"),
    ({"backend": "device", "device": "tpu"}, ValueError, "device: expected cpu, cuda"),
    ({"backend": "device", "task": "MemoryLength"}, ValueError, "backend: expected one of"),
    ({"num_threads": 0}, ValueError, "num_threads"),
    ({"backend": "device", "num_threads": 0}, ValueError, "num_threads"),
    ({"env_offset": -1}, ValueError, "env_offset"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1.5}, TypeError, "seed"),
    ({"seed": [1, 2]}, ValueError, "seed: expected 3 seeds"),
    ({"stagger": 1}, TypeError, "stagger"),
    ({"autoreset_mode": "NextStep"}, ValueError, 'autoreset_mode: expected "Disabled"'),
    ({"categorical_action_encoding": "yes"}, TypeError, "categorical_action_encoding"),
    ({"info": "success"}, TypeError, "info: expected a list of names"),
    ({"info": ["reward"]}, ValueError, "info: expected names among"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD, ids=lambda part: "")
def test_bad_arguments(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    """Protects from bad input: the error names the argument."""
    arguments = {"task": "PassiveTMaze", "num_envs": 3, **wrong}
    with pytest.raises(error, match=message):
        FastMazeTorchEnv(**arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_tensordicts(backend: str) -> None:
    """Protects from bad steps and resets: the error names what is wrong."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=3, length=2, seed=0, backend=backend)
    now = env.rand_action(env.reset())
    with pytest.raises(RuntimeError, match=r"env\.batch_size"):
        env.step(TensorDict({"action": torch.zeros(4, dtype=torch.int64)}, [4]))
    for actions, error in (
        (torch.zeros(3, 1, dtype=torch.int64), ValueError),
        (torch.zeros(3), TypeError),
        (torch.full((3,), 4), ValueError),
    ):
        now["action"] = actions
        with pytest.raises(error, match="actions: expected"):
            env.step(now)
    for options, error in (
        ({"goal": 1}, ValueError),
        ({"reset_mask": np.ones(3, bool)}, ValueError),
        (["goal_y"], TypeError),
    ):
        with pytest.raises(error, match="options: expected"):
            env.reset(options=options)
    with pytest.raises(TypeError, match="reset: expected no argument but options"):
        env.reset(seed=3)
    with pytest.raises(ValueError, match="seed"):
        env.set_seed(-3)
    hot = FastMazeTorchEnv(
        "PassiveTMaze", num_envs=3, categorical_action_encoding=False, backend=backend
    )
    now = hot.reset()
    now["action"] = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"action: expected one-hot of shape .* got shape"):
        hot.step(now)
    now["action"] = torch.zeros(3, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"action: expected one-hot of shape .* got a row"):
        hot.step(now)
    with pytest.raises(KeyError, match="action: expected"):
        hot.step(now.exclude("action"))


def test_refused_calls_change_nothing() -> None:
    """Protects whoever catches an error: the env is where it was, its seed included."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=32, length=2, seed=4)
    first = env.reset()["observation"]
    env.set_seed(4)
    with pytest.raises(ValueError, match="options"):
        env.reset(options={"goal": 1})
    now = env.reset()
    assert (now["observation"] == first).all()
    state = env._engine.get_state()
    now["action"] = torch.full((32,), 4)
    now["_step"] = torch.arange(32)[:, None] < 5
    with pytest.raises(ValueError, match="actions: expected"):
        env.step(now)
    np.testing.assert_array_equal(env._engine.get_state(), state)


def test_step_after_the_end() -> None:
    """Protects loops of one's own that forget to reset: they are told."""
    for backend in BACKENDS:
        env = FastMazeTorchEnv("PassiveTMaze", num_envs=3, length=1, backend=backend)
        now = env.rand_action(env.reset())
        for _ in range(2):
            now = env.rand_action(env.step_mdp(env.step(now)))
        with pytest.raises((NotReady, ResetNeeded), match="reset"):
            env.step(now)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num_envs": 10, "num_workers": 4}, ValueError, "num_envs: expected a multiple of"),
        ({"num_envs": 0}, ValueError, "num_envs"),
        ({"num_workers": 0}, ValueError, "num_workers"),
        ({"num_workers": "2"}, TypeError, "num_workers"),
        ({"seed": [1, 2, 3, 4]}, ValueError, "seed: expected 8 seeds, one per env, got 4"),
        ({"seed": [1] * 7 + [-1]}, ValueError, r"seed\[7\]"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": "1"}, TypeError, "seed"),
    ],
)
def test_bad_splits(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    """Protects from splits that do not come out even; refused at once, not inside a worker."""
    with pytest.raises(error, match=message):
        create_env_fns("PassiveTMaze", **{"num_envs": 8, "num_workers": 2, **wrong})


@pytest.mark.parametrize(
    ("found", "message"), [(None, "not installed here"), ("0.3.1", "torchrl >= 0")]
)
def test_trainer_missing_or_too_old(found: str | None, message: str) -> None:
    """Protects those without TorchRL: the error is the line to install it."""
    code = f"""
from importlib import metadata
real = metadata.version
def version(name):
    if name != "torchrl":
        return real(name)
    if {found!r} is None:
        raise metadata.PackageNotFoundError(name)
    return {found!r}
metadata.version = version
import fastmaze.integrations.torchrl
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: fastmaze.integrations.torchrl needs torchrl" in done.stderr
    assert message in done.stderr
    assert 'pip install "fastmaze[torchrl]"' in done.stderr
