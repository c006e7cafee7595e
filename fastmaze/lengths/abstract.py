"""What the abstract forms of tasks are made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from fractions import Fraction
from typing import Any, Final

from fastmaze.lengths.tabular import TabularPOMDP

Outcome = tuple[Fraction | int, Hashable, Hashable, Fraction | int]
"""(probability, next state, next observation, reward)."""

HALF: Final = Fraction(1, 2)
END: Final = "end"
"""State and observation after an episode's early end."""

NOTE: Final = (
    "the abstract form of the task: who sees what when and what is paid when, "
    "without its rooms, pixels or large decks"
)


def abstract(
    name: str,
    dial: int,
    start: Iterable[tuple[Fraction | int, Hashable, Hashable]],
    step: Callable[[Any, Any, int], list[Outcome]],
    actions: tuple[Any, ...],
    horizon: int,
) -> TabularPOMDP:
    """The POMDP of a task's rules, named as what it is: not the task itself."""
    model = TabularPOMDP.from_step(
        start, step, actions=actions, horizon=horizon, name=f"{name} {dial} (abstract form)"
    )
    model.note = NOTE
    return model
