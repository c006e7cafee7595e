"""The T-Maze's rules in readable Python: open this file to learn the task.

```
                          g+   (o+L, +1)
 O---s---------------------J   O = (0,0) oracle, s = (o,0) start, J = (o+L,0) junction
                          g-   (o+L, -1)
```

The goal is one of g+ and g-, drawn per episode. Only the oracle tells which: the first visit of an
episode shows it, for one step. With o = 0 (the passive maze) the agent starts on the oracle.

Source: Ni et al. 2023, Examples 1 and 2, and their published environment. Every faster version in
FastMaze must equal this one bit for bit; the tests see to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import NEVER_RESET, Episode
from fastmaze.reference.philox import draw_goal
from fastmaze.specs import NUM_ACTIONS, TMazeSpec

MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""(dx, dy) of the actions 0 right, 1 up, 2 left, 3 down."""


class TMaze:
    """One T-Maze, stepped by hand.

    Args:
        spec: the task and its options.
        env_index: global index of this copy, as in a population of many (see `draw_goal`).
    """

    def __init__(self, spec: TMazeSpec, env_index: int = 0) -> None:
        self.spec = spec
        self.env_index = env_index
        self.seed = 0
        self.episode = -1
        self.t = spec.episode_length

    def reset(
        self, seed: int | None = None, goal_y: int | None = None, start_t: int = 0
    ) -> npt.NDArray[np.float32]:
        """Starts the next episode; with a seed, the first episode of that seed.

        Args:
            seed: 0 to 2**64 - 1, or None to go on with the present seed.
            goal_y: -1 or +1 instead of the draw.
            start_t: where the clock starts; above 0 for staggered starts only.

        Returns:
            The first observation, float32 [D].
        """
        if goal_y not in (None, -1, 1):
            raise ValueError(f"goal_y: expected -1 or +1, got {goal_y}")
        if seed is None:
            self.episode += 1
        else:
            self.seed, self.episode = seed, 0
        draw = draw_goal(self.seed, self.env_index, self.episode)
        self.goal_y = draw if goal_y is None else goal_y
        self.x, self.y = self.spec.oracle_length, 0
        self.t = self.start_t = start_t
        self.oracle_visited = False
        self.sees_cue = False
        self.num_penalties = 0
        self.num_distractions = 0
        self._look()
        return self.observation()

    def step(self, action: int) -> tuple[npt.NDArray[np.float32], float, bool]:
        """Takes one step: (observation float32 [D], reward, done).

        Raises:
            ValueError: the action is not 0, 1, 2 or 3.
            RuntimeError: the episode is over, or none was started.
        """
        if not 0 <= action < NUM_ACTIONS:
            raise ValueError(f"action: expected 0, 1, 2 or 3, got {action}")
        if self.over:
            raise RuntimeError("step: the episode is over; call reset first")
        self.t += 1
        dx, dy = MOVES[action]
        if self._is_cell(self.x + dx, self.y + dy):
            self.x, self.y = self.x + dx, self.y + dy
        done = self.t >= self.spec.episode_length
        reward = self._reward(action, done)
        self._look()
        return self.observation(), reward, done

    @property
    def over(self) -> bool:
        """Whether the episode has ended, or none was started."""
        return self.t >= self.spec.episode_length

    def _is_cell(self, x: int, y: int) -> bool:
        """Whether (x, y) is part of the maze: the corridor, or a goal cell beside the junction."""
        junction = self.spec.junction
        return (y == 0 and 0 <= x <= junction) or (x == junction and y in (-1, 1))

    def _reward(self, action: int, done: bool) -> float:
        """The reward for having just arrived at (x, y) at time t."""
        spec = self.spec
        if done:
            return spec.goal_reward if self.y == self.goal_y else 0.0
        if spec.penalty_rule == "pace":
            penalised = self.x < self.t - spec.oracle_length
        else:
            penalised = action != 0 and self.t > spec.oracle_length
        reward = 0.0
        if penalised:
            reward += spec.penalty
            self.num_penalties += 1
        if self.x == 0 and spec.distract_reward:
            reward += spec.distract_reward
            self.num_distractions += 1
        return reward

    def _look(self) -> None:
        """The oracle shows the goal at the first visit of an episode and never again."""
        at_oracle = self.x == 0
        self.sees_cue = at_oracle and not self.oracle_visited
        self.oracle_visited = self.oracle_visited or at_oracle

    def observation(self) -> npt.NDArray[np.float32]:
        """The present observation, float32 [D]; see `TMazeSpec` for the entries."""
        spec = self.spec
        cue = self.goal_y if self.sees_cue else 0
        if spec.ambiguous_position:
            entries = [1, self.y] if self.x == spec.junction else [0, cue]
        elif spec.expose_goal:
            entries = [self.x, self.y, self.goal_y if self.oracle_visited else 0]
        else:
            entries = [self.x, self.y, cue]
        if spec.add_timestep:
            entries.append(self.t)
        return np.array(entries, dtype=np.float32)

    def statistics(self) -> Episode:
        """What this episode amounts to so far."""
        done = self.t >= self.spec.episode_length
        success = done and self.y == self.goal_y
        # Counted, not summed step by step: exact, and the same in every backend.
        episode_return = (
            self.num_penalties * self.spec.penalty
            + self.num_distractions * self.spec.distract_reward
            + (self.spec.goal_reward if success else 0.0)
        )
        return Episode(episode_return, self.t - self.start_t, success, self.oracle_visited)

    def save(self) -> dict[str, int]:
        """The state by the names of a saved batch's arrays."""
        if self.episode < 0:
            # At the start, out of time: what every backend holds before the first reset.
            x, cue = self.spec.oracle_length, 2 if self.spec.oracle_length == 0 else 0
            never = {"key": self.seed, "index": 0, "episode": NEVER_RESET, "start": 0}
            rest = {"t": self.spec.episode_length, "flags": 1 | cue << 3}
            return {**never, **rest, "x": x, "penalties": 0, "distractions": 0}
        # The cue: 0 not yet seen, 1 seen before, 2 seen now.
        cue = int(self.oracle_visited) + int(self.sees_cue)
        return {
            "key": self.seed,
            "index": self.env_index,
            "episode": self.episode,
            "start": self.start_t,
            "x": self.x,
            "t": self.t,
            "flags": (self.y + 1) | (self.goal_y == 1) << 2 | cue << 3,
            "penalties": self.num_penalties,
            "distractions": self.num_distractions,
        }

    def load(self, row: Mapping[str, Any]) -> None:
        """Goes on from what `save` returned."""
        self.seed, self.env_index = row["key"], row["index"]
        self.episode = -1 if row["episode"] == NEVER_RESET else row["episode"]
        flags = row["flags"]
        self.y, self.goal_y = (flags & 3) - 1, 1 if flags & 4 else -1
        self.oracle_visited, self.sees_cue = flags >> 3 != 0, flags >> 3 == 2
        self.start_t, self.x, self.t = row["start"], row["x"], row["t"]
        self.num_penalties = row["penalties"]
        self.num_distractions = row["distractions"]
