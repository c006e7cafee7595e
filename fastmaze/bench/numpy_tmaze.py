"""The T-Maze batched by a good NumPy programmer: the baseline that a native core must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.specs import TMazeSpec


class NumpyTMaze:
    """`num_envs` T-Mazes as NumPy arrays, all starting and ending together.

    Covers the paper's settings (`ambiguous_position`, penalty rule "pace"); its draws come from
    NumPy's generator, so its goals are not those of the other backends.
    """

    def __init__(self, spec: TMazeSpec, num_envs: int) -> None:
        self.spec, self.num_envs = spec, num_envs
        self.rng = np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> npt.NDArray[np.float32]:
        """Starts an episode in every env; returns the observations, float32 [N, 2]."""
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        n = self.num_envs
        self.goal = self.rng.integers(0, 2, n, dtype=np.int8) * 2 - 1
        self.x = np.full(n, self.spec.oracle_length, np.int32)
        self.y = np.zeros(n, np.int8)
        self.visited = np.zeros(n, np.bool_)
        self.t = 0
        return self._observe()

    def step(self, actions: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        """(obs float32 [N, 2], reward float32 [N], terminated bool [N]); resets at the end."""
        spec = self.spec
        self.t += 1
        dx = (actions == 0).astype(np.int32) - (actions == 2)
        dy = (actions == 1).astype(np.int8) - (actions == 3)
        at_junction = self.x == spec.junction
        x = np.where(self.y == 0, np.clip(self.x + dx, 0, spec.junction), self.x)
        self.y = np.where(at_junction, np.clip(self.y + dy, -1, 1), self.y)
        self.x = x
        if self.t >= spec.episode_length:
            reward = np.where(self.y == self.goal, spec.goal_reward, 0.0).astype(np.float32)
            return self.reset(), reward, np.ones(self.num_envs, np.bool_)
        behind = x < self.t - spec.oracle_length
        reward = behind.astype(np.float32) * np.float32(spec.penalty)
        return self._observe(), reward, np.zeros(self.num_envs, np.bool_)

    def _observe(self) -> npt.NDArray[np.float32]:
        obs = np.empty((self.num_envs, 2), np.float32)
        at_junction, at_oracle = self.x == self.spec.junction, self.x == 0
        obs[:, 0] = at_junction
        obs[:, 1] = np.where(at_junction, self.y, np.where(at_oracle & ~self.visited, self.goal, 0))
        self.visited |= at_oracle
        return obs
