"""A batch of specification envs behind the backends' contract: slow, the oracle of the tests."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.base import Array, EpisodeStatistics, Mode
from fastmaze.envs.backends.errors import Closed, NotReady
from fastmaze.envs.backends.state import FIELDS, NEVER_RESET, add_header, load_arrays
from fastmaze.envs.backends.validation import (
    check_actions,
    check_array,
    check_count,
    check_reset,
    check_step,
)
from fastmaze.reference.tmaze import TMaze, staggered_start
from fastmaze.specs import TMazeSpec


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
        self, spec: TMazeSpec, num_envs: int, mode: Mode = "NextStep", num_threads: int = 1
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode: expected one of {get_args(Mode)}, got {mode!r}")
        check_count("num_threads", num_threads)
        self.spec = spec
        self.num_envs = check_count("num_envs", num_envs)
        self.mode: Mode = mode
        self.statistics = EpisodeStatistics.of_none(self.num_envs)
        self._envs = [TMaze(spec, index) for index in range(num_envs)]
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
        check_reset(self.num_envs, self.spec.obs_dim, obs, mask, goals, keys, indices, seed_mask)
        chosen = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        self._check_started(np.setdiff1d(np.arange(self.num_envs), chosen))
        for i in chosen:
            env = self._envs[i]
            if keys is not None and indices is not None and (seed_mask is None or seed_mask[i]):
                env.seed, env.env_index, env.episode = int(keys[i]), int(indices[i]), -1
            start = staggered_start(env.env_index, self.spec.episode_length) if stagger else 0
            goal = None if goals is None or goals[i] == 0 else int(goals[i])
            env.reset(goal_y=goal, start_t=start)
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
        arrays = np.concatenate([columns[name].view(np.uint8) for name, _ in FIELDS])
        return add_header(arrays, self.spec, self.num_envs, self.mode)

    def _columns(self) -> dict[str, Array]:
        """The envs' values as the arrays of a saved batch."""
        columns = {name: np.zeros(self.num_envs, dtype) for name, dtype in FIELDS}
        for i, env in enumerate(self._envs):
            columns["key"][i] = env.seed
            if not self._is_started(env):
                # At the start, out of time: what every backend holds before the first reset.
                columns["episode"][i] = NEVER_RESET
                columns["x"][i], columns["t"][i] = self.spec.oracle_length, self.spec.episode_length
                columns["flags"][i] = 1 | (2 if self.spec.oracle_length == 0 else 0) << 3
                continue
            columns["index"][i], columns["episode"][i] = env.env_index, env.episode
            # The cue: 0 not yet seen, 1 seen before, 2 seen now.
            cue = int(env.oracle_visited) + int(env.sees_cue)
            columns["flags"][i] = (env.y + 1) | (env.goal_y == 1) << 2 | cue << 3
            columns["start"][i], columns["x"][i], columns["t"][i] = env.start_t, env.x, env.t
            columns["penalties"][i] = env.num_penalties
            columns["distractions"][i] = env.num_distractions
        return columns

    def set_state(self, state: Array) -> None:
        """Goes on from what `get_state` returned, of this or another backend."""
        self._check_open()
        arrays = load_arrays(state, self.spec, self.num_envs, self.mode)
        columns: dict[str, list[int]] = {name: array.tolist() for name, array in arrays.items()}
        for i, env in enumerate(self._envs):
            env.seed, env.env_index = columns["key"][i], columns["index"][i]
            episode = columns["episode"][i]
            env.episode = -1 if episode == NEVER_RESET else episode
            flags = columns["flags"][i]
            env.y, env.goal_y = (flags & 3) - 1, 1 if flags & 4 else -1
            env.oracle_visited, env.sees_cue = flags >> 3 != 0, flags >> 3 == 2
            env.start_t, env.x, env.t = columns["start"][i], columns["x"][i], columns["t"][i]
            env.num_penalties = columns["penalties"][i]
            env.num_distractions = columns["distractions"][i]

    def observe(self, obs: Array) -> None:
        """Writes the present observations."""
        self._check_open()
        self._check_started(np.arange(self.num_envs))
        check_array("obs", obs, ("float32",), (self.num_envs, self.spec.obs_dim), written=True)
        for i, env in enumerate(self._envs):
            obs[i] = env.observation()

    def positions(self) -> npt.NDArray[np.int32]:
        """(x, y, t, goal_y) of each env, int32 [num_envs, 4]."""
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
            if self.mode == "NextStep" and env.t >= self.spec.episode_length:
                # The step after the end ignores the action and only starts the next episode.
                obs[i], reward[i], terminated[i] = env.reset(), 0, False
                continue
            obs[i], reward[i], terminated[i] = env.step(int(actions[i]))
            if terminated[i]:
                episode = env.statistics()
                self.statistics.episode_return[i] = episode.episode_return
                self.statistics.length[i] = episode.length
                self.statistics.success[i] = episode.success
                self.statistics.cue_seen[i] = episode.cue_seen
                if self.mode == "SameStep":
                    if final_obs is not None:
                        final_obs[i] = obs[i]
                    obs[i] = env.reset()
        return int(np.count_nonzero(terminated))

    def _check_step(self, shape: tuple[int, ...], actions: Any, *outputs: Any) -> None:
        self._check_open()
        check_step(shape, self.spec.obs_dim, actions, *outputs)
        check_actions(actions)

    def _check_ready(self, num_steps: int) -> None:
        """Refuses steps that some env cannot take, before any env takes one."""
        self._check_started(np.arange(self.num_envs))
        if self.mode == "Disabled":
            left = [self.spec.episode_length - env.t for env in self._envs]
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

    @staticmethod
    def _is_started(env: TMaze) -> bool:
        """Whether the env was reset since it was made or seeded."""
        return env.episode >= 0

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the env is closed")
