"""A task in which any two histories share an optimal action, and all three share none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fastmaze.lengths import TabularPOMDP


def three_worlds(horizon: int) -> TabularPOMDP:
    """Which of three worlds shows at first; in each, one action of three fails at the end."""

    def step(world: Any, action: int, t: int) -> list[tuple[Any, ...]]:
        return [(1, world, "nothing", int(action != world) if t == horizon else 0)]

    start = [(Fraction(1, 3), world, world) for world in range(3)]
    return TabularPOMDP.from_step(start, step, actions=range(3), horizon=horizon)
