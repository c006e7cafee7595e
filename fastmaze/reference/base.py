"""What the specification envs of all tasks have in common: clock, random stream, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from fastmaze.reference.philox import philox4x32

NEVER_RESET: Final = 0xFFFFFFFF
"""Episode index of an env that was never reset since it was made or seeded."""


class Episode(NamedTuple):
    """What one finished episode amounts to."""

    episode_return: float
    """Sum of the rewards."""
    length: int
    """Steps taken."""
    success: bool
    """Did what the task asks for; in a T-Maze: ended in the goal cell."""
    cue_seen: bool
    """What `TaskSpec.flag_name` names; in a T-Maze: visited the oracle at any time."""


class Draws:
    """The random numbers of one episode: number k is word k % 4 of Philox block k // 4.

    Every moment t has four more of its own, so that an episode of any length has fresh ones at each
    step and none has to be kept.

    Args:
        seed: 0 to 2**64 - 1; its low and high halves are the two key words.
        env_index: global index of the env, the first counter word.
        episode: index of the episode since the env was seeded, the second counter word.
    """

    def __init__(self, seed: int, env_index: int, episode: int) -> None:
        self._key = (seed & 0xFFFFFFFF, seed >> 32)
        self._counter = (env_index, episode)

    def below(self, k: int, n: int) -> int:
        """Random number k of the episode, scaled to 0 … n - 1."""
        block = philox4x32((*self._counter, k // 4, 0), self._key)
        return block[k % 4] * n >> 32

    def below_at(self, t: int, j: int, n: int) -> int:
        """Random number j, 0 to 3, of the moment t of the episode, scaled to 0 … n - 1."""
        return philox4x32((*self._counter, t, 1), self._key)[j] * n >> 32


class SpecificationEnv(ABC):
    """Base of all specification envs but the T-Maze's: a task adds what the methods say.

    `begin` draws or sets what an episode starts with, `move` is one step after the clock has moved
    on, `observation` and `statistics` tell about the present, and `task_state` and `load_task`
    give and take the members named in `TaskSpec.state_fields`.

    Args:
        spec: the task and its options.
        env_index: global index of this copy, as in a population of many.

    Attributes:
        t: the clock, steps since the episode began (or more, after a staggered start).
        over: whether the episode has ended, or none was started.
    """

    def __init__(self, spec: Any, env_index: int = 0) -> None:
        self.spec: Any = spec
        self.env_index = env_index
        self.seed = 0
        self.episode = -1
        self.t = self.start_t = 0
        self.over = True

    @property
    def draws(self) -> Draws:
        """The random numbers of the present episode."""
        return Draws(self.seed, self.env_index, self.episode)

    def reset(
        self, seed: int | None = None, context: Any = None, start_t: int = 0
    ) -> npt.NDArray[Any]:
        """Starts the next episode; with a seed, the first episode of that seed.

        Args:
            seed: 0 to 2**64 - 1, or None to go on with the present seed.
            context: what `TaskSpec.encode_context` returned, instead of draws.
            start_t: where the clock starts; above 0 for staggered starts only.

        Returns:
            The first observation.
        """
        if seed is None:
            self.episode += 1
        else:
            self.seed, self.episode = seed, 0
        self.t = self.start_t = start_t
        self.over = False
        self.begin(context)
        return self.observation()

    def step(self, action: int) -> tuple[npt.NDArray[Any], float, bool]:
        """Takes one step: (observation, reward, done).

        Raises:
            ValueError: there is no such action.
            RuntimeError: the episode is over, or none was started.
        """
        if not 0 <= action < self.spec.num_actions:
            raise ValueError(f"action: expected 0 to {self.spec.num_actions - 1}, got {action}")
        if self.over:
            raise RuntimeError("step: the episode is over; call reset first")
        self.t += 1
        reward, ended = self.move(action)
        self.over = ended or self.t >= self.spec.episode_length
        return self.observation(), reward, self.over

    @abstractmethod
    def begin(self, context: Any) -> None:
        """Sets what an episode starts with, at clock `t`; draws what `context` leaves open."""

    @abstractmethod
    def move(self, action: int) -> tuple[float, bool]:
        """(reward, whether the episode ends before its time) of one step, `t` being the new one."""

    @abstractmethod
    def observation(self) -> npt.NDArray[Any]:
        """The present observation."""

    @abstractmethod
    def statistics(self) -> Episode:
        """What this episode amounts to so far."""

    @abstractmethod
    def task_state(self) -> dict[str, Any]:
        """The members named in `TaskSpec.state_fields`: numbers, or lists of them."""

    @abstractmethod
    def load_task(self, row: Mapping[str, Any]) -> None:
        """Goes on from what `task_state` returned; the clock is already set.

        Raises:
            ValueError: no episode of this task can reach these values.
        """

    def save(self) -> dict[str, Any]:
        """The state by the names of a saved batch's arrays and of the task's own members."""
        if self.episode < 0:
            zeros = {name: [0] * n if n > 1 else 0 for name, _, n in self.spec.state_fields}
            common = {"key": self.seed, "index": 0, "episode": NEVER_RESET, "start": 0, "t": 0}
            return {**common, "over": 1, **zeros}
        return {
            "key": self.seed,
            "index": self.env_index,
            "episode": self.episode,
            "start": self.start_t,
            "t": self.t,
            "over": int(self.over),
            **self.task_state(),
        }

    def load(self, row: Mapping[str, Any]) -> None:
        """Goes on from what `save` returned.

        Raises:
            ValueError: no episode of this task can reach these values.
        """
        never, length = row["episode"] == NEVER_RESET, self.spec.episode_length
        good = 0 <= row["start"] <= row["t"] <= length and row["over"] in (0, 1)
        if never:
            good = good and row["over"] == 1
        else:
            ended = row["over"] == 1
            good = good and row["start"] < length and (row["t"] < length or ended)
            good = good and (not ended or row["t"] > row["start"])
            good = good and (not ended or self.spec.ends_early or row["t"] == length)
        if not good:
            raise ValueError("the clock is wrong")
        self.seed, self.env_index = row["key"], row["index"]
        self.episode = -1 if never else row["episode"]
        self.start_t, self.t, self.over = row["start"], row["t"], bool(row["over"])
        if not never:
            self.load_task(row)


def staggered_start(env_index: int, episode_length: int) -> int:
    """Clock at which env `env_index` starts when starts are staggered, 0 to episode_length - 1.

    Multiples of the golden ratio, modulo one, fill the unit interval evenly for any number of
    envs, so episode ends spread evenly too, however a population is split.
    """
    return ((env_index * 0x9E3779B9) & 0xFFFFFFFF) * episode_length >> 32
