"""HeavenHell's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_integer


@dataclass(frozen=True, kw_only=True, slots=True)
class HeavenHellSpec(TaskSpec):
    """Ask the priest which arm of the maze is heaven, then go there (Esslinger et al. 2022).

    `reset` takes `options={"heaven": …}`, -1 for the left arm (west) or +1 for the right one,
    instead of drawing it.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    family: ClassVar[str] = "HeavenHell"
    action_names: ClassVar[tuple[str, ...]] = ("north", "south", "east", "west")
    reset_option: ClassVar[str | None] = "heaven"
    context_size: ClassVar[int] = 1
    flag_name: ClassVar[str | None] = "cue_seen"
    ends_early: ClassVar[bool] = True
    obs_shape: ClassVar[tuple[int, ...]] = (4,)
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("x", "<i4", 1),
        ("y", "<i4", 1),
        ("heaven", "<i4", 1),  # -1 west, +1 east
        ("outcome", "<i4", 1),  # what was paid
        ("asked", "<u4", 1),  # 1 once the priest was visited
    )

    size: int = 3
    """n, cells of the stem, of each arm, and of the way to the priest; at least 1."""
    episode_length: int | None = None  # type: ignore[assignment]
    """T; None for 4n + 3, in which the best walk just fits."""

    def __post_init__(self) -> None:
        size = check_integer("size", self.size, 1, (MAX_LENGTH - 3) // 4)
        length = 4 * size + 3 if self.episode_length is None else self.episode_length
        length = check_integer("episode_length", length, 1, MAX_LENGTH)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "episode_length", length)

    @property
    def obs_low(self) -> tuple[float, ...]:
        """Smallest value of each entry."""
        return (-self.size, -1, -1, 0)

    @property
    def obs_high(self) -> tuple[float, ...]:
        """Largest value of each entry."""
        return (self.size, self.size, 1, 1)

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        return {name: getattr(self, name) for name in ("size", "episode_length")}

    def encode_context(self, name: str, value: Any) -> npt.NDArray[np.uint8]:
        """See `TaskSpec.encode_context`: 1 for the left arm, 2 for the right one."""
        heaven = check_integer(name, value)
        if heaven not in (-1, 1):
            raise ValueError(f"{name}: expected -1 or +1, got {heaven}")
        return np.array([1 if heaven < 0 else 2], np.uint8)

    def check_context(self, context: npt.NDArray[np.uint8]) -> None:
        """See `TaskSpec.check_context`."""
        if context[0] not in (1, 2):
            raise ValueError("heaven: no episode of this task can begin with what is given")
