"""MiniGrid Memory's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer

VIEW: Final = 7
"""Rows and columns of what the agent sees."""

MAX_SIZE: Final = 101
"""Largest grid; MiniGrid registers 7 to 17."""

OBJECTS: Final = ("key", "ball")
"""What can lie in the start room and at the ends, by their numbers in a saved state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniGridMemorySpec(TaskSpec):
    """MiniGrid's Memory: go to the object that lay in the start room (Chevalier-Boisvert et al.).

    `reset` takes `options={"context": …}`, a dict per env, instead of draws: "hallway_end" and
    "start" are columns, "cue" and "upper" are "key" or "ball", what lies in the start room and at
    the upper end.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "MiniGridMemory"
    action_names: ClassVar[tuple[str, ...]] = (
        "left", "right", "forward", "pickup", "drop", "toggle", "done",
    )  # fmt: skip
    reset_option: ClassVar[str | None] = "context"
    context_size: ClassVar[int] = 5
    flag_name: ClassVar[str | None] = "cue_seen"
    ends_early: ClassVar[bool] = True
    obs_dtype: ClassVar[str] = "uint8"
    obs_shape: ClassVar[tuple[int, ...]] = (VIEW, VIEW, 3)
    obs_low: ClassVar[float] = 0
    obs_high: ClassVar[float] = 255
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("x", "u1", 1),
        ("y", "u1", 1),
        ("direction", "u1", 1),  # 0 east, 1 south, 2 west, 3 north
        ("hallway_end", "u1", 1),  # column
        ("cue", "u1", 1),  # number in OBJECTS
        ("upper", "u1", 1),  # number in OBJECTS; the lower end has the other one
        ("cue_seen", "u1", 1),
    )

    size: int = 17
    """Rows and columns of the grid; odd, 7 to 101."""
    random_length: bool = True
    """Draw where the hallway ends; False: it is as long as the grid allows."""
    episode_length: int | None = None  # type: ignore[assignment]
    """T; None for MiniGrid's 5 · size²."""

    def __post_init__(self) -> None:
        size = check_integer("size", self.size, 7, MAX_SIZE)
        if size % 2 == 0:
            raise ValueError(f"size: expected an odd integer from 7 to {MAX_SIZE}, got {size}")
        length = 5 * size**2 if self.episode_length is None else self.episode_length
        object.__setattr__(self, "size", size)
        object.__setattr__(
            self, "random_length", check_boolean("random_length", self.random_length)
        )
        length = check_integer("episode_length", length, 1, MAX_LENGTH)
        object.__setattr__(self, "episode_length", length)

    @property
    def middle(self) -> int:
        """The row of the hallway."""
        return self.size // 2

    @property
    def hallway_ends(self) -> range:
        """Columns in which the hallway can end."""
        return range(4 if self.random_length else self.size - 3, self.size - 2)

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        names = ("size", "random_length", "episode_length")
        return {name: getattr(self, name) for name in names}

    def encode_context(self, name: str, value: Any) -> npt.NDArray[np.uint8]:
        """See `TaskSpec.encode_context`: 1, then the four values."""
        keys = ("hallway_end", "start", "cue", "upper")
        if not isinstance(value, Mapping):
            raise TypeError(f"{name}: expected a dict of {keys}, got {type(value).__name__}")
        if set(value) != set(keys):
            raise ValueError(f"{name}: expected the keys {keys}, got {tuple(value)}")
        ends = self.hallway_ends
        end = check_integer(f"{name}['hallway_end']", value["hallway_end"], ends[0], ends[-1])
        start = check_integer(f"{name}['start']", value["start"], 1, end)
        for key in ("cue", "upper"):
            if not isinstance(value[key], str) or value[key] not in OBJECTS:
                raise ValueError(f"{name}['{key}']: expected one of {OBJECTS}, got {value[key]!r}")
        cue, upper = OBJECTS.index(value["cue"]), OBJECTS.index(value["upper"])
        return np.array([1, end, start, cue, upper], np.uint8)

    def check_context(self, context: npt.NDArray[np.uint8]) -> None:
        """See `TaskSpec.check_context`."""
        first, end, start, cue, upper = context.tolist()
        possible = first == 1 and end in self.hallway_ends and 1 <= start <= end
        if not possible or cue > 1 or upper > 1:
            raise ValueError("context: no episode of this task can begin with what is given")
