"""Other libraries' nearest envs, where they are installed; never needed to use FastMaze."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from fastmaze.bench.contenders import Make, Step, Unavailable, random_actions
from fastmaze.specs import TMazeSpec
from fastmaze.specs.delayed_catch import BOARD


def _require(module: str, install: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the package's own imports
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


def _loop(make: Callable[[Any], Any], step: Callable[[Any, int], None]) -> Make:
    """Envs of a package in a Python loop, one after the other, on one thread.

    Args:
        make: an env for one of our specs, reset.
        step: steps it, and resets it when its episode is over.
    """

    def contender(spec: Any, num_envs: int, threads: int) -> Step:
        envs = [make(spec) for _ in range(num_envs)]
        actions: list[int] = random_actions(num_envs, spec.num_actions).tolist()
        pairs = list(zip(envs, actions, strict=True))

        def step_all() -> None:
            for env, action in pairs:
                step(env, action)

        return step_all

    return contender


def _bsuite(name: str, cls: str, options: Callable[[Any], dict[str, Any]]) -> tuple[str, Make]:
    """An env of bsuite, which resets itself."""

    def make(spec: Any) -> Any:
        module = _require(f"bsuite.environments.{name}", "pip install bsuite")
        env = getattr(module, cls)(**options(spec), seed=0)
        env.reset()
        return env

    return f"bsuite {name}", _loop(make, lambda env, action: env.step(action))


def _popgym(name: str, cls: str) -> tuple[str, Make]:
    """An env of POPGym, a Gymnasium env."""

    def make(spec: Any) -> Any:
        env = getattr(_require(f"popgym.envs.{name}", "pip install popgym"), cls)(spec.decks)
        env.reset(seed=0)
        return env

    return f"popgym {name}", _loop(make, _step_gymnasium)


def _minigrid_memory(spec: Any) -> Any:
    module = _require("minigrid.envs.memory", "pip install minigrid")
    env = module.MemoryEnv(
        size=spec.size, random_length=spec.random_length, max_steps=spec.episode_length
    )
    env.reset(seed=0)
    return env


def _step_gymnasium(env: Any, action: int) -> None:
    """A step of a Gymnasium env, and the next episode where it ends."""
    _, _, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        env.reset()


PUBLISHED: Final[dict[str, tuple[str, Make]]] = {
    "MemoryLength": _bsuite(
        "memory_chain",
        "MemoryChain",
        lambda spec: {"memory_length": spec.length, "num_bits": spec.bits},
    ),
    "UmbrellaLength": _bsuite(
        "umbrella_chain",
        "UmbrellaChain",
        lambda spec: {"chain_length": spec.length, "n_distractor": spec.distractors},
    ),
    "RepeatFirst": _popgym("repeat_first", "RepeatFirst"),
    "Autoencode": _popgym("autoencode", "Autoencode"),
    "DelayedCatch": _bsuite("catch", "Catch", lambda spec: {"rows": BOARD, "columns": BOARD}),
    "MiniGridMemory": ("minigrid memory", _loop(_minigrid_memory, _step_gymnasium)),
}
"""Task to the package that it is from: what its row is called, and what makes the contender."""
