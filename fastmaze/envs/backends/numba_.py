"""The Numba backend: the same batch, compiled when it is first used, without a C++ compiler."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends import numba_kernels
from fastmaze.envs.backends.base import Array, EpisodeStatistics, Mode
from fastmaze.envs.backends.errors import Busy, Closed, NotReady
from fastmaze.envs.backends.exclusive import exclusive
from fastmaze.envs.backends.state import (
    FIELDS,
    add_header,
    load_arrays,
    rule_of,
    view_of,
)
from fastmaze.envs.backends.validation import (
    ACTION_TYPES,
    check_array,
    check_count,
    check_reset,
    check_step,
)
from fastmaze.reference.base import NEVER_RESET
from fastmaze.specs import TMazeSpec

_LANES = ("x", "t", "flags", "penalties", "distractions")


class NumbaBackend:
    """A batch of T-Mazes compiled by Numba (see `Backend` for the methods).

    The first use of each kind of task compiles for a few seconds; Numba keeps the result on disk.

    Args:
        spec: the task.
        num_envs: copies, N.
        mode: when a finished env is reset.
        num_threads: threads that share the work.
        least_per_thread: fewest envs that a thread of its own is worth.
    """

    name = "numba"

    def __init__(
        self,
        spec: TMazeSpec,
        num_envs: int,
        mode: Mode,
        num_threads: int = 1,
        least_per_thread: int = 4096,
    ) -> None:
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
        self.statistics = EpisodeStatistics.of_none(num_envs)
        self._nothing = np.empty((0, 0), np.float32)
        self._never_reset, self._over = num_envs, 0
        self._waiting = True  # some reason not to step: see _check_ready
        count = max(1, min(self._num_threads, num_envs // least_per_thread))
        bounds = [num_envs * i // count for i in range(count + 1)]
        self._parts = list(itertools.pairwise(bounds))
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._busy = threading.Lock()
        self._closed = False

    def reset(
        self,
        obs: Array,
        mask: Array | None = None,
        goals: Array | None = None,
        stagger: bool = False,
        keys: Array | None = None,
        indices: Array | None = None,
        seed_mask: Array | None = None,
    ) -> None:
        """See `Backend.reset`."""
        with self._exclusive():
            check_reset(self.num_envs, self.spec, obs, mask, goals, keys, indices, seed_mask)
            chosen = np.ones(self.num_envs, np.bool_) if mask is None else mask
            if np.any((self._arrays["episode"] == NEVER_RESET) & ~chosen):
                raise NotReady("mask: an env that was never reset is not in the mask")
            if keys is not None and indices is not None:
                seeded = chosen if seed_mask is None else chosen & seed_mask
                self._arrays["key"][seeded] = keys[seeded]
                self._arrays["index"][seeded] = indices[seeded]
                self._arrays["episode"][seeded] = NEVER_RESET  # the next episode is number 0
            drawn = np.zeros(self.num_envs, np.int8) if goals is None else goals
            numba_kernels.reset(self._numbers, chosen, drawn, bool(stagger), *self._state)
            self._count_waiting()
            self._observe(obs)

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
        if not self._busy.acquire(False):
            raise Busy("the env is in use by another thread")
        try:
            if self._waiting:
                self._check_ready(1)
            return self._step(actions, obs, reward, terminated, truncated, final_obs)
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
        with self._exclusive():
            steps = len(actions) if isinstance(actions, np.ndarray) and actions.ndim == 2 else 0
            outputs = (obs, reward, terminated, truncated, final_obs)
            check_step((steps, self.num_envs), self.spec, actions, *outputs)
            self._check_ready(steps)
            flat = actions.reshape(-1)
            if not numba_kernels.narrow(flat, np.empty(flat.size, np.uint8), 0, flat.size):
                _refuse_actions()
            for s in range(steps):
                final = None if final_obs is None else final_obs[s]
                self._step(actions[s], obs[s], reward[s], terminated[s], truncated[s], final)

    def observe(self, obs: Array) -> None:
        """See `Backend.observe`."""
        with self._exclusive():
            if self._never_reset:
                raise NotReady("observe: call reset first")
            check_array("obs", obs, ("float32",), (self.num_envs, self.spec.obs_dim), written=True)
            self._observe(obs)

    def get_state(self) -> npt.NDArray[np.uint8]:
        """See `Backend.get_state`."""
        with self._exclusive():
            arrays = np.concatenate([array.view(np.uint8) for array in self._arrays.values()])
            return add_header(arrays, self.spec, self.num_envs, self.mode)

    def set_state(self, state: Array) -> None:
        """See `Backend.set_state`."""
        with self._exclusive():
            self._use(load_arrays(state, self.spec, self.num_envs, self.mode))
            self._count_waiting()

    def positions(self) -> npt.NDArray[np.int32]:
        """See `Backend.positions`."""
        with self._exclusive():
            x, t, flags = self._lanes[:3]
            return np.stack([x, (flags & 3) - 1, t, ((flags & 4) >> 1) - 1], axis=1)

    def close(self) -> None:
        """See `Backend.close`."""
        with self._exclusive():
            if self._pool is not None and self._pool[0] == os.getpid():
                self._pool[1].shutdown()
            self._pool, self._closed, self._waiting = None, True, True
            self._use({name: np.empty(0, dtype) for name, dtype in FIELDS})

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Holds the batch for one call; refuses a second thread, and any call after `close`."""
        with exclusive(self._busy):
            self._check_open()
            yield

    def _observe(self, obs: Array) -> None:
        x, t, flags = self._lanes[:3]
        self._kernels.observe(self._numbers, x, t, flags, obs.reshape(-1), 0, self.num_envs)

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
        final = self._nothing if final_obs is None else final_obs
        arrays = (*self._fixed, actions, obs, reward, terminated, truncated, final)
        stepper = self._steppers.get(getattr(actions, "dtype", None)) or self._stepper(actions)
        try:
            last = self._step_parts(stepper, arrays)
        except TypeError:
            # The loop is compiled for one type of array, which these are not: either one is wrong,
            # or they are all right but the actions are read-only or of a subclass.
            outputs = (obs, reward, terminated, truncated, final_obs)
            check_step((self.num_envs,), self.spec, actions, *outputs)
            plain = (
                np.array(actions),
                *map(np.asarray, (obs, reward, terminated, truncated, final)),
            )
            last = self._step_parts(stepper, (*self._fixed, *plain))
        if last < 0:
            if last == numba_kernels.BAD_ACTION:
                _refuse_actions()
            outputs = (obs, reward, terminated, truncated, final_obs)
            check_step((self.num_envs,), self.spec, actions, *outputs)
        if last < self.spec.episode_length:
            return 0
        finished: int = self._kernels.finish(
            self._numbers, self._amounts, self.mode == "SameStep", *self._state, obs.reshape(-1),
            reward, terminated, final.reshape(-1), *self.statistics, 0, self.num_envs,
        )  # fmt: skip
        self._over = finished if self.mode == "Disabled" else 0
        self._waiting = self._over > 0
        return finished

    def _step_parts(self, stepper: Callable[..., int], arrays: tuple[Array, ...]) -> int:
        """The loop over all envs, on as many threads as they are worth; see `make_step`."""
        if len(self._parts) == 1:
            return stepper(*arrays, 0, self.num_envs, False)
        # No part may move before all actions are known to be good.
        refusal = stepper(*arrays, 0, 0, False)
        if refusal < 0:
            return refusal
        narrow, narrowed, actions = numba_kernels.narrow, arrays[7], arrays[8]
        if not all(self._spread(lambda a, b: narrow(actions, narrowed, a, b))):
            return numba_kernels.BAD_ACTION
        return int(max(self._spread(lambda a, b: stepper(*arrays, a, b, True))))

    def _stepper(self, actions: Any) -> Callable[..., int]:
        """The loop for this dtype of actions, compiled when it is first asked for."""
        check_array("actions", actions, ACTION_TYPES, (self.num_envs,))
        stepper = numba_kernels.make_step(*self._kind, actions.dtype.name)
        self._steppers[actions.dtype] = stepper
        return stepper

    def _spread(self, work: Callable[[int, int], Any]) -> list[Any]:
        """Runs `work(begin, end)` on every part, the first on this thread."""
        # A forked child has the pool's object but none of its threads.
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), ThreadPoolExecutor(self._num_threads - 1))
        others = [self._pool[1].submit(work, *part) for part in self._parts[1:]]
        try:
            first = work(*self._parts[0])
        finally:
            wait(others)  # also after Ctrl-C: nobody may write when this call is over
        return [first, *(other.result() for other in others)]

    def _check_ready(self, steps: int) -> None:
        self._check_open()
        if self._never_reset:
            raise NotReady(f"step: call reset first ({self._never_reset} envs were never reset)")
        if self.mode != "Disabled":
            return
        if self._over:
            raise NotReady(
                f"step: the episodes of {self._over} envs are over; with autoreset Disabled, "
                "reset them first"
            )
        left = self.spec.episode_length - int(self._arrays["t"].max())
        if steps > left:
            raise NotReady(
                f"unroll: with autoreset Disabled, expected at most {left} steps, until the first "
                f"episode is over, got {steps}"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the env is closed")

    def _count_waiting(self) -> None:
        waiting = self._arrays["episode"] == NEVER_RESET
        self._never_reset = int(np.count_nonzero(waiting))
        over = ~waiting & (self._arrays["t"] >= self.spec.episode_length)
        self._over = int(np.count_nonzero(over)) if self.mode == "Disabled" else 0
        self._waiting = self._never_reset > 0 or self._over > 0


def _refuse_actions() -> NoReturn:
    raise ValueError("actions: expected every action to be 0, 1, 2 or 3")
