"""The Numba backend: the same batch, compiled when it is first used, without a C++ compiler."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends import numba_kernels
from fastmaze.envs.backends.base import Array, EpisodeStatistics, Mode
from fastmaze.envs.backends.state import (
    FIELDS,
    NEVER_RESET,
    add_header,
    load_arrays,
    rule_of,
    view_of,
)
from fastmaze.envs.backends.validation import ACTION_TYPES, check_array, check_count, check_goals
from fastmaze.specs import TMazeSpec

_LEAST_PER_THREAD = 4096
_ACTION_DTYPES = frozenset(np.dtype(name) for name in ACTION_TYPES)
_LANES = ("x", "t", "flags", "penalties", "distractions")
_FLOAT32, _BOOL = np.dtype(np.float32), np.dtype(np.bool_)


class NumbaBackend:
    """A batch of T-Mazes compiled by Numba (see `Backend` for the methods).

    The first use of each kind of task compiles for a few seconds; Numba keeps the result on disk.

    Args:
        spec: the task.
        num_envs: copies, N.
        mode: when a finished env is reset.
        num_threads: threads that share the work from about 8,000 envs on.
    """

    name = "numba"

    def __init__(self, spec: TMazeSpec, num_envs: int, mode: Mode, num_threads: int = 1) -> None:
        self.spec, self.num_envs, self.mode = spec, check_count("num_envs", num_envs), mode
        self._num_threads = check_count("num_threads", num_threads)
        self._kind = (view_of(spec), spec.add_timestep, rule_of(spec))
        self._kernels = numba_kernels.make_kernels(*self._kind[:2])
        self._steppers: dict[Any, Callable[..., int]] = {}
        self._numbers = np.array([spec.junction, spec.oracle_length, spec.episode_length], np.int32)
        step_rewards = (
            0.0,
            spec.penalty,
            spec.distract_reward,
            spec.penalty + spec.distract_reward,
        )
        self._rewards = np.array([spec.goal_reward, *step_rewards], np.float32)
        self._obs_shape = (num_envs, spec.obs_dim)
        self._amounts = np.array([spec.penalty, spec.distract_reward, spec.goal_reward])
        arrays = {name: np.zeros(num_envs, dtype) for name, dtype in FIELDS}
        arrays["episode"][:] = NEVER_RESET
        arrays["x"][:] = spec.oracle_length
        arrays["t"][:] = spec.episode_length
        arrays["flags"][:] = 1 | (16 if spec.oracle_length == 0 else 0)
        self._narrowed = np.empty(num_envs, np.uint8)
        self._use(arrays)
        self.statistics = EpisodeStatistics(
            np.zeros(num_envs, np.float64),
            np.zeros(num_envs, np.int64),
            np.zeros(num_envs, np.bool_),
            np.zeros(num_envs, np.bool_),
        )
        self._nothing = np.empty(0, np.float32)
        self._never_reset, self._over = num_envs, 0
        self._waiting = True  # some reason not to step: see _check_ready
        count = max(1, min(self._num_threads, num_envs // _LEAST_PER_THREAD))
        bounds = [num_envs * i // count for i in range(count + 1)]
        self._parts = list(itertools.pairwise(bounds))
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._busy = threading.Lock()
        self._closed = False

    def seed(self, keys: Array, indices: Array, mask: Array | None = None) -> None:
        """See `Backend.seed`."""
        self._check_open()
        check_array("keys", keys, ("uint64",), (self.num_envs,))
        check_array("indices", indices, ("uint32",), (self.num_envs,))
        chosen = self._check_mask(mask)
        for name, values in (("key", keys), ("index", indices)):
            self._arrays[name][chosen] = values[chosen]
        self._arrays["episode"][chosen] = NEVER_RESET
        self._count_waiting()

    def reset(
        self,
        obs: Array,
        mask: Array | None = None,
        goals: Array | None = None,
        stagger: bool = False,
    ) -> None:
        """See `Backend.reset`."""
        self._check_open()
        check_array("obs", obs, ("float32",), (self.num_envs, self.spec.obs_dim), written=True)
        chosen = self._check_mask(mask)
        if goals is not None:
            check_array("goals", goals, ("int8",), (self.num_envs,))
            check_goals(goals)
        if mask is not None and np.any((self._arrays["episode"] == NEVER_RESET) & ~mask):
            raise RuntimeError("reset_mask: an env that was never reset is not in the mask")
        numba_kernels.reset(
            self._numbers,
            mask is not None,
            chosen if mask is not None else np.empty(0, np.bool_),
            goals is not None,
            goals if goals is not None else np.empty(0, np.int8),
            bool(stagger),
            *self._state,
        )
        self._count_waiting()
        self.observe(obs)

    def step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> int:
        """See `Backend.step`."""
        if self._waiting:
            self._check_ready(1)
        if final_obs is not None:
            _check_output("final_obs", final_obs, _FLOAT32, self._obs_shape)
        if not self._busy.acquire(False):
            raise RuntimeError("the env is in use by another thread")
        try:
            return self._step(actions, obs, reward, terminated, truncated, final_obs)
        except _Refused:
            self._check_step((self.num_envs,), actions, obs, reward, terminated, truncated)
            raise
        finally:
            self._busy.release()

    def unroll(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> None:
        """See `Backend.unroll`."""
        steps = len(actions) if isinstance(actions, np.ndarray) and actions.ndim == 2 else 0
        shape = (steps, self.num_envs)
        self._check_step(shape, actions, obs, reward, terminated, truncated)
        if final_obs is not None:
            _check_output("final_obs", final_obs, _FLOAT32, (*shape, self.spec.obs_dim))
        self._check_ready(steps)
        flat = actions.reshape(-1)
        if not numba_kernels.narrow(flat, np.empty(flat.size, np.uint8), 0, flat.size):
            _refuse_actions()
        if not self._busy.acquire(False):
            raise RuntimeError("the env is in use by another thread")
        try:
            for s in range(steps):
                final = None if final_obs is None else final_obs[s]
                self._step(actions[s], obs[s], reward[s], terminated[s], truncated[s], final)
        finally:
            self._busy.release()

    def observe(self, obs: Array) -> None:
        """See `Backend.observe`."""
        self._check_open()
        if self._never_reset:
            raise RuntimeError("observe: call reset first")
        check_array("obs", obs, ("float32",), (self.num_envs, self.spec.obs_dim), written=True)
        x, t, flags = self._lanes[:3]
        self._kernels.observe(self._numbers, x, t, flags, obs.reshape(-1), 0, self.num_envs)

    def get_state(self) -> npt.NDArray[np.uint8]:
        """See `Backend.get_state`."""
        self._check_open()
        arrays = np.concatenate([array.view(np.uint8) for array in self._arrays.values()])
        return add_header(arrays, self.spec, self.num_envs, self.mode)

    def set_state(self, state: Array) -> None:
        """See `Backend.set_state`."""
        self._check_open()
        self._use(load_arrays(state, self.spec, self.num_envs, self.mode))
        self._count_waiting()

    def positions(self) -> npt.NDArray[np.int32]:
        """See `Backend.positions`."""
        self._check_open()
        x, t, flags = self._lanes[:3]
        return np.stack([x, (flags & 3) - 1, t, ((flags & 4) >> 1) - 1], axis=1)

    def close(self) -> None:
        """See `Backend.close`."""
        self._check_open()
        if self._pool is not None and self._pool[0] == os.getpid():
            self._pool[1].shutdown()
        self._pool, self._closed, self._waiting = None, True, True

    def _use(self, arrays: dict[str, Array]) -> None:
        """Takes these arrays as the state, in the orders in which the kernels want them."""
        self._arrays = arrays
        self._state = tuple(arrays.values())
        lanes = tuple(arrays[name] for name in _LANES)
        self._lanes = lanes
        self._fixed = (self._numbers, self._rewards, *lanes, self._narrowed)

    def _step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None,
    ) -> int:
        """One step; refuses what it must before any change."""
        stepper = self._steppers.get(getattr(actions, "dtype", None)) or self._stepper(actions)
        arrays = (*self._fixed, actions, obs, reward, terminated, truncated)
        try:
            if len(self._parts) == 1:
                last = stepper(*arrays, 0, self.num_envs, False)
            else:
                last = self._step_parts(stepper, arrays)
        except TypeError as error:  # an array is not of the type that the loop is compiled for
            raise _Refused from error
        if last < 0:
            if last == numba_kernels.BAD_ACTION:
                _refuse_actions()
            if last == numba_kernels.SHARED_MEMORY:
                raise ValueError(
                    "obs, reward, terminated and truncated: expected separate arrays, "
                    "got shared memory"
                )
            raise _Refused
        if last < self.spec.episode_length:
            return 0
        final = self._nothing if final_obs is None else final_obs.reshape(-1)
        finished: int = self._kernels.finish(
            self._numbers, self._amounts, self.mode == "SameStep", *self._state, obs.reshape(-1),
            reward, terminated, final, *self.statistics, 0, self.num_envs,
        )  # fmt: skip
        self._over = finished if self.mode == "Disabled" else 0
        self._waiting = self._over > 0
        return finished

    def _step_parts(self, stepper: Callable[..., int], arrays: tuple[Array, ...]) -> int:
        """The step on several threads: no part may move before all actions are known to be good."""
        narrowed, actions, obs, reward, terminated, truncated = arrays[-6:]
        refusal: int = stepper(*arrays, 0, 0, True)  # checks the shapes, steps nothing
        if refusal < 0:
            return refusal
        if numba_kernels.overlap(obs.reshape(-1), reward, terminated, truncated):
            return numba_kernels.SHARED_MEMORY
        narrow = numba_kernels.narrow
        if not all(self._spread(lambda a, b: narrow(actions, narrowed, a, b))):
            return numba_kernels.BAD_ACTION
        return int(max(self._spread(lambda a, b: stepper(*arrays, a, b, True))))

    def _stepper(self, actions: Any) -> Callable[..., int]:
        """The loop for this dtype of actions, compiled when it is first asked for."""
        if type(actions) is not np.ndarray or actions.dtype not in _ACTION_DTYPES:
            raise _Refused
        stepper = numba_kernels.make_step(*self._kind, actions.dtype.name)
        self._steppers[actions.dtype] = stepper
        return stepper

    def _spread(self, work: Callable[[int, int], Any]) -> list[Any]:
        """Runs `work(begin, end)` on every part, the first on this thread."""
        # A forked child has the pool's object but none of its threads.
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), ThreadPoolExecutor(self._num_threads - 1))
        others = [self._pool[1].submit(work, *part) for part in self._parts[1:]]
        first = work(*self._parts[0])
        return [first, *(other.result() for other in others)]

    def _check_step(
        self,
        shape: tuple[int, ...],
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
    ) -> None:
        """Names the array that is wrong, if one is."""
        self._check_open()
        obs_shape = (*shape, self.spec.obs_dim)
        if not (
            type(actions) is np.ndarray
            and actions.dtype in _ACTION_DTYPES
            and actions.shape == shape
            and actions.flags.c_contiguous
        ):
            check_array("actions", actions, ACTION_TYPES, shape)
        _check_output("obs", obs, _FLOAT32, obs_shape)
        _check_output("reward", reward, _FLOAT32, shape)
        _check_output("terminated", terminated, _BOOL, shape)
        _check_output("truncated", truncated, _BOOL, shape)

    def _check_ready(self, steps: int) -> None:
        self._check_open()
        if self._never_reset:
            raise RuntimeError(
                f"step: call reset first ({self._never_reset} envs were never reset)"
            )
        if self.mode != "Disabled":
            return
        if self._over:
            raise RuntimeError(
                f"step: the episodes of {self._over} envs are over; with autoreset Disabled, "
                "reset them first"
            )
        left = self.spec.episode_length - int(self._arrays["t"].max())
        if steps > left:
            raise RuntimeError(
                f"unroll: with autoreset Disabled, expected at most {left} steps, until the first "
                f"episode is over, got {steps}"
            )

    def _check_mask(self, mask: Array | None) -> Array:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        check_array("mask", mask, ("bool",), (self.num_envs,))
        return mask

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the env is closed")

    def _count_waiting(self) -> None:
        waiting = self._arrays["episode"] == NEVER_RESET
        self._never_reset = int(np.count_nonzero(waiting))
        over = ~waiting & (self._arrays["t"] >= self.spec.episode_length)
        self._over = int(np.count_nonzero(over)) if self.mode == "Disabled" else 0
        self._waiting = self._never_reset > 0 or self._over > 0


def _check_output(name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """`check_array` for an output, a fraction of a microsecond when all is well."""
    if not (
        type(array) is np.ndarray
        and array.dtype == dtype
        and array.shape == shape
        and array.flags.carray
    ):
        check_array(name, array, (dtype.name,), shape, written=True)


def _refuse_actions() -> NoReturn:
    raise ValueError("actions: expected every action to be 0, 1, 2 or 3")


class _Refused(TypeError):
    """The compiled loop does not take these arrays; `_check_step` finds out why."""
