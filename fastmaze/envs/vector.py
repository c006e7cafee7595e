"""A population of mazes as a Gymnasium vector env: the façade over the backends.

The backend does the work on plain arrays; this file gives it Gymnasium's manners: spaces, seeds,
options, fresh arrays, and infos at the ends of episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector.utils import batch_space

from fastmaze.envs.backends import make_backend
from fastmaze.envs.backends.base import Array, Backend, EpisodeStatistics, Mode
from fastmaze.envs.backends.errors import Closed, NotReady
from fastmaze.envs.backends.state import row_of, split_arrays, strip_header
from fastmaze.envs.backends.validation import check_count
from fastmaze.envs.infos import episode_info
from fastmaze.envs.options import parse_vector_options
from fastmaze.envs.refusals import raise_closed, raise_refused
from fastmaze.envs.rendering import RENDER_MODES, Frame, check_render_mode
from fastmaze.envs.seeding import (
    check_seed,
    fill_streams,
    is_per_env,
    population_indices,
    population_streams,
    seed_streams,
)
from fastmaze.envs.spaces import action_space, observation_space
from fastmaze.envs.trajectory import Trajectory, new_trajectory
from fastmaze.specs import FAMILIES, TaskSpec, check_boolean, make_spec

try:
    from gymnasium.vector import AutoresetMode
except ImportError as error:
    raise ImportError(
        f"the vector envs need gymnasium >= 1.1, found {gymnasium.__version__}: "
        'pip install "gymnasium>=1.1"'
    ) from error

_FLOAT32, _BOOL = np.dtype(np.float32), np.dtype(np.bool_)

StepResult = tuple[Array, Array, Array, Array, dict[str, Any]]


def make_vec(
    task: str,
    *,
    num_envs: int = 1,
    backend: str = "native",
    device: str | None = None,
    num_threads: int = 1,
    env_offset: int = 0,
    autoreset_mode: str | AutoresetMode = "NextStep",
    stagger: bool = False,
    copy: bool = True,
    render_mode: str | None = None,
    **task_options: Any,
) -> FastMazeVectorEnv:
    """Makes `num_envs` copies of a task that step together.

    Args:
        task: its name, e.g. "PassiveTMaze"; see `fastmaze.TASKS`.
        num_envs: N, number of copies.
        backend: "native", "numba", "device" or "reference", as far as the task has it; the same
            seeds and actions give the same bits. "device" computes with torch and copies to NumPy
            and back at every step; `fastmaze.make_device` gives its tensors.
        device: where backend "device" computes, e.g. "cuda" or "cpu"; None is the first GPU, or
            the CPU where there is none.
        num_threads: threads of the backend; results do not depend on it.
        env_offset: global index of the first copy, for populations split over processes: copies
            0 to 99 of one population are the first 50 and, with `env_offset=50`, the others.
        autoreset_mode: when a finished copy starts its next episode: "NextStep" (in the step after
            its last one, which ignores the action), "SameStep" (at once, with the last
            observation in `info["final_obs"]`) or "Disabled" (at the caller's `reset`).
        stagger: let the copies' clocks start evenly spread over the episode at every `reset` of
            the whole population, so that they do not all end on the same step.
        copy: return fresh arrays; False reuses them, so that a step overwrites the last one's.
        render_mode: "ansi" or "rgb_array", for `render`.
        **task_options: the task's own, e.g. `length=1000`; see its spec, e.g.
            `fastmaze.TMazeSpec`.

    Raises:
        ValueError: an argument is out of range, or there is no such task, backend or mode.
        TypeError: an argument has the wrong type, or the task has no such option.
        ImportError: an optional package is missing; the message says what to install.
    """
    return FastMazeVectorEnv(
        make_spec(task, **task_options),
        num_envs=num_envs,
        backend=backend,
        device=device,
        num_threads=num_threads,
        env_offset=env_offset,
        autoreset_mode=autoreset_mode,
        stagger=stagger,
        copy=copy,
        render_mode=render_mode,
    )


class FastMazeVectorEnv(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """`num_envs` copies of one task; `make_vec` explains the arguments.

    At the end of an episode `info` (in mode SameStep `info["final_info"]`) holds
    "episode_return" (float64 [N]), "episode_length" (int64 [N]), "success" (bool [N], in a T-Maze:
    ended in the goal cell) and the task's own flag (bool [N], in a T-Maze "cue_seen": visited the
    oracle), each with a mask of the envs that ended, under its name with `_` in front.

    Below, "obs" stands for arrays [N, *task_spec.obs_shape] of dtype `task_spec.obs_dtype`, for
    T-Mazes float32 [N, D].

    Pickles and deep copies go on bit for bit, but begin with `statistics` of zeros.

    Attributes:
        task_spec: what the task is.
        backend: what computes it.
        statistics: read-only views of each env's last finished episode.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        task_spec: Any,
        *,
        num_envs: int = 1,
        backend: str = "native",
        device: str | None = None,
        num_threads: int = 1,
        env_offset: int = 0,
        autoreset_mode: str | AutoresetMode = "NextStep",
        stagger: bool = False,
        copy: bool = True,
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(task_spec, TaskSpec):
            raise TypeError(
                "task_spec: expected a TMazeSpec or another task's spec (make_vec takes the name "
                f"of a task), got {task_spec!r} ({type(task_spec).__name__})"
            )
        self.task_spec: Any = task_spec
        self.render_mode = check_render_mode(render_mode)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError as error:
            names = tuple(mode.value for mode in AutoresetMode)
            raise ValueError(
                f"autoreset_mode: expected one of {names}, got {autoreset_mode!r}"
            ) from error
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs = check_count("num_envs", num_envs)
        self._obs_shape = (self.num_envs, *task_spec.obs_shape)
        self._obs_dtype = np.dtype(task_spec.obs_dtype)
        self._num_threads, self._device = check_count("num_threads", num_threads), device
        self._indices = population_indices(env_offset, self.num_envs)
        self._stagger = check_boolean("stagger", stagger)
        self._copy = check_boolean("copy", copy)
        self._was_reset = False

        self.single_observation_space = observation_space(task_spec)
        self.single_action_space = action_space(task_spec)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._attach(backend)

    def _attach(self, name: str) -> None:
        """Makes the backend and what hangs on it: all that a pickle leaves out."""
        mode: Mode = self.autoreset_mode.value
        self.backend: Backend = make_backend(
            name, self.task_spec, self.num_envs, mode, self._num_threads, self._device
        )
        # Views, so that nobody can write into the backend's memory by accident.
        views: list[Any] = [column.view() for column in self.backend.statistics]
        for view in views:
            view.flags.writeable = False
        self.statistics = EpisodeStatistics(*views)
        # Bound once: a native step is so short that it feels the look-up.
        self._step: Callable[..., int] = self.backend.step
        self._buffers = self._new_buffers()
        self._final_obs = np.zeros_like(self._buffers[0]) if mode == "SameStep" else None
        self._renderer: Any = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Starts the next episode of every env, or of those in a mask.

        Args:
            seed: an integer, 0 to 2**64 - 1, seeds the whole population, each env by its global
                index; a list seeds env i as a single env with seed `seed[i]`, and leaves envs with
                None their stream; None goes on (at the first reset: from a random seed).
            options: "reset_mask", bool [N]: the envs to reset, at least one; the others stay as
                they are; and the task's own `reset_option`, in place of draws. T-Mazes: "goal_y",
                int [N] or one int, the goals, -1 or +1. Pixel worlds: "context", a list of one
                dict (or None) per env, see `fastmaze.specs.pixel_worlds`.

        Returns:
            Present obs of all envs, and an empty info.

        Raises:
            ValueError: a wrong shape or value, or an unknown option.
            TypeError: a wrong type.
            ResetNeeded: the first reset leaves some env out.
            ClosedEnvironmentError: the envs were closed.
        """
        if self.closed:
            raise_closed()
        mask, context = parse_vector_options(self.task_spec, options, self.num_envs)
        if mask is not None and not self._was_reset and not mask.all():
            raise ResetNeeded("reset: the first reset must reset every env; leave out reset_mask")
        streams = seed_streams(seed, self._indices)
        if not self._was_reset and (streams is None or streams.mask is not None):
            # Envs without a seed of their own start from a random one.
            drawn = int(self.np_random.integers(2**64, dtype=np.uint64))
            streams = fill_streams(streams, population_streams(drawn, self._indices))
        obs = self._new_buffers()[0] if self._copy else self._buffers[0]
        self.backend.reset(
            obs, mask, context, self._stagger and mask is None, *(streams or (None, None, None))
        )
        if seed is not None and not is_per_env(seed):
            super().reset(seed=check_seed("seed", seed))
        self._was_reset = True
        return obs, {}

    def step(self, actions: Array) -> StepResult:
        """Steps every env once.

        Args:
            actions: int64, int32, int8 or uint8 [N], each as `task_spec.action_names` tells: in a
                T-Maze 0 right, 1 up, 2 left or 3 down.

        Returns:
            obs, reward float32 [N], terminated bool [N], truncated bool [N] (always
            False), and info, which is empty unless an episode ended. In mode SameStep the ended
            envs' last observations are in `info["final_obs"]`.

        Raises:
            ValueError: a wrong shape or value; no env has moved.
            TypeError: a wrong dtype; no env has moved.
            ResetNeeded: an env needs a reset first; no env has moved.
            ClosedEnvironmentError: the envs were closed.
        """
        if type(actions) is not np.ndarray:
            actions = np.asarray(actions)
        buffers = self._new_buffers() if self._copy else self._buffers
        try:
            num_ended = self._step(actions, *buffers, self._final_obs)
        except (NotReady, Closed) as error:
            raise_refused(error)
        if num_ended:
            names = self.task_spec.info_names
            return *buffers, episode_info(names, self.statistics, buffers[2], self._final_obs)
        return *buffers, {}

    def step_into(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> int:
        """Steps every env once into the caller's arrays; allocates nothing and makes no info.

        Args:
            actions: as for `step`.
            obs: written.
            reward: float32 [N], written.
            terminated: bool [N], written.
            truncated: bool [N], written.
            final_obs: as obs, written where `terminated`, in mode SameStep only.

        Returns:
            How many episodes ended; `statistics` tells how.

        Raises:
            As `step`, and for arrays of another dtype or shape, read-only, or not contiguous.
        """
        try:
            return self._step(actions, obs, reward, terminated, truncated, final_obs)
        except (NotReady, Closed) as error:
            raise_refused(error)

    def unroll(self, actions: Array) -> Trajectory:
        """Steps every env S times in one call of the backend.

        Args:
            actions: as for `step`, [S, N].

        Raises:
            As `step`; in mode Disabled also if some episode has fewer than S steps left.
        """
        if self.closed:
            raise_closed()
        if type(actions) is not np.ndarray:
            actions = np.asarray(actions)
        if actions.ndim != 2:
            raise ValueError(
                f"actions: expected shape (steps, {self.num_envs}), got {actions.shape}"
            )
        trajectory = new_trajectory(
            len(actions), self.num_envs, self.task_spec, with_final_obs=self._final_obs is not None
        )
        try:
            self.backend.unroll(actions, *trajectory)
        except (NotReady, Closed) as error:
            raise_refused(error)
        return trajectory

    def get_state(self) -> npt.NDArray[np.uint8]:
        """All there is to know to go on bit for bit, random streams included: uint8 [bytes].

        The same bytes with every backend. `statistics` of episodes past are not part of it.
        """
        if self.closed:
            raise_closed()
        return self.backend.get_state()

    def set_state(self, state: Array) -> None:
        """Goes on from what `get_state` returned, of envs of the same task, number and mode.

        Raises:
            ValueError: it is not such a state; nothing has changed.
        """
        if self.closed:
            raise_closed()
        self.backend.set_state(state)
        try:
            self.backend.observe(np.empty_like(self._buffers[0]))
            self._was_reset = True
        except NotReady:
            # Taken before the first reset, which will still have to draw a seed.
            self._was_reset = False

    def render(self) -> tuple[Frame, ...] | None:
        """One frame per env: text ("ansi") or uint8 [H, W, 3] ("rgb_array"); None without a mode.

        Raises:
            ResetNeeded: before the first reset.
            ClosedEnvironmentError: the envs were closed.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                "render: the envs were made without render_mode; "
                f"give one of {RENDER_MODES} to make_vec"
            )
            return None
        if self.closed:
            raise_closed()
        if not self._was_reset:
            raise ResetNeeded("render: call reset first")
        spec, family = self.task_spec, FAMILIES[self.task_spec.family]
        if self._renderer is None:
            self._renderer = family.load("renderer")(spec, self.render_mode)
        mode: Mode = self.autoreset_mode.value
        saved = strip_header(self.backend.get_state(), spec, self.num_envs, mode)
        arrays = split_arrays(saved, spec, self.num_envs)
        # Specification envs in the same state know all that a picture shows.
        env, frames = family.load("reference")(spec), []
        for i in range(self.num_envs):
            env.load(row_of(arrays, i))
            frames.append(self._renderer.frame(env))
        return tuple(frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the backend; `close` calls it once."""
        # Older versions of Gymnasium close what was never made, when the constructor raised.
        if hasattr(self, "backend"):
            self.backend.close()
        # No method of this env: older versions close dropped envs, which must not then wait for
        # the garbage collector.
        self._step = raise_closed
        nothing = np.empty(0, _FLOAT32)
        self._buffers = (nothing, nothing, nothing, nothing)
        self._final_obs = self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        if self.closed:
            raise_closed()
        kept = self.__dict__.copy()
        for name in ("statistics", "_step", "_buffers", "_final_obs", "_renderer"):
            del kept[name]
        kept["backend"] = (self.backend.name, self.backend.get_state())
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        kept = dict(kept)
        name, state = kept.pop("backend")
        self.__dict__.update(kept)
        self._attach(name)
        self.backend.set_state(state)

    def _new_buffers(self) -> tuple[Array, Array, Array, Array]:
        """Uninitialised obs, reward, terminated, truncated."""
        n = self.num_envs
        return (
            np.empty(self._obs_shape, self._obs_dtype),
            np.empty(n, _FLOAT32),
            np.empty(n, _BOOL),
            np.empty(n, _BOOL),
        )
