"""A batch of specification envs behind the backends' contract: slow, the oracle of the tests."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.base import Array, EpisodeStatistics, Mode
from fastmaze.envs.backends.errors import Closed, NotReady
from fastmaze.envs.backends.state import (
    add_header,
    fields_of,
    load_arrays,
    row_of,
    split_arrays,
    strip_header,
)
from fastmaze.envs.backends.validation import (
    check_actions,
    check_array,
    check_count,
    check_reset,
    check_step,
)
from fastmaze.reference.base import staggered_start
from fastmaze.specs import FAMILIES, TaskSpec, TMazeSpec


class ReferenceBackend:
    """`num_envs` specification envs in a Python loop; see `base.Backend` for every method.

    Args:
        spec: the task.
        num_envs: number of copies.
        mode: when a finished env is reset.
        num_threads: accepted for the contract's sake; the loop is one thread's work.
    """

    name = "reference"

    def __init__(
        self, spec: TaskSpec, num_envs: int, mode: Mode = "NextStep", num_threads: int = 1
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode: expected one of {get_args(Mode)}, got {mode!r}")
        check_count("num_threads", num_threads)
        self.spec = spec
        self.num_envs = check_count("num_envs", num_envs)
        self.mode: Mode = mode
        self.statistics = EpisodeStatistics.of_none(self.num_envs)
        self._envs = self._new_envs()
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
        """Starts the next episode of the masked envs; writes the observations of all."""
        self._check_open()
        check_reset(self.num_envs, self.spec, obs, mask, goals, keys, indices, seed_mask)
        chosen = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        self._check_started(np.setdiff1d(np.arange(self.num_envs), chosen))
        for i in chosen:
            env = self._envs[i]
            if keys is not None and indices is not None and (seed_mask is None or seed_mask[i]):
                env.seed, env.env_index, env.episode = int(keys[i]), int(indices[i]), -1
            start = staggered_start(env.env_index, self.spec.episode_length) if stagger else 0
            env.reset(None, self._context_of(goals, i), start)
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
        """Steps every env once; returns how many episodes ended."""
        self._check_step((self.num_envs,), actions, obs, reward, terminated, truncated, final_obs)
        self._check_ready(num_steps=1)
        return self._step(actions, obs, reward, terminated, truncated, final_obs)

    def unroll(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> None:
        """Steps every env once for each row of `actions`."""
        num_steps = len(actions) if isinstance(actions, np.ndarray) and actions.ndim == 2 else 0
        shape = (num_steps, self.num_envs)
        self._check_step(shape, actions, obs, reward, terminated, truncated, final_obs)
        self._check_ready(num_steps)
        for s in range(num_steps):
            final = None if final_obs is None else final_obs[s]
            self._step(actions[s], obs[s], reward[s], terminated[s], truncated[s], final)

    def get_state(self) -> npt.NDArray[np.uint8]:
        """Everything but the statistics, in the layout of `state`."""
        self._check_open()
        columns = self._columns()
        arrays = np.concatenate([columns[name].view(np.uint8) for name, _ in fields_of(self.spec)])
        return add_header(arrays, self.spec, self.num_envs, self.mode)

    def _columns(self) -> dict[str, Array]:
        """The envs' values as the arrays of a saved batch."""
        rows = [env.save() for env in self._envs]
        columns = {}
        for name, dtype in fields_of(self.spec):
            column = columns[name] = np.zeros(self.num_envs, dtype)
            for member in dtype.names or (None,):
                values = [row[member or name] for row in rows]
                (column if member is None else column[member])[...] = values
        return columns

    def set_state(self, state: Array) -> None:
        """Goes on from what `get_state` returned, of this or another backend."""
        self._check_open()
        if isinstance(self.spec, TMazeSpec):
            arrays = load_arrays(state, self.spec, self.num_envs, self.mode)
        else:
            saved = strip_header(state, self.spec, self.num_envs, self.mode)
            arrays = split_arrays(saved, self.spec, self.num_envs)
        # New envs, so that the present ones stay as they are if some value is wrong.
        envs = self._new_envs()
        for i, env in enumerate(envs):
            row = row_of(arrays, i)
            try:
                env.load(row)
            except ValueError as error:
                raise _impossible(i) from error
            if self.mode == "SameStep" and env.over and self._is_started(env):
                raise _impossible(i)
        self._envs = envs

    def observe(self, obs: Array) -> None:
        """Writes the present observations."""
        self._check_open()
        self._check_started(np.arange(self.num_envs))
        shape = (self.num_envs, *self.spec.obs_shape)
        check_array("obs", obs, (self.spec.obs_dtype,), shape, written=True)
        for i, env in enumerate(self._envs):
            obs[i] = env.observation()

    def positions(self) -> npt.NDArray[np.int32]:
        """(x, y, t, goal_y) of each T-Maze, int32 [num_envs, 4]."""
        self._check_open()
        columns = self._columns()
        flags = columns["flags"]
        return np.stack(
            [columns["x"], (flags & 3) - 1, columns["t"], ((flags & 4) >> 1) - 1], axis=1
        )

    def close(self) -> None:
        """Drops the envs; every later call raises."""
        self._closed = True
        self._envs = []

    def _step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None,
    ) -> int:
        """One step of every env, on checked arguments."""
        truncated[:] = False
        for i, env in enumerate(self._envs):
            if self.mode == "NextStep" and env.over:
                # The step after the end ignores the action and only starts the next episode.
                obs[i], reward[i], terminated[i] = env.reset(), 0, False
                continue
            obs[i], reward[i], terminated[i] = env.step(int(actions[i]))
            if terminated[i]:
                episode = env.statistics()
                for column, value in zip(self.statistics, episode, strict=True):
                    column[i] = value
                if self.mode == "SameStep":
                    if final_obs is not None:
                        final_obs[i] = obs[i]
                    obs[i] = env.reset()
        return int(np.count_nonzero(terminated))

    def _check_step(self, shape: tuple[int, ...], actions: Any, *outputs: Any) -> None:
        self._check_open()
        check_step(shape, self.spec, actions, *outputs)
        check_actions(actions, self.spec.num_actions)

    def _check_ready(self, num_steps: int) -> None:
        """Refuses steps that some env cannot take, before any env takes one."""
        self._check_started(np.arange(self.num_envs))
        if self.mode == "Disabled":
            if num_steps > 1 and self.spec.ends_early:
                raise NotReady(
                    "unroll: with autoreset disabled, expected one step, for episodes "
                    f"of this task may end at any step, got {num_steps}"
                )
            length = self.spec.episode_length
            left = [0 if env.over else length - env.t for env in self._envs]
            first = int(np.argmin(left))
            if left[first] < max(num_steps, 1):
                raise NotReady(
                    f"step: env {first} has {left[first]} steps left in its episode, "
                    f"asked for {num_steps}; reset it first (autoreset is disabled)"
                )

    def _check_started(self, indices: npt.NDArray[np.intp]) -> None:
        for i in indices:
            if not self._is_started(self._envs[i]):
                raise NotReady(f"env {i} was never reset; call reset first")

    def _new_envs(self) -> list[Any]:
        make = FAMILIES[self.spec.family].load("reference")
        return [make(self.spec, index) for index in range(self.num_envs)]

    def _context_of(self, contexts: Array | None, i: Any) -> Any:
        """What env i's episode is to begin with; None for draws."""
        if contexts is None:
            return None
        context = contexts[i]
        if self.spec.family == "TMaze":
            return int(context) or None
        return context if context[0] else None

    @staticmethod
    def _is_started(env: Any) -> bool:
        """Whether the env was reset since it was made or seeded."""
        started: bool = env.episode >= 0
        return started

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the env is closed")


def _impossible(i: int) -> ValueError:
    return ValueError(f"state: env {i} holds values that no episode of this task can reach")
