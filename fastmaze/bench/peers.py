"""Other libraries' nearest envs, where they are installed; never needed to use FastMaze."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from fastmaze.bench.contenders import Step, Unavailable
from fastmaze.specs import TMazeSpec


def _require(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"not installed: {install} ({error})") from error


def pufferlib_tmaze(spec: TMazeSpec, num_envs: int, threads: int) -> Step:
    """PufferLib's C T-Maze (Ocean), one thread, through its own `PufferEnv`.

    Its position is 8 bits wide: corridors of more than 255 cells are cut to 255 here.
    """
    tmaze = _require("pufferlib.ocean.tmaze.tmaze", "build PufferLib from its repository")
    envs = tmaze.TMaze(num_envs=num_envs, size=min(spec.corridor_length, 255))
    envs.reset(0)
    actions = np.random.default_rng(0).integers(0, 4, num_envs).astype(np.int32)
    return lambda: envs.step(actions)


def envpool_catch(spec: TMazeSpec, num_envs: int, threads: int) -> Step:
    """EnvPool's Catch (bsuite), its smallest memory-free env: what its machinery costs."""
    envpool = _require("envpool", "pip install envpool")
    envs = envpool.make("Catch-v0", env_type="gymnasium", num_envs=num_envs, num_threads=threads)
    envs.reset()
    actions = np.random.default_rng(0).integers(0, 3, num_envs).astype(np.int32)
    return lambda: envs.step(actions)


def gymnax_memory_chain(spec: TMazeSpec, num_envs: int, threads: int) -> Step:
    """MemoryChain of gymnax (bsuite) under jit, 32 steps a call with `scan`, on JAX's threads."""
    gymnax = _require("gymnax", "pip install gymnax")
    jax = _require("jax", "pip install jax")
    env, params = gymnax.make("MemoryChain-bsuite")
    keys = jax.random.split(jax.random.PRNGKey(0), num_envs)
    _, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
    actions = jax.random.randint(jax.random.PRNGKey(1), (num_envs,), 0, 2)

    def one(carry: Any, _: Any) -> Any:
        state, total = carry
        # Versions differ in how many flags stand between the reward and the info.
        obs, state, reward, *flags, _info = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            keys, state, actions, params
        )
        # What it computes must be used, or XLA leaves it out.
        return (state, total + obs.sum() + reward.sum() + sum(f.sum() for f in flags)), None

    many = jax.jit(lambda carry: jax.lax.scan(one, carry, None, length=GYMNAX_STEPS)[0])
    carry = [jax.block_until_ready(many((state, jax.numpy.float32(0))))]

    def step() -> None:
        carry[0] = jax.block_until_ready(many(carry[0]))

    return step


GYMNAX_STEPS = 32
"""Steps that one call of `gymnax_memory_chain` makes."""
