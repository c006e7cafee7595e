"""Step 1: hidden states with equal futures become one class, layer by layer, backwards.

Two states are the same at t if for each action the expected reward is equal, and so is the joint
distribution of (o_{t+1}, class at t + 1). A T-Maze of thousands of states keeps a few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fastmaze.lengths.exact import Integers, narrow, widen
from fastmaze.lengths.model import Index, Model, Start, take_rows
from fastmaze.lengths.repeats import Pool
from fastmaze.lengths.rows import Numbered, add_up, number, number_rows, number_together, pointers

Progress = Callable[[str, int, int], None]
"""(what is being done, how far, of how much)."""

MAX_STATES: Final = 5_000_000_000
"""Largest number of hidden states by default, over all t; some 3 million go by in a second."""

_STEP_COST: Final = 1_000
"""A step costs as much as this many states, however few it has."""


@dataclass(frozen=True, eq=False, slots=True)
class ClassLayer:
    """The classes of one time, and what may follow. Row c·A + a as in `Kernel`."""

    count: int
    first: Index
    obs: Index
    successor: Index
    weight: Integers
    total: int
    reward: Integers
    """[C, A], in the model's unit."""


@dataclass(frozen=True, eq=False, slots=True)
class Minimised:
    """A model with as few hidden states as its futures allow."""

    start: Start
    layers: list[ClassLayer]
    """layers[t - 1], t = 1 … T."""
    num_states: list[int]
    """Reachable states of each layer before."""
    num_unreachable: int
    """States, over all layers 1 … T, that no history can be in."""


def refuse_too_large(horizon: int, states: int, max_states: int) -> None:
    """Refuses what would take hours, before anything is done.

    Args:
        horizon: T.
        states: hidden states at one t, on average.
        max_states: the limit on their number over all t.
    """
    if horizon * max(states, _STEP_COST) > max_states:
        raise ValueError(
            f"max_states: {horizon:,} steps of {states:,} states, {horizon * states:,} in all, are "
            f"too many for the limit of {max_states:,} (a step counts as {_STEP_COST:,} at least): "
            "make the task smaller, or raise max_states and wait"
        )


def minimise(model: Model, progress: Progress, max_states: int = MAX_STATES) -> Minimised:
    """Merges reachable hidden states that nothing observable or paid tells apart.

    Raises:
        ValueError: there are too many.
    """
    horizon, actions = model.horizon, model.num_actions
    refuse_too_large(horizon, model.num_states(1), max_states)
    states = sum(model.num_states(t) for t in range(1, horizon + 1))
    refuse_too_large(horizon, states // horizon, max_states)
    reachable = _reachable(model, progress)
    counts: list[int] = []
    layers: list[ClassLayer] = []
    pool: Pool[ClassLayer] = Pool()
    # After the last step nothing follows: all states are one class.
    class_of, classes = np.zeros(model.num_states(horizon + 1), np.int64), 1
    for t in range(horizon, 0, -1):
        kernel = model.kernel(t)
        here = np.flatnonzero(np.unpackbits(reachable[t - 1], count=model.num_states(t)))
        reward = model.rewards(t, here)
        rows = (here[:, None] * actions + np.arange(actions)).reshape(-1)
        taken = take_rows(kernel.first, rows)
        key = kernel.obs[taken.entry] * classes + class_of[kernel.state[taken.entry]]
        (weight,) = widen(kernel.total, kernel.weight)
        sums = add_up(taken.row, key, weight[taken.entry])
        entry = number(sums.key)
        if not (sums.weight == sums.weight[0]).all():
            entry = number_together([entry, number(sums.weight)])
        future = number_rows(rows.size, sums.row, entry)
        columns = [
            Numbered(future.ids[a::actions], future.examples) for a in range(actions)
        ] + [number(reward[:, a]) for a in range(actions)]  # fmt: skip
        merged = number_together([number(columns[0].ids), *columns[1:]])
        layer = _layer(
            merged, actions, sums.row, sums.key, sums.weight, classes, reward, kernel.total
        )
        layers.append(
            pool.the(
                layer, layer.first, layer.obs, layer.successor, layer.weight, layer.reward,
                np.array([layer.total, classes]),
            )
        )  # fmt: skip
        counts.append(here.size)
        class_of, classes = np.zeros(model.num_states(t), np.int64), merged.size
        class_of[here] = merged.ids
        progress("minimising hidden states", horizon + 1 - t, horizon)
    start = model.start()
    return Minimised(
        Start(class_of[start.state], start.obs, start.weight),
        layers[::-1],
        counts[::-1],
        states - sum(counts),
    )


def _reachable(
    model: Model, progress: Progress
) -> list[np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """Which states of each layer some actions lead to, one bit a state."""
    found = []
    mask = np.zeros(model.num_states(1), bool)
    mask[model.start().state] = True
    for t in range(1, model.horizon + 1):
        found.append(np.packbits(mask))
        states = np.flatnonzero(mask)
        kernel = model.kernel(t)
        rows = states[:, None] * model.num_actions + np.arange(model.num_actions)
        taken = take_rows(kernel.first, rows.reshape(-1))
        mask = np.zeros(model.num_states(t + 1), bool)
        mask[kernel.state[taken.entry]] = True
        progress("finding reachable states", t, model.horizon)
    return found


def _layer(
    merged: Numbered,
    actions: int,
    row: Index,
    key: Index,
    weight: Integers,
    classes: int,
    reward: Integers,
    total: int,
) -> ClassLayer:
    """The classes by an example each."""
    first = pointers(merged.ids.size * actions, row)
    rows = (merged.examples[:, None] * actions + np.arange(actions)).reshape(-1)
    taken = take_rows(first, rows)
    weights = weight[taken.entry]
    # Numbers stay small if what is common to all weights is taken out.
    divisor = int(np.gcd.reduce(np.append(weights, total)))
    kept = narrow(weights // divisor)
    return ClassLayer(
        count=merged.size,
        first=pointers(rows.size, taken.row),
        obs=key[taken.entry] // classes,
        successor=key[taken.entry] % classes,
        weight=kept,
        total=total // divisor,
        reward=reward[merged.examples],
    )
