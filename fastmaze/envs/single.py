"""One copy of a task as a Gymnasium env: the specification env with Gymnasium's manners."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from fastmaze.envs.options import parse_single_options
from fastmaze.envs.rendering import RENDER_MODES, Frame, check_render_mode
from fastmaze.envs.seeding import check_seed, population_indices
from fastmaze.envs.spaces import action_space, observation_space
from fastmaze.specs import FAMILIES, check_integer, make_spec

Observation = npt.NDArray[Any]


def make(
    task: str, *, render_mode: str | None = None, env_index: int = 0, **task_options: Any
) -> FastMazeEnv:
    """Makes one copy of a task; see `FastMazeEnv`, and `gymnasium.make` for one with wrappers."""
    return FastMazeEnv(task, render_mode=render_mode, env_index=env_index, **task_options)


class FastMazeEnv(gymnasium.Env[Observation, np.int64]):
    """One copy of a task: the same rules and the same draws as a population's, in readable Python.

    Args:
        task: its name, e.g. "PassiveTMaze"; see `fastmaze.TASKS`.
        render_mode: "ansi" or "rgb_array", for `render`.
        env_index: which copy of a population to be: reset with the same integer seed, it equals
            env `env_index` of the population.
        **task_options: the task's own, e.g. `length=1000`; see its spec, e.g. `fastmaze.TMazeSpec`.

    Attributes:
        task_spec: what the task is.
        maze: the specification env inside.

    Raises:
        ValueError: an argument is out of range, or there is no such task.
        TypeError: an argument has the wrong type, or the task has no such option.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        task: str = "TMaze",
        *,
        render_mode: str | None = None,
        env_index: int = 0,
        **task_options: Any,
    ) -> None:
        self.render_mode = check_render_mode(render_mode)
        self.task_spec: Any = make_spec(task, **task_options)
        self._family = FAMILIES[self.task_spec.family]
        index = int(population_indices(env_index, 1, "env_index")[0])
        self.maze: Any = self._family.load("reference")(self.task_spec, index)
        self.observation_space = observation_space(self.task_spec)
        self.action_space = action_space(self.task_spec)
        self._renderer: Any = None
        self._was_reset = False
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts the next episode; with a seed (0 to 2**64 - 1), the first one of that seed.

        Args:
            seed: None goes on with the present stream (at the first reset: a random one).
            options: the task's `reset_option`, instead of a draw. T-Mazes: "goal_y", -1 or +1, the
                goal. Pixel worlds: "context", a dict, see `fastmaze.specs.pixel_worlds`.

        Returns:
            The first observation, of the task's shape and dtype, and an empty info.
        """
        self._check_open()
        context = parse_single_options(self.task_spec, options)
        if seed is not None:
            seed = check_seed("seed", seed)
            super().reset(seed=seed)
        elif not self._was_reset:
            seed = int(self.np_random.integers(2**64, dtype=np.uint64))
        obs = self.maze.reset(seed, context)
        self._was_reset = True
        return obs, {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes one step; `task_spec.action_names` tells what the actions mean.

        Returns:
            obs, reward, terminated, truncated (always False), and info: empty, but at the end of
            an episode "episode_return", "episode_length", "success" (in a T-Maze: ended in the
            goal cell) and the task's own flag (in a T-Maze "cue_seen": visited the oracle).

        Raises:
            ValueError: there is no such action.
            TypeError: the action is not an integer.
            ResetNeeded: the episode is over, or none was started.
            ClosedEnvironmentError: the env was closed.
        """
        self._check_open()
        # Integers of NumPy and arrays of no dimension will do, as in Gymnasium; True will not.
        action = check_integer("action", action, 0, self.task_spec.num_actions - 1)
        if not self._was_reset:
            raise ResetNeeded("step: call reset first")
        if self.maze.over:
            raise ResetNeeded("step: the episode is over; call reset first")
        obs, reward, done = self.maze.step(action)
        if not done:
            return obs, reward, False, False, {}
        episode = self.maze.statistics()
        return obs, reward, True, False, dict(zip(self.task_spec.info_names, episode, strict=False))

    def render(self) -> Frame | None:
        """The present frame: text ("ansi") or uint8 [H, W, 3] ("rgb_array").

        Raises:
            ResetNeeded: before the first reset.
            ClosedEnvironmentError: the env was closed.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(
                f"render: the env was made without render_mode; give one of {RENDER_MODES} to make"
            )
            return None
        self._check_open()
        if not self._was_reset:
            raise ResetNeeded("render: call reset first")
        if self._renderer is None:
            self._renderer = self._family.load("renderer")(self.task_spec, self.render_mode)
        frame: Frame = self._renderer.frame(self.maze)
        return frame

    def close(self) -> None:
        """Every later call but `close` raises."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the env was closed; make a new one")


TMazeEnv = FastMazeEnv
"""The name from when T-Mazes were the only tasks."""
