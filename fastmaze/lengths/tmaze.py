"""The T-Maze as a model: every state of `fastmaze.reference.tmaze`, numbered.

A state is (place, goal, oracle visited). Places 0 … J are the corridor with the junction J, then
come the goal cells y = +1 and y = -1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np

from fastmaze.lengths.exact import INT64_SAFE, Integers, rational
from fastmaze.lengths.model import Index, Kernel, Model, Start, as_index
from fastmaze.lengths.tabular import check_gamma
from fastmaze.reference.tmaze import MOVES
from fastmaze.specs import MAX_LENGTH, NUM_ACTIONS, TMazeSpec

_GOALS: Final = np.array([-1, 1])
_LOOKS: Final = 9
"""Pairs of (y, cue), each -1, 0 or 1."""


class TMazeModel(Model):
    """A T-Maze for the analysis; its float options are read as the simplest fractions.

    Args:
        spec: the task.
        name: what reports call it.
        gamma: reward discount, 0 to 1.
    """

    def __init__(self, spec: TMazeSpec, name: str = "TMaze", gamma: Any = 1) -> None:
        self.name, self.spec = name, spec
        self.horizon, self.num_actions = spec.episode_length, NUM_ACTIONS
        self.action_names = ("right", "up", "left", "down")
        self.gamma, odd = check_gamma(gamma)
        amounts = [
            rational(option, getattr(spec, option), max_denominator=MAX_LENGTH + 1)
            for option in ("goal_reward", "penalty", "distract_reward")
        ]
        self.rounded = odd or any(rounded for _, rounded in amounts)
        self.reward_unit = math.lcm(*(amount.denominator for amount, _ in amounts))
        scaled = [int(amount * self.reward_unit) for amount, _ in amounts]
        self._goal, self._penalty, self._distract = scaled
        # Rewards may be as large as float32 allows.
        self._dtype = np.int64 if sum(map(abs, scaled)) < INT64_SAFE else object
        state = np.arange(self.states_of(spec))
        self._place, self._goal_y = state // 4, _GOALS[state // 2 % 2]
        self._visited = (state % 2).astype(bool)
        self._next = self._next_states()
        obs = self._observations(self._next, self._visited[:, None]).reshape(-1)
        size = self._next.size
        ones = np.ones(size, np.int64)
        self._kernel = Kernel(np.arange(size + 1), obs, self._next.reshape(-1), ones, 1)

    def _xy(self, place: Index) -> tuple[Index, Index]:
        """Coordinates of places."""
        junction = self.spec.junction
        return np.minimum(place, junction), (place == junction + 1) * 1 - (place == junction + 2)

    def _next_states(self) -> Index:
        """[S, A]."""
        junction = self.spec.junction
        x, y = self._xy(self._place)
        columns = []
        for dx, dy in MOVES:
            to_x, to_y = x + dx, y + dy
            corridor = (to_y == 0) & (to_x >= 0) & (to_x <= junction)
            goal = (to_x == junction) & (np.abs(to_y) == 1)
            place = np.where(corridor, to_x, self._place)
            place = np.where(goal, junction + np.where(to_y == 1, 1, 2), place)
            visited = self._visited | (place == 0)
            columns.append(place * 4 + (self._goal_y > 0) * 2 + visited)
        return as_index(np.stack(columns, axis=1))

    def _observations(self, state: Index, visited_before: Any) -> Index:
        """What is seen on arriving in the states, as (x or junction?, y, cue) in one number."""
        spec = self.spec
        x, y = self._xy(self._place[state])
        goal = self._goal_y[state]
        first_look = (x == 0) & np.logical_not(visited_before)
        if spec.expose_goal:
            cue = np.where(self._visited[state], goal, 0)
        else:
            cue = np.where(first_look, goal, 0)
        where = (x == spec.junction) * 1 if spec.ambiguous_position else x
        return as_index((where * 3 + y + 1) * 3 + cue + 1)

    def _stamp(self, obs: Index, t: int) -> Index:
        """With `add_timestep` the observation tells the time (t - 1 after t - 1 steps)."""
        if not self.spec.add_timestep:
            return obs
        return obs + (t - 1) * (self.spec.junction + 1) * _LOOKS

    def start(self) -> Start:
        """At the start, the goal on either side."""
        place = self.spec.oracle_length
        state = as_index([place * 4 + goal * 2 + (place == 0) for goal in (0, 1)])
        obs = self._stamp(self._observations(state, False), 1)
        return Start(state, obs, np.ones(2, np.int64))

    @staticmethod
    def states_of(spec: TMazeSpec) -> int:
        """States at one time, reachable or not."""
        return (spec.junction + 3) * 4

    def num_states(self, t: int) -> int:
        """The same at any time."""
        return self.states_of(self.spec)

    def kernel(self, t: int) -> Kernel:
        """Moves are certain."""
        obs = self._kernel.obs
        return dataclasses.replace(self._kernel, obs=self._stamp(obs, t + 1))

    def rewards(self, t: int, states: Index) -> Integers:
        """The rules of the reference, over all actions at once."""
        spec = self.spec
        x, y = self._xy(self._place[self._next[states]])
        if t >= spec.episode_length:
            success: Integers = (y == self._goal_y[states][:, None]).astype(self._dtype)
            success *= self._goal
            return success
        if spec.penalty_rule == "pace":
            penalised = x < t - spec.oracle_length
        else:
            penalised = np.broadcast_to((np.arange(4) != 0) & (t > spec.oracle_length), x.shape)
        paid: Integers = penalised.astype(self._dtype) * self._penalty
        paid += (x == 0) * self._distract
        return paid

    def observation_name(self, obs: int) -> str:
        """The vector that the env would show."""
        time, look = divmod(obs, (self.spec.junction + 1) * _LOOKS)
        where, y, cue = look // 9, look // 3 % 3 - 1, look % 3 - 1
        entries = [where, y, cue]
        if self.spec.ambiguous_position:
            entries = [where, y if where else cue]
        if self.spec.add_timestep:
            entries.append(time)
        return str(entries)
