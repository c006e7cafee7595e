"""What every task's spec offers to the layers above, so that none of them has to know the task."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

MAX_LENGTH: Final = 2**24 - 1
"""Largest corridor or episode: positions and times stay exact in float32 observations."""


class TaskSpec:
    """Base of the specs, each of them a frozen dataclass of its task's options.

    A subclass names its family and its actions, gives `episode_length`, `obs_shape`, `obs_low` and
    `obs_high`, and, unless it is the T-Maze, `native_options` and `state_fields`.
    """

    __slots__ = ()

    family: ClassVar[str]
    """Which rules: a key of `fastmaze.specs.registry.FAMILIES`, and the task's name in `csrc/`."""
    action_names: ClassVar[tuple[str, ...]]
    """What the actions 0, 1, … mean, in a word each."""
    obs_dtype: ClassVar[str] = "float32"
    """Of an observation's entries: "float32" or "uint8"."""
    reset_option: ClassVar[str | None] = None
    """Option of `reset` that sets what is otherwise drawn at random; None where there is none."""
    flag_name: ClassVar[str | None] = None
    """Key in `info` of the fourth statistic of an episode, a bool; None for none."""
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = ()
    """(name, dtype, count) of the members of `State` in the task's C++ header, in order."""
    context_size: ClassVar[int] = 0
    """Bytes that hold what `reset_option` sets; see `encode_context`."""
    ends_early: ClassVar[bool] = False
    """Whether an episode may end before `episode_length`."""
    chance: ClassVar[float | None] = None
    """Success of an agent that does all else right but remembers nothing; None if it depends."""

    if TYPE_CHECKING:  # subclasses have fields or properties of these names

        @property
        def episode_length(self) -> int:
            """T, steps of an episode; nothing lets an episode go on for longer."""

        @property
        def obs_shape(self) -> tuple[int, ...]:
            """Shape of one observation."""

        @property
        def obs_low(self) -> float | tuple[float, ...]:
            """Smallest value of an observation, or of each entry."""

        @property
        def obs_high(self) -> float | tuple[float, ...]:
            """Largest value of an observation, or of each entry."""

    @property
    def num_actions(self) -> int:
        """Actions are 0 to this number minus 1."""
        return len(self.action_names)

    @property
    def info_names(self) -> tuple[str, ...]:
        """Keys of what `info` tells of a finished episode, in the order of `EpisodeStatistics`."""
        flag = () if self.flag_name is None else (self.flag_name,)
        # Not "episode": that key is Gymnasium's wrapper's.
        return ("episode_return", "episode_length", "success", *flag)

    @property
    def whole_obs(self) -> bool:
        """Whether all entries of an observation are whole numbers."""
        return np.issubdtype(np.dtype(self.obs_dtype), np.integer)

    @property
    def obs_bytes(self) -> int:
        """Bytes of one observation."""
        return math.prod(self.obs_shape) * np.dtype(self.obs_dtype).itemsize

    @property
    def state_dtype(self) -> np.dtype[Any]:
        """`state_fields` as one row of a structured array, without padding."""
        fields = ((name, kind, (n,) if n > 1 else ()) for name, kind, n in self.state_fields)
        return np.dtype(list(fields))

    @property
    def native_options(self) -> Mapping[str, float]:
        """The numbers that the C++ core makes the task from, by the names that it knows."""
        raise NotImplementedError(f"{type(self).__name__} has no native_options")

    def encode_context(self, name: str, value: Any) -> npt.NDArray[np.uint8]:
        """One env's value of `reset_option` as uint8 [context_size], the first of them not 0.

        Args:
            name: what an error calls the value.
            value: what the caller gave.

        Raises:
            TypeError: the value has the wrong type.
            ValueError: no episode of this task can begin so.
        """
        raise NotImplementedError(f"{type(self).__name__} has no {name}")

    def check_context(self, context: npt.NDArray[np.uint8]) -> None:
        """Refuses bytes that `encode_context` cannot have returned.

        Raises:
            ValueError: no episode of this task can begin so.
        """
        raise NotImplementedError(f"{type(self).__name__} has no {self.reset_option}")

    @property
    def fingerprint(self) -> int:
        """64 bits that two specs share only if they are the same task with the same options."""
        options = dataclasses.asdict(self)  # type: ignore[call-overload]
        text = json.dumps([type(self).__name__, options], sort_keys=True)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
