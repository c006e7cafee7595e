"""Mazes for JAX: a host loop around a jitted policy, and a scan with callbacks beside it.

pip install fastmaze jax
python examples/jax_callback.py

Use the host loop. JAX cannot compile a C++ step, so each step is a visit to the host either way;
the loop makes it a call of NumPy, `lax.scan` makes it a callback, which costs more. A callback is
for code that must be one jitted function. It has to be `io_callback(..., ordered=True)`: JAX may
leave out, repeat or reorder a `pure_callback`, and the envs have a state.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

import fastmaze


class Rollout(NamedTuple):
    """S steps of N envs; `obs[t]` is what `actions[t]` saw.

    Attributes:
        obs: float32 [S, N, D].
        actions: int32 [S, N].
        reward: float32 [S, N].
        done: bool [S, N], an episode ended; the row after it only resets.
    """

    obs: jax.Array
    actions: jax.Array
    reward: jax.Array
    done: jax.Array


Policy = Callable[[jax.Array, jax.Array], jax.Array]
"""A key and obs [N, D] to actions int32 [N]."""


def random_policy(key: jax.Array, obs: jax.Array) -> jax.Array:
    """Actions int32 [N]; put a network here, and its state into the carry."""
    return jax.random.randint(key, obs.shape[:1], 0, 4, dtype=jnp.int32)


class HostLoop:
    """Steps the envs between calls of a jitted policy, into the rows of arrays for JAX.

    `jnp.from_dlpack` hands the arrays over without a copy where their memory is aligned for JAX,
    and with one elsewhere. In the first case JAX and NumPy share the memory, so a rollout writes
    into new arrays and never again into handed-over ones.
    """

    def __init__(self, envs: Any, policy: Policy, num_steps: int) -> None:
        self._envs, self._num_steps = envs, num_steps

        def act(key: jax.Array, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
            key, now = jax.random.split(key)
            return key, policy(now, obs)

        self._act = jax.jit(act)

    def __call__(self, key: jax.Array, obs: Any) -> tuple[jax.Array, Any, Rollout]:
        """Returns the next key, the obs [N, D] to go on from, and what happened."""
        steps, n = self._num_steps, self._envs.num_envs
        seen = aligned((steps + 1, *obs.shape), np.float32)
        taken, reward = aligned((steps, n), np.int32), aligned((steps, n), np.float32)
        done, truncated = aligned((steps, n), np.bool_), np.empty(n, np.bool_)
        seen[0] = obs
        for t in range(steps):
            key, actions = self._act(key, seen[t])
            taken[t] = actions
            self._envs.step_into(taken[t], seen[t + 1], reward[t], done[t], truncated)
        # The last row is the next rollout's first one, and must not be shared with JAX.
        rollout = Rollout(*map(jnp.from_dlpack, (seen[:-1], taken, reward, done)))
        return key, seen[-1].copy(), rollout


def scan_rollout(envs: Any, policy: Policy, num_steps: int) -> Callable[..., Any]:
    """The same as one jitted function, which calls back to the host at every step."""
    n = envs.num_envs
    shapes = (
        jax.ShapeDtypeStruct(envs.observation_space.shape, jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.bool_),
    )

    def step_on_host(actions: jax.Array) -> Any:
        # With copy=True, the default, these are fresh arrays that no later step overwrites.
        return envs.step(np.asarray(actions))[:3]

    def step(carry: tuple[jax.Array, jax.Array], _: None) -> Any:
        key, obs = carry
        key, now = jax.random.split(key)
        actions = policy(now, obs)
        next_obs, reward, done = io_callback(step_on_host, shapes, actions, ordered=True)
        return (key, next_obs), Rollout(obs, actions, reward, done)

    @jax.jit
    def rollout(key: jax.Array, obs: jax.Array) -> tuple[jax.Array, jax.Array, Rollout]:
        (key, obs), steps = jax.lax.scan(step, (key, obs), None, length=num_steps)
        return key, obs, steps

    return rollout


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """An uninitialised array that begins where JAX on the CPU takes it without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    return memory[begin : begin + size].view(dtype).reshape(shape)


def replay(task: dict[str, Any], seed: int, rollouts: list[Rollout]) -> bool:
    """Whether `fastmaze.make_vec`, given the same actions, saw and earned the same bits."""
    envs = fastmaze.make_vec(**task)
    obs, _ = envs.reset(seed=seed)
    for rollout in rollouts:
        for seen, actions, reward, done in zip(*map(np.asarray, rollout), strict=True):
            if not np.array_equal(obs, seen):
                return False
            obs, expected, terminated, _, _ = envs.step(actions)
            if not (np.array_equal(expected, reward) and np.array_equal(terminated, done)):
                return False
    return True


def main() -> None:
    """Measures both, checks each against the envs alone, and prints env steps per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=10)
    args = parser.parse_args()
    task = {"task": "PassiveTMaze", "num_envs": args.num_envs, "length": args.length}
    steps = args.length + 2  # an episode and the row that resets
    for name, make in (("host loop", HostLoop), ("scan and io_callback", scan_rollout)):
        envs = fastmaze.make_vec(**task)
        run = make(envs, random_policy, steps)
        obs, _ = envs.reset(seed=0)
        # The first rollout compiles.
        key, obs, first = run(jax.random.key(0), obs)
        rollouts, start = [first], time.perf_counter()
        for _ in range(args.rollouts):
            key, obs, rollout = run(key, obs)
            rollouts.append(rollout)
        jax.block_until_ready(rollouts)
        rate = args.rollouts * steps * args.num_envs / (time.perf_counter() - start)
        equal = replay(task, 0, rollouts)
        print(f"{name:22} {rate:12,.0f} env steps/s   bits equal to make_vec: {equal}")


if __name__ == "__main__":
    main()
