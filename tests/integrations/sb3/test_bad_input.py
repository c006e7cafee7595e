"""FastMazeVecEnv refuses what it cannot do, with words that help, and moves no env then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="nox -s sb3")

from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

import fastmaze
from fastmaze.integrations.sb3 import FastMazeVecEnv
from tests.integrations.sb3.test_vec_env import make, random_actions


@pytest.mark.parametrize(
    ("error", "words", "kwargs"),
    [
        (ValueError, "autoreset_mode: Stable-Baselines3 needs 'SameStep'", {"autoreset_mode": m})
        for m in ("NextStep", "Disabled", AutoresetMode.DISABLED, "nonsense", None)
    ]
    + [
        (ValueError, "num_envs", {"num_envs": 0}),
        (TypeError, "num_envs", {"num_envs": 2.5}),
        (ValueError, "backend", {"backend": "nonsense"}),
        (ValueError, "render_mode", {"render_mode": "human"}),
        (ValueError, "seed", {"seed": -1}),
        (TypeError, "seed", {"seed": 1.5}),
        (TypeError, "copy", {"copy": False}),
        (TypeError, "wide", {"wide": 3}),
    ],
)
def test_refused_arguments(error: type[Exception], words: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        make(**kwargs)


def test_same_step_may_be_said() -> None:
    for mode in ("SameStep", AutoresetMode.SAME_STEP):
        np.testing.assert_array_equal(make(autoreset_mode=mode).reset(), make().reset())


def test_a_spec_takes_no_options() -> None:
    with pytest.raises(TypeError, match="length: a spec has its options"):
        FastMazeVecEnv(fastmaze.make_spec("PassiveTMaze", length=3), length=4)
    with pytest.raises((TypeError, ValueError), match="task"):
        FastMazeVecEnv("NoSuchMaze")


@pytest.mark.parametrize(
    ("error", "words", "actions"),
    [
        (ValueError, r"\(5,\)", np.zeros(4, np.int64)),
        (ValueError, r"\(5,\)", np.zeros((5, 1), np.int64)),
        (TypeError, "float", np.zeros(5)),
        (ValueError, "0, 1, 2 or 3", np.full(5, 4)),
        (ValueError, "0, 1, 2 or 3", np.full(5, -1)),
    ],
)
def test_refused_actions_move_no_env(error: type[Exception], words: str, actions: Any) -> None:
    envs, same = make(), make()
    envs.reset()
    same.reset()
    with pytest.raises(error, match=words):
        envs.step(actions)
    for row in random_actions(envs, 5):
        np.testing.assert_array_equal(envs.step(row)[0], same.step(row)[0])


def test_steps_out_of_turn() -> None:
    envs = make()
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros(5, np.int64))
    envs.reset()
    with pytest.raises(RuntimeError, match="step_async"):
        envs.step_wait()
    envs.step_async(np.zeros(5, np.int64))
    envs.reset()  # drops the step that was pending
    with pytest.raises(RuntimeError, match="step_async"):
        envs.step_wait()
    envs.step([0] * 5)  # lists will do


def test_sb3_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the line that installs it."""
    import importlib
    from importlib import metadata

    import fastmaze.integrations.sb3 as module

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    for version, words in ((missing, "not installed"), (lambda _: "2.5.0", "2.6.*found 2.5.0")):
        monkeypatch.setattr(metadata, "version", version)
        with pytest.raises(ImportError, match=words) as caught:
            importlib.reload(module)
        assert 'pip install "fastmaze[sb3]"' in str(caught.value)
