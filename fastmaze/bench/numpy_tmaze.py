"""The T-Maze batched by a good NumPy programmer: the baseline that a native core must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.specs import TMazeSpec

_DX = np.array([1, 0, -1, 0], np.int32)
_DY = np.array([0, 1, 0, -1], np.int8)


class NumpyTMaze:
    """`num_envs` T-Mazes as NumPy arrays, all starting and ending together.

    Narrow types, look-up tables, and every temporary preallocated; the arrays returned are used
    again by the next step. Covers the paper's settings (`ambiguous_position`, penalty rule "pace");
    its draws come from NumPy's generator, so its goals are not those of the other backends.

    Args:
        spec: the task.
        num_envs: N.

    Raises:
        ValueError: the task has an option that this baseline does not cover.
    """

    def __init__(self, spec: TMazeSpec, num_envs: int) -> None:
        if not spec.ambiguous_position or spec.penalty_rule != "pace" or spec.distract_reward:
            raise ValueError("spec: the NumPy baseline covers PassiveTMaze and ActiveTMaze only")
        self.spec, self.num_envs = spec, num_envs
        self.rng = np.random.default_rng(0)
        self.penalty = np.float32(spec.penalty)
        n = num_envs
        self.dx, self.dy = np.empty(n, np.int32), np.empty(n, np.int8)
        self.here, self.there = np.empty((2, n), np.bool_)
        self.obs, self.reward = np.empty((n, 2), np.float32), np.empty(n, np.float32)
        self.never, self.always = np.zeros(n, np.bool_), np.ones(n, np.bool_)
        self.reset()

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
        spec, at_junction, in_corridor = self.spec, self.here, self.there
        self.t += 1
        np.take(_DX, actions, out=self.dx, mode="clip")
        np.take(_DY, actions, out=self.dy, mode="clip")
        np.equal(self.x, spec.junction, out=at_junction)
        np.equal(self.y, 0, out=in_corridor)
        self.dx *= in_corridor
        self.dy *= at_junction
        self.x += self.dx
        self.y += self.dy
        np.clip(self.x, 0, spec.junction, out=self.x)
        np.clip(self.y, -1, 1, out=self.y)
        if self.t >= spec.episode_length:
            reward = np.where(self.y == self.goal, np.float32(spec.goal_reward), np.float32(0))
            return self.reset(), reward, self.always
        behind = np.less(self.x, self.t - spec.oracle_length, out=self.here)
        np.multiply(behind, self.penalty, out=self.reward)
        return self._observe(), self.reward, self.never

    def _observe(self) -> npt.NDArray[np.float32]:
        at_junction = np.equal(self.x, self.spec.junction, out=self.here)
        at_oracle = np.equal(self.x, 0, out=self.there)
        np.multiply(self.y, at_junction, out=self.dy)
        self.dy += self.goal * (at_oracle & ~self.visited)
        self.visited |= at_oracle
        self.obs[:, 0] = at_junction
        self.obs[:, 1] = self.dy
        return self.obs
