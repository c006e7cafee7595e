"""Rollouts into JAX arrays with a jitted random policy: FastMaze, Gymnasium's way, and without.

The callback inside `lax.scan` is measured beside the host loop of examples/jax_callback.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import fastmaze
from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns

sys.path.append(str(Path(__file__).parents[2] / "examples"))

from jax_callback import HostLoop, random_policy, scan_rollout

STEPS = LENGTH + 2


class NoEnv:
    """What the host loop steps when a step costs nothing."""

    num_envs = NUM_ENVS

    def step_into(self, *arrays: Any) -> None:
        """Leaves the arrays as they are."""


def rollouts(run: Callable[..., Any], obs: Any) -> Collect:
    """Goes on and on with rollouts."""
    state = [jax.random.key(0), obs]

    def collect() -> int:
        state[0], state[1], rollout = run(*state)
        jax.block_until_ready(rollout)
        return STEPS * NUM_ENVS

    return collect


def fastmaze_rollouts(make: Callable[..., Any]) -> Collect:
    """The example's ways."""
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH)
    return rollouts(make(envs, random_policy, STEPS), envs.reset(seed=0)[0])


def no_env() -> Collect:
    """The host loop alone."""
    return rollouts(HostLoop(NoEnv(), random_policy, STEPS), np.zeros((NUM_ENVS, 2), np.float32))


def gymnasium_loop() -> Collect:
    """SyncVectorEnv over single envs, `jnp.asarray` of what it returns, stacked at the end."""
    envs = gymnasium.make_vec(
        "fastmaze/PassiveTMaze-v0", num_envs=NUM_ENVS, vectorization_mode="sync", length=LENGTH
    )
    policy = jax.jit(random_policy)

    def run(key: Any, obs: Any) -> Any:
        rows = []
        for _ in range(STEPS):
            key, now = jax.random.split(key)
            actions = policy(now, obs)
            next_obs, reward, terminated, _, _ = envs.step(np.asarray(actions))
            rows.append((obs, actions, jnp.asarray(reward), jnp.asarray(terminated)))
            obs = jnp.asarray(next_obs)
        return key, obs, [jnp.stack(column) for column in zip(*rows, strict=True)]

    return rollouts(run, jnp.asarray(envs.reset(seed=0)[0]))


def main() -> None:
    """Measures them in turn."""
    contenders: dict[str, Callable[[], Collect]] = {
        "FastMaze, host loop": partial(fastmaze_rollouts, HostLoop),
        "FastMaze, io_callback in lax.scan": partial(fastmaze_rollouts, scan_rollout),
        "SyncVectorEnv, jnp.asarray": gymnasium_loop,
        "host loop, no env": no_env,
    }
    take_turns("jax", contenders)


if __name__ == "__main__":
    main()
