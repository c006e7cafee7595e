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
from gymnasium.vector import AutoresetMode

import fastmaze
from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns

sys.path.append(str(Path(__file__).parents[2] / "examples"))

from jax_callback import Carry, HostLoop, first_carry, random_policy, scan_rollout

STEPS = LENGTH + 2


class NoEnv:
    """What the host loop steps when a step costs nothing."""

    num_envs = NUM_ENVS
    autoreset_mode = AutoresetMode.SAME_STEP
    single_action_space = gymnasium.spaces.Discrete(4)

    def step_into(self, *arrays: Any) -> None:
        """Leaves the arrays as they are."""


def rollouts(run: Callable[..., Any], carry: Carry) -> Collect:
    """Goes on and on with rollouts."""
    carries = [carry]

    def collect() -> int:
        carries[0], rollout = run(carries[0])
        jax.block_until_ready(rollout)
        return STEPS * NUM_ENVS

    return collect


def fastmaze_rollouts(make: Callable[..., Any]) -> Collect:
    """The example's ways."""
    envs = fastmaze.make_vec(
        "PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH, autoreset_mode="SameStep"
    )
    return rollouts(make(envs, random_policy(envs), STEPS), first_carry(envs, 0, None))


def no_env() -> Collect:
    """The host loop alone."""
    envs, obs = NoEnv(), np.zeros((NUM_ENVS, 2), np.float32)
    carry = Carry(jax.random.key(0), obs, np.ones(NUM_ENVS, np.bool_), None)
    return rollouts(HostLoop(envs, random_policy(envs), STEPS), carry)


def gymnasium_loop() -> Collect:
    """SyncVectorEnv over single envs, `jnp.asarray` of what it returns, stacked at the end."""
    envs = gymnasium.make_vec(
        "fastmaze/PassiveTMaze-v0",
        num_envs=NUM_ENVS,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        length=LENGTH,
    )
    policy = jax.jit(random_policy(envs))

    def run(carry: Carry) -> Any:
        rows, (key, obs, start, state) = [], carry
        for _ in range(STEPS):
            key, now = jax.random.split(key)
            actions, state = policy(now, obs, start, state)
            next_obs, reward, terminated, _, _ = envs.step(np.asarray(actions))
            done = jnp.asarray(terminated)
            rows.append((obs, start, actions, jnp.asarray(reward), done))
            obs, start = jnp.asarray(next_obs), done
        return Carry(key, obs, start, state), [
            jnp.stack(column) for column in zip(*rows, strict=True)
        ]

    return rollouts(run, first_carry(envs, 0, None))


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
