"""Env steps/s of Gymnasium's vector interface: nox -s gymnasium -- steps.

Random actions, 1,024 envs: our vector env beside Gymnasium's SyncVectorEnv of our single envs.
(An AsyncVectorEnv would be 1,024 processes.) "No env" only draws the actions.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np

import fastmaze  # noqa: F401  (registers the ids)
from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns

ID = "fastmaze/PassiveTMaze-v0"
STEPS = LENGTH + 1


def make(mode: str | None) -> Any:
    """`gymnasium.make_vec` in a vectorization mode; None is the env's own."""
    return gymnasium.make_vec(ID, num_envs=NUM_ENVS, vectorization_mode=mode, length=LENGTH)


def drawn(mode: str | None) -> Collect:
    """Actions from `action_space.sample()`, as in Gymnasium's documentation."""
    envs = make(mode)
    envs.reset(seed=0)

    def collect() -> int:
        for _ in range(STEPS):
            envs.step(envs.action_space.sample())
        return STEPS * NUM_ENVS

    return collect


def prepared(mode: str | None) -> Collect:
    """Actions drawn beforehand: what is left is the env."""
    envs = make(mode)
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(4, size=(STEPS, NUM_ENVS))

    def collect() -> int:
        for row in actions:
            envs.step(row)
        return actions.size

    return collect


def no_env() -> Collect:
    """`action_space.sample()` alone."""
    space = make(None).action_space

    def collect() -> int:
        for _ in range(STEPS):
            space.sample()
        return STEPS * NUM_ENVS

    return collect


def main() -> None:
    """Both ways of drawing actions."""
    contenders = {
        "FastMaze": functools.partial(drawn, None),
        "SyncVectorEnv": functools.partial(drawn, "sync"),
        "no env": no_env,
        "FastMaze, actions prepared": functools.partial(prepared, None),
        "SyncVectorEnv, actions prepared": functools.partial(prepared, "sync"),
    }
    ours = "FastMaze, actions prepared"
    against = {name: ours for name in contenders if "prepared" in name}
    take_turns("gymnasium", contenders, against)


if __name__ == "__main__":
    main()
