"""Mazes for JAX: a host loop around a jitted policy with a memory, and a scan with callbacks.

pip install fastmaze jax
python examples/jax_callback.py

Use the host loop. JAX cannot compile a C++ step, so each visits the host; the loop makes it a call
of NumPy, `lax.scan` a callback, which costs more and is for code that must be one jitted function.
It has to be `io_callback(..., ordered=True)`: JAX may leave out, repeat or reorder a
`pure_callback`, and the envs have a state.
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

Policy = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
"""A key, obs [N, ...], start bool [N] and a state to actions int32 [N] and the next state.

`start` tells which obs are the first of an episode: there the policy forgets its state.
"""


class Carry(NamedTuple):
    """What a rollout goes on from."""

    key: jax.Array
    obs: Any
    start: Any
    state: Any


class Rollout(NamedTuple):
    """S steps of N envs: all [S, N], but `obs`, of the envs' dtype, [S, N, ...].

    `actions[t]` answer `obs[t]`, first ones of an episode where `start[t]`, and earn `reward[t]`.
    """

    obs: jax.Array
    start: jax.Array
    actions: jax.Array
    reward: jax.Array
    done: jax.Array


def first_carry(envs: Any, seed: int, state: Any) -> Carry:
    """Resets the envs; `state` is the policy's, arrays whose shapes and dtypes stay."""
    obs, _ = envs.reset(seed=seed)
    return Carry(jax.random.key(seed), obs, np.ones(envs.num_envs, np.bool_), state)


def random_policy(envs: Any) -> Policy:
    """Draws actions; needs no state."""
    shape, num_actions = (envs.num_envs,), int(envs.single_action_space.n)

    def policy(key: jax.Array, obs: jax.Array, start: jax.Array, state: Any) -> Any:
        return jax.random.randint(key, shape, 0, num_actions, dtype=jnp.int32), state

    return policy


def cue_policy(key: jax.Array, obs: jax.Array, start: jax.Array, cue: jax.Array) -> Any:
    """Solves PassiveTMaze: remembers the cue, float32 [N], and turns by it at the junction.

    A recurrent network goes in the same place: its state where `start`, zeros, else as it was.
    """
    cue = jnp.where(start, obs[:, 1], cue)
    turn = jnp.where(cue > 0, 1, 3)  # up, down
    return jnp.where(obs[:, 0] == 1, turn, 0).astype(jnp.int32), cue


class HostLoop:
    """Steps the envs between calls of a jitted policy, into the rows of arrays for JAX.

    `jnp.from_dlpack` hands over arrays aligned for JAX without a copy: JAX and NumPy share their
    memory. So a rollout writes into new arrays and never again into handed-over ones.
    """

    def __init__(self, envs: Any, policy: Policy, num_steps: int) -> None:
        self._envs, self._num_steps = check_mode(envs), num_steps

        def act(key: jax.Array, *seen: Any) -> tuple[jax.Array, jax.Array, Any]:
            key, now = jax.random.split(key)
            return key, *policy(now, *seen)

        self._act = jax.jit(act)

    def __call__(self, carry: Carry) -> tuple[Carry, Rollout]:
        """Returns what the next rollout goes on from, and what happened."""
        key, first_obs, first_start, state = carry
        steps, n = self._num_steps, self._envs.num_envs
        obs = aligned((steps + 1, *first_obs.shape), first_obs.dtype)
        start, truncated = aligned((steps + 1, n), np.bool_), np.empty(n, np.bool_)
        taken, reward = aligned((steps, n), np.int32), aligned((steps, n), np.float32)
        obs[0], start[0] = first_obs, first_start
        for t in range(steps):
            key, actions, state = self._act(key, obs[t], start[t], state)
            taken[t] = actions
            # Where an episode ends, the next observation starts one.
            self._envs.step_into(taken[t], obs[t + 1], reward[t], start[t + 1], truncated)
        # The last rows are the next rollout's first ones, and must not be shared with JAX.
        carry = Carry(key, obs[-1].copy(), start[-1].copy(), state)
        arrays = (obs[:-1], start[:-1], taken, reward, start[1:])
        return carry, Rollout(*map(jnp.from_dlpack, arrays))


def scan_rollout(envs: Any, policy: Policy, num_steps: int) -> Callable[[Carry], Any]:
    """The same as one jitted function, which calls back to the host at every step."""
    n, space, array = check_mode(envs).num_envs, envs.observation_space, jax.ShapeDtypeStruct
    shapes = (array(space.shape, space.dtype), array((n,), jnp.float32), array((n,), jnp.bool_))

    def step_on_host(actions: jax.Array) -> Any:
        # With copy=True, the default, these are fresh arrays that no later step overwrites.
        return envs.step(np.asarray(actions))[:3]

    def step(carry: Carry, _: None) -> tuple[Carry, Rollout]:
        key, now = jax.random.split(carry.key)
        actions, state = policy(now, *carry[1:])
        obs, reward, done = io_callback(step_on_host, shapes, actions, ordered=True)
        return Carry(key, obs, done, state), Rollout(*carry[1:3], actions, reward, done)

    return jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=num_steps))


def check_mode(envs: Any) -> Any:
    """The envs; ValueError unless an episode's end comes with the next one's first observation."""
    if envs.autoreset_mode.value != "SameStep":
        raise ValueError(f"envs: expected autoreset_mode SameStep, got {envs.autoreset_mode.value}")
    return envs


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """An uninitialised array that begins where JAX on the CPU takes it without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size].view(dtype).reshape(shape)


def replay(envs: Any, seed: int, rollouts: list[Rollout]) -> bool:
    """Whether `envs`, alone and given the same actions, saw and earned the same bits."""
    obs, _ = envs.reset(seed=seed)
    start = np.ones(envs.num_envs, np.bool_)
    for rollout in rollouts:
        for row in zip(*map(np.asarray, rollout), strict=True):
            before, actions = (obs, start), row[2]
            obs, reward, start, _, _ = envs.step(actions)
            if not all(map(np.array_equal, row, (*before, actions, reward, start))):
                return False
    return True


def main() -> None:
    """Measures both, checks each against the envs alone, and lets each remember the cue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, default=1024)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=10)
    args = parser.parse_args()
    task: dict[str, Any] = {"task": "PassiveTMaze", "length": args.length}
    task |= {"num_envs": args.num_envs, "autoreset_mode": "SameStep"}
    steps = args.length + 1  # an episode
    for name, make in (("host loop", HostLoop), ("scan and io_callback", scan_rollout)):
        envs = fastmaze.make_vec(**task)
        run = make(envs, random_policy(envs), steps)
        carry, first = run(first_carry(envs, 0, None))  # the first rollout compiles
        rollouts, began = [first], time.perf_counter()
        for _ in range(args.rollouts):
            carry, rollout = run(carry)
            rollouts.append(rollout)
        jax.block_until_ready(rollouts)
        rate = args.rollouts * steps * args.num_envs / (time.perf_counter() - began)
        equal = replay(fastmaze.make_vec(**task), 0, rollouts)
        print(f"{name:22} {rate:12,.0f} env steps/s   bits equal to make_vec: {equal}")
        # Rollouts of half an episode: the second turns by what the first has seen.
        run = make(envs, cue_policy, steps // 2 + 1)
        carry, _ = run(first_carry(envs, 1, jnp.zeros(args.num_envs)))
        jax.block_until_ready(run(carry))
        print(f"{name:22} success {envs.statistics.success.mean()} with the cue remembered")


if __name__ == "__main__":
    main()
