"""One maze as a Gymnasium env: the specification env with Gymnasium's manners."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from fastmaze.envs.options import parse_single_options
from fastmaze.envs.rendering import RENDER_MODES, Frame, Renderer, Scene, check_render_mode
from fastmaze.envs.seeding import check_seed, population_indices
from fastmaze.envs.spaces import action_space, observation_space
from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import NUM_ACTIONS, check_integer, make_spec

Observation = npt.NDArray[np.float32]


def make(
    task: str, *, render_mode: str | None = None, env_index: int = 0, **task_options: Any
) -> TMazeEnv:
    """Makes one copy of a task; see `TMazeEnv`, and `gymnasium.make` for one with wrappers."""
    return TMazeEnv(task, render_mode=render_mode, env_index=env_index, **task_options)


class TMazeEnv(gymnasium.Env[Observation, np.int64]):
    """One T-Maze: the same rules and the same draws as a population's, in readable Python.

    Args:
        task: "PassiveTMaze", "ActiveTMaze" or "TMaze"; see `fastmaze.TASKS`.
        render_mode: "ansi" or "rgb_array", for `render`.
        env_index: which copy of a population to be: reset with the same integer seed, it equals
            env `env_index` of the population.
        **task_options: the task's own, e.g. `length=1000`; see `fastmaze.TMazeSpec`.

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
        self.task_spec = make_spec(task, **task_options)
        self.maze = TMaze(self.task_spec, int(population_indices(env_index, 1, "env_index")[0]))
        self.observation_space = observation_space(self.task_spec)
        self.action_space = action_space()
        self._renderer: Renderer | None = None
        self._was_reset = False
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts the next episode; with a seed (0 to 2**64 - 1), the first one of that seed.

        Args:
            seed: None goes on with the present stream (at the first reset: a random one).
            options: "goal_y", -1 or +1: the goal, instead of a draw.

        Returns:
            The first observation, float32 [D], and an empty info.
        """
        self._check_open()
        goal_y = parse_single_options(options)
        if seed is not None:
            seed = check_seed("seed", seed)
            super().reset(seed=seed)
        elif not self._was_reset:
            seed = int(self.np_random.integers(2**64, dtype=np.uint64))
        obs = self.maze.reset(seed, goal_y)
        self._was_reset = True
        return obs, {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes one step: 0 right, 1 up, 2 left, 3 down.

        Returns:
            obs float32 [D], reward, terminated, truncated (always False), and info: empty, but at
            the end of an episode "episode_return", "episode_length", "success" (ended in the goal
            cell) and "cue_seen" (visited the oracle).

        Raises:
            ValueError: the action is not 0, 1, 2 or 3.
            TypeError: the action is not an integer.
            ResetNeeded: the episode is over, or none was started.
            ClosedEnvironmentError: the env was closed.
        """
        self._check_open()
        # Integers of NumPy and arrays of no dimension will do, as in Gymnasium; True will not.
        action = check_integer("action", action, 0, NUM_ACTIONS - 1)
        if not self._was_reset:
            raise ResetNeeded("step: call reset first")
        if self.maze.t >= self.task_spec.episode_length:
            raise ResetNeeded("step: the episode is over; call reset first")
        obs, reward, done = self.maze.step(action)
        if not done:
            return obs, reward, False, False, {}
        episode = self.maze.statistics()
        info = {
            "episode_return": episode.episode_return,
            "episode_length": episode.length,
            "success": episode.success,
            "cue_seen": episode.cue_seen,
        }
        return obs, reward, True, False, info

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
            self._renderer = Renderer(self.task_spec, self.render_mode)
        maze = self.maze
        position = (maze.x, maze.y, maze.t, maze.goal_y)
        return self._renderer.frame(
            Scene.from_observation(self.task_spec, position, maze.observation().tolist())
        )

    def close(self) -> None:
        """Every later call but `close` raises."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the env was closed; make a new one")
