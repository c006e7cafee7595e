"""What `fastmaze bench envs` runs: our backends, the memory floor, the baselines.

A contender is made for a task, a number of envs and a number of threads, and is then a function
that steps all of its envs once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastmaze.bench.numpy_tmaze import NumpyTMaze
from fastmaze.envs.backends import make_backend
from fastmaze.envs.backends.base import Array, Backend
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.state import fields_of
from fastmaze.specs import FAMILIES, TaskSpec, TMazeSpec

Step = Callable[[], Any]
"""Steps all envs of a contender once."""

Make = Callable[[Any, int, int], Step]
"""Makes a contender of a task, a number of envs, and a number of threads."""

_STATE_BYTES = 16
"""Per T-Maze: x, t, flags and penalties, each read and written by every step."""


class Unavailable(Exception):
    """A contender that cannot run here; the message says why."""


def bytes_per_step(spec: TaskSpec, action_bytes: int = 8) -> int:
    """Bytes that one env's step must read and write.

    Read are the action and the state; written the state, the observation, the reward and the two
    flags.
    """
    if isinstance(spec, TMazeSpec):
        state = _STATE_BYTES + (4 if spec.distract_reward else 0)
    else:
        state = sum(dtype.itemsize for _, dtype in fields_of(spec))
    return action_bytes + 2 * state + spec.obs_bytes + 4 + 2


def floor(spec: TaskSpec, num_envs: int, threads: int) -> Step:
    """`memcpy` that reads and writes, together, as many bytes as a step must."""
    size = num_envs * bytes_per_step(spec) // 2
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    if threads == 1:
        return lambda: np.copyto(target, source)
    bounds = [size * i // threads for i in range(threads + 1)]
    parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    pool = ThreadPoolExecutor(threads - 1)

    def copy() -> None:
        others = [pool.submit(np.copyto, target[p], source[p]) for p in parts[1:]]
        np.copyto(target[parts[0]], source[parts[0]])
        for other in others:
            other.result()

    return copy


def seeded_backend(
    name: str,
    spec: TaskSpec,
    num_envs: int,
    threads: int,
    stagger: bool = False,
    isa: str | None = None,
) -> tuple[Backend, list[Array]]:
    """A backend in mode SameStep after a reset, and the arrays of a step, actions first.

    Args:
        name: of the backend.
        spec: the task.
        num_envs: copies.
        threads: threads.
        stagger: start the clocks part of the way.
        isa: instruction set to force upon the native backend; None for the one in use.
    """
    if isa is None:
        core = make_backend(name, spec, num_envs, "SameStep", threads)
    else:
        core = NativeBackend(spec, num_envs, "SameStep", threads, isa=isa)
    obs, final_obs = np.zeros((2, num_envs, *spec.obs_shape), spec.obs_dtype)
    reward = np.zeros(num_envs, np.float32)
    terminated, truncated = np.zeros((2, num_envs), np.bool_)
    keys, indices = np.zeros(num_envs, np.uint64), np.arange(num_envs, dtype=np.uint32)
    core.reset(obs, None, None, stagger, keys, indices)
    return core, [
        random_actions(num_envs, spec.num_actions),
        obs,
        reward,
        terminated,
        truncated,
        final_obs,
    ]


def backend(name: str, stagger: bool = False, isa: str | None = None) -> Make:
    """One of our backends: autoreset, final observations, int64 actions."""

    def make(spec: TaskSpec, num_envs: int, threads: int) -> Step:
        if name not in FAMILIES[spec.family].backends:
            raise Unavailable("this task has no such backend")
        try:
            core, arrays = seeded_backend(name, spec, num_envs, threads, stagger, isa)
        except ImportError as error:
            raise Unavailable(str(error)) from error
        return lambda: core.step(*arrays)

    return make


def numpy_baseline(spec: TaskSpec, num_envs: int, threads: int) -> Step:
    """The vectorised NumPy T-Maze, one thread."""
    if not isinstance(spec, TMazeSpec):
        raise Unavailable("it covers the T-Mazes only")
    envs = NumpyTMaze(spec, num_envs)
    envs.reset(seed=0)
    actions = random_actions(num_envs, spec.num_actions)
    return lambda: envs.step(actions)


def specification(spec: TaskSpec, num_envs: int, threads: int) -> Step:
    """The specification env in a Python loop, one env after the other, each reset when done."""
    make = FAMILIES[spec.family].load("reference")
    mazes = [make(spec, index) for index in range(num_envs)]
    actions: list[int] = random_actions(num_envs, spec.num_actions).tolist()
    for maze in mazes:
        maze.reset(seed=0)

    def step() -> None:
        for maze, action in zip(mazes, actions, strict=True):
            _, _, done = maze.step(action)
            if done:
                maze.reset()

    return step


def facade(method: str) -> Make:
    """A Gymnasium vector env over the native backend, stepped by `step` or `step_into`."""

    def make(spec: TaskSpec, num_envs: int, threads: int) -> Step:
        try:
            from fastmaze.envs.vector import FastMazeVectorEnv
        except ImportError as error:
            raise Unavailable(str(error)) from error
        envs = FastMazeVectorEnv(
            spec, num_envs=num_envs, num_threads=threads, autoreset_mode="SameStep"
        )
        obs, _ = envs.reset(seed=0)
        actions = random_actions(num_envs, spec.num_actions)
        if method == "step":
            return lambda: envs.step(actions)
        reward = np.zeros(num_envs, np.float32)
        terminated, truncated = np.zeros((2, num_envs), np.bool_)
        step_into = envs.step_into
        return lambda: step_into(actions, obs, reward, terminated, truncated)

    return make


def random_actions(num_envs: int, num_actions: int = 4) -> Array:
    """Uniform actions, int64 [num_envs], the same at every step."""
    return np.random.default_rng(0).integers(0, num_actions, num_envs)
