"""A population of mazes as a Stable-Baselines3 `VecEnv`: thousands of copies in one native step.

SB3 wants a list with a dict for every env and step. Here the envs whose episode goes on share one
empty dict, so that a step costs what the mazes cost; only the ends of episodes make dicts.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.envs.options import parse_single_options
from fastmaze.envs.seeding import check_seed
from fastmaze.envs.vector import FastMazeVectorEnv
from fastmaze.integrations.named_task import spec_of
from fastmaze.integrations.shared_info import SharedInfo
from fastmaze.reference.base import staggered_start
from fastmaze.requirements import require_trainer
from fastmaze.specs import TaskSpec

# 2.6 is the first that takes Gymnasium 1.1, which the vector envs need.
require_trainer(
    "fastmaze.integrations.sb3", extra="sb3", at_least="2.6", package="stable-baselines3"
)

from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import VecEnv  # noqa: E402

Array = npt.NDArray[Any]

VecEnvIndices = int | Sequence[int] | None

_BOOL, _FLOAT32 = np.dtype(np.bool_), np.dtype(np.float32)

_ROWS = 32
"""Last observations that share an array, so that a kept info keeps few of them alive: one array
each would cost more than the infos do."""


_NO_INFO = SharedInfo(
    "infos: envs whose episode goes on share one empty dict, which cannot be changed; "
    "write into copies, infos = [dict(info) for info in infos], or only where dones"
)
"""Of all envs whose episode goes on."""


class FastMazeVecEnv(VecEnv):  # type: ignore[misc]
    """`num_envs` copies of one task for Stable-Baselines3 and sb3-contrib.

    A finished copy starts its next episode in the same step. Its info then holds
    "terminal_observation", "TimeLimit.truncated" (False: the length of an episode is part of the
    task), "episode" (r its return, l its length, t the seconds since the envs were made),
    "is_success" (in a T-Maze: ended in the goal cell) and the task's own flag, if it has one (in a
    T-Maze "cue_seen": visited the oracle). So neither `Monitor` nor `VecMonitor` is needed.

    With `stagger=True` each `reset` starts the clocks of most copies late. These first episodes,
    mostly too short to be solved, have neither "episode" nor "is_success" in their infos, so that
    SB3's logs, `evaluate_policy` and `EvalCallback` count whole episodes alone.

    Below, "obs" stands for arrays [N, *task_spec.obs_shape] of dtype `task_spec.obs_dtype`, for
    T-Mazes float32 [N, D].

    Args:
        task: its name, e.g. "PassiveTMaze" (see `fastmaze.TASKS`), or a spec, e.g. a
            `fastmaze.TMazeSpec`.
        num_envs: N, number of copies.
        seed: of the whole population, for the first `reset`; None takes a random one. SB3's
            algorithms set it by their own `seed`.
        autoreset_mode: "SameStep"; SB3 knows no other.
        **task_options: the task's own, e.g. `length=1000`.
        backend, device, num_threads, env_offset, stagger, render_mode: see `fastmaze.make_vec`.

    Attributes:
        population: the `FastMazeVectorEnv` inside, with `get_state`, `set_state` and `statistics`.

    Raises:
        ValueError: an argument is out of range, or there is no such task, backend or mode.
        TypeError: an argument has the wrong type, or the task has no such option.
        ImportError: an optional package is missing; the message says what to install.
    """

    def __init__(
        self,
        task: str | TaskSpec,
        num_envs: int = 1,
        *,
        backend: str = "native",
        device: str | None = None,
        num_threads: int = 1,
        env_offset: int = 0,
        autoreset_mode: Any = "SameStep",
        stagger: bool = False,
        render_mode: str | None = None,
        seed: int | None = None,
        **task_options: Any,
    ) -> None:
        if getattr(autoreset_mode, "value", autoreset_mode) != "SameStep":
            raise ValueError(
                "autoreset_mode: Stable-Baselines3 needs 'SameStep' (it takes the observation "
                f"after the last one of an episode for the first of the next), got "
                f"{autoreset_mode!r}"
            )
        spec: Any = spec_of(task, task_options)
        self.population = FastMazeVectorEnv(
            spec,
            num_envs=num_envs,
            backend=backend,
            device=device,
            num_threads=num_threads,
            env_offset=env_offset,
            autoreset_mode="SameStep",
            stagger=stagger,
            render_mode=render_mode,
        )
        single = self.population
        # What each copy has, for `get_attr`; the base class asks for render_mode when it is made.
        self._attributes = {
            "task_spec": spec,
            "render_mode": single.render_mode,
            "observation_space": single.single_observation_space,
            "action_space": single.single_action_space,
            "metadata": FastMazeVectorEnv.metadata,
        }
        super().__init__(
            single.num_envs, single.single_observation_space, single.single_action_space
        )
        self._seed = None if seed is None else check_seed("seed", seed)
        self._reset_options_of_all: dict[str, Any] | None = None
        self.reset_infos = [_NO_INFO] * self.num_envs
        self._actions: Array | None = None
        self._obs_shape = (self.num_envs, *spec.obs_shape)
        self._obs_dtype = np.dtype(spec.obs_dtype)
        self._final_obs = np.zeros(self._obs_shape, self._obs_dtype)
        self._truncated = np.zeros(self.num_envs, _BOOL)
        self._flag = spec.flag_name
        # Where a staggered reset cuts the first episode short, and where such a one still runs.
        self._cut = (
            np.array(
                [
                    staggered_start(env_offset + i, spec.episode_length) > 0
                    for i in range(self.num_envs)
                ]
            )
            if stagger
            else None
        )
        self._cut_now: Array | None = None
        self._start = time.time()

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seeds the whole population at the next `reset`, each copy by its global index.

        That is the stream of `fastmaze.make_vec(...).reset(seed=seed)`. SB3's own rule, seed + i
        for copy i, would make populations of neighbouring seeds share nearly all their mazes.

        Args:
            seed: 0 to 2**64 - 1; None draws one from NumPy's global generator, as SB3 does.

        Returns:
            The seed, once per env.
        """
        if seed is None:
            seed = int(np.random.randint(0, np.iinfo(np.uint32).max, dtype=np.uint32))  # noqa: NPY002
        self._seed = check_seed("seed", seed)
        return [self._seed] * self.num_envs

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """What the next `reset` does not draw: in T-Mazes "goal_y", in pixel worlds "context".

        Args:
            options: one dict for all envs, or a list of one per env, as for the single env's
                `reset`; None or empty for draws.

        Raises:
            ValueError: an unknown option or value, a list of another length, or goals for only
                some of the envs.
            TypeError: a wrong type.
        """
        spec = self.population.task_spec
        one_for_all = options is None or isinstance(options, dict)
        each: Any = [options] if one_for_all else options
        if not isinstance(each, (list, tuple)):
            raise TypeError(f"options: expected a dict or a list of dicts, got {options!r}")
        if not one_for_all and len(each) != self.num_envs:
            raise ValueError(f"options: expected {self.num_envs}, one per env, got {len(each)}")
        for entry in each:
            parse_single_options(spec, entry)
        name = spec.reset_option
        values = [(entry or {}).get(name) for entry in each]
        if all(value is None for value in values):
            self._reset_options_of_all = None
            return
        if name == "goal_y" and None in values:
            raise ValueError("options['goal_y']: expected it for all envs or for none")
        self._reset_options_of_all = {name: values * self.num_envs if one_for_all else values}

    def reset(self) -> Array:
        """Starts the next episode of every env; returns fresh obs.

        The seed and the options given before are used once.

        Raises:
            ClosedEnvironmentError: the envs were closed.
        """
        obs, _ = self.population.reset(seed=self._seed, options=self._reset_options_of_all)
        self._seed = self._reset_options_of_all = self._actions = None
        self.reset_infos = [_NO_INFO] * self.num_envs
        self._cut_now = None if self._cut is None else self._cut.copy()
        return obs

    def step_async(self, actions: Array) -> None:
        """Takes the actions for `step_wait`: int64, int32, int8 or uint8 [N]."""
        self._actions = actions

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Steps every env once.

        Returns:
            obs, reward float32 [N], done bool [N] and the infos, a list of N. All of them
            are fresh, but the infos where not done are one empty dict that refuses to be written.

        Raises:
            ValueError: actions of a wrong shape or value; no env has moved.
            TypeError: actions of a wrong dtype; no env has moved.
            ResetNeeded: `reset` was never called; no env has moved.
            RuntimeError: `step_async` was not called before.
            ClosedEnvironmentError: the envs were closed.
        """
        actions, self._actions = self._actions, None
        if type(actions) is not np.ndarray:
            if actions is None:
                raise RuntimeError("step_wait: call step_async with the actions first")
            actions = np.asarray(actions)
        obs = np.empty(self._obs_shape, self._obs_dtype)
        reward, done = np.empty(self.num_envs, _FLOAT32), np.empty(self.num_envs, _BOOL)
        num_ended = self.population.step_into(
            actions, obs, reward, done, self._truncated, self._final_obs
        )
        infos: list[dict[str, Any]] = [_NO_INFO] * self.num_envs
        if num_ended:
            self._fill_infos(infos, np.flatnonzero(done))
        return obs, reward, done, infos

    def _fill_infos(self, infos: list[dict[str, Any]], ended: Array) -> None:
        """Puts a dict of its own where an episode ended; `ended` int64 [K] are these envs."""
        seconds, flag = round(time.time() - self._start, 6), self._flag
        # Lists of Python's own numbers: taking one out of an array at a time costs more than
        # the dicts.
        columns = [column[ended].tolist() for column in self.population.statistics]
        last: list[Array] = []
        for k in range(0, len(ended), _ROWS):
            last.extend(self._final_obs[ended[k : k + _ROWS]])
        for i, obs, total, length, success, flagged in zip(
            ended.tolist(), last, *columns, strict=True
        ):
            infos[i] = info = {
                "terminal_observation": obs,
                "TimeLimit.truncated": False,
                "episode": {"r": total, "l": length, "t": seconds},
                "is_success": success,
            }
            if flag is not None:
                info[flag] = flagged
        if self._cut_now is not None:
            for i in ended[self._cut_now[ended]].tolist():
                del infos[i]["episode"], infos[i]["is_success"]
            self._cut_now[ended] = False
            if not self._cut_now.any():
                self._cut_now = None

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """What each env has: task_spec, render_mode, observation_space, action_space, metadata.

        Raises:
            AttributeError: another name.
        """
        if attr_name not in self._attributes:
            raise AttributeError(
                f"get_attr: expected one of {tuple(self._attributes)}, got {attr_name!r}"
            )
        return [self._attributes[attr_name] for _ in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuses: the envs are one population, and nothing would read what was set.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(
            f"set_attr: {attr_name!r} cannot be set, the envs are one population; give the task's "
            "options to FastMazeVecEnv, and those of episodes to set_options"
        )

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Calls a method of each env; `render` is the one that there is.

        Raises:
            AttributeError: another name.
        """
        if method_name != "render":
            raise AttributeError(
                "env_method: the envs are one population, expected 'render', got "
                f"{method_name!r}; see population for what all envs can do together"
            )
        frames = self.population.render(*method_args, **kwargs)
        return [frames and frames[i] for i in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """False, but True for SB3's `Monitor`: the infos hold what it would add.

        So `evaluate_policy` reads returns from there, and `VecMonitor` warns that it is too much.
        """
        return [issubclass(Monitor, wrapper_class) for _ in self._chosen(indices)]

    def get_images(self) -> Sequence[Array | None]:
        """A picture of each env, uint8 [H, W, 3], in render mode "rgb_array"; else Nones."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"get_images: needs render_mode 'rgb_array', the envs have {self.render_mode!r}",
                stacklevel=2,
            )
            return [None] * self.num_envs
        images: Any = self.population.render()
        return list(images)

    def close(self) -> None:
        """Ends the threads and frees the state; closing again does nothing."""
        self.population.close()

    def _chosen(self, indices: VecEnvIndices) -> list[int]:
        """The envs meant, negative ones counted from the end; IndexError where there is none."""
        return [range(self.num_envs)[i] for i in self._get_indices(indices)]
