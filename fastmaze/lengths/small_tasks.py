"""The paper's other tasks in abstract form, by name; small enough to enumerate.

Each keeps what decides its lengths (who sees what when, what is paid when) and drops the rest:
pixels, room layouts, the size of a deck. Where a published environment leaves its mark, the
docstring says so. A task's own rules, where FastMaze has them, are analysed by its spec instead:
`analyze(make_spec("MemoryLength", length=9))`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fastmaze.lengths.small_delays import delayed_catch, key_to_door, umbrella_length
from fastmaze.lengths.small_mazes import bakker_tmaze, heaven_hell, tmaze_long
from fastmaze.lengths.small_recall import autoencode, memory_cards, memory_length, repeat_first
from fastmaze.lengths.tabular import TabularPOMDP, check_gamma


@dataclass(frozen=True, slots=True)
class SmallTask:
    """A task of the paper's table in abstract form."""

    build: Callable[..., TabularPOMDP]
    dial: str
    """The option that `--length` sets."""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of all options."""
        return tuple(inspect.signature(self.build).parameters)


SMALL_TASKS: Final[dict[str, SmallTask]] = {
    "MemoryLength": SmallTask(memory_length, "length"),
    "UmbrellaLength": SmallTask(umbrella_length, "length"),
    "RepeatFirst": SmallTask(repeat_first, "copies"),
    "Autoencode": SmallTask(autoencode, "copies"),
    "TMazeLong": SmallTask(tmaze_long, "length"),
    "HeavenHell": SmallTask(heaven_hell, "size"),
    "BakkerTMaze": SmallTask(bakker_tmaze, "length"),
    "MemoryCards": SmallTask(memory_cards, "episode_length"),
    "DelayedCatch": SmallTask(delayed_catch, "runs"),
    "KeyToDoor": SmallTask(key_to_door, "distractor"),
}
"""Task name to its abstract form."""


def small_task(name: str, gamma: Any = 1, **options: Any) -> TabularPOMDP:
    """A small task by name.

    Raises:
        TypeError: it has no such option, or an option has the wrong type.
        ValueError: an option or `gamma` is out of range.
    """
    build, known = SMALL_TASKS[name].build, SMALL_TASKS[name].options
    for option in options:
        if option not in known:
            raise TypeError(
                f"{name} has no option {option!r} in its abstract form; that one's options are "
                f"{', '.join(known)}"
            )
    model = build(**options)
    model.gamma, odd = check_gamma(gamma)
    model.rounded = model.rounded or odd
    return model
