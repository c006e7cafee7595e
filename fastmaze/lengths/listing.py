"""A step function, listed: which states and observations it leads to, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np

from fastmaze.lengths.exact import common, narrow, rational, refuse_near_duplicates
from fastmaze.lengths.model import Kernel, Start, as_index

SUM_TOLERANCE: Final = Fraction(1, 10**9)
"""Probabilities given as floats may miss one by this much; the largest ones then make up for it.

Dividing by the sum would do as well, but fill the numbers with the sums' prime factors."""

_START: Final = ("probability", "state", "observation")
_OUTCOME: Final = ("probability", "next state", "next observation", "reward")

StepFunction = Callable[[Any, Any, int], Iterable[tuple[Any, Hashable, Hashable, Any]]]
"""(state, action, t) to (probability, next state, next observation, reward), …"""


class Listing:
    """States of the present layer and observations, numbered as they turn up."""

    def __init__(self, floats: str) -> None:
        self.floats, self.rounded = floats, False
        self.chances: dict[Fraction, bool] = {}
        self.rewards: dict[Fraction, bool] = {}
        """Numbers met, and whether they are rounded."""
        self.states: dict[Hashable, int] = {}
        self.observations: dict[Hashable, int] = {}

    def start(self, outcomes: Iterable[tuple[Any, Hashable, Hashable]]) -> Start:
        """Lists what an episode may begin with."""
        rows = _tuples("start", outcomes, _START)
        chances = [self._number("start", p, self.chances) for p, _, _ in rows]
        weights, _ = common(summing_to_one("start", chances))
        kept = [(w, s, o) for w, (_, s, o) in zip(weights, rows, strict=True) if w]
        return Start(
            as_index([self._state(s) for _, s, _ in kept]),
            as_index([self._obs(o) for _, _, o in kept]),
            narrow(np.array([w for w, _, _ in kept], dtype=object)),
        )

    def step(
        self,
        step: StepFunction,
        actions: Sequence[Any],
        t: int,
        check: Callable[[int, int], None],
    ) -> tuple[Kernel, list[list[Fraction]]]:
        """Lists what follows the present layer, which then is the next; and expected rewards.

        Args:
            step: the rules.
            actions: what it is given.
            t: the present layer, from 1 on.
            check: called after each state with how many states and outcomes there are so far; may
                raise, for a single layer can be too large.
        """
        before, self.states = list(self.states), {}
        first, obs, state = [0], [], []
        weights: list[Fraction] = []
        rewards = []
        for origin in before:
            paid = []
            for action in actions:
                name = f"step({origin!r}, {action!r}, {t})"
                outcomes = [
                    (
                        self._number(name, p, self.chances),
                        nxt,
                        o,
                        self._number(f"{name} reward", r, self.rewards),
                    )
                    for p, nxt, o, r in _tuples(name, step(origin, action, t), _OUTCOME)
                ]
                chances = summing_to_one(name, [p for p, *_ in outcomes])
                paid.append(
                    sum((p * r for p, (*_, r) in zip(chances, outcomes, strict=True)), Fraction(0))
                )
                for chance, (_, nxt, seen, _) in zip(chances, outcomes, strict=True):
                    if chance:
                        weights.append(chance)
                        state.append(self._state(nxt))
                        obs.append(self._obs(seen))
                first.append(len(weights))
            rewards.append(paid)
            check(len(self.states), len(weights))
        numerators, total = common(weights)
        weight = narrow(np.array(numerators, dtype=object))
        return Kernel(as_index(first), as_index(obs), as_index(state), weight, total), rewards

    def refuse_near_duplicates(self) -> None:
        """See `exact.refuse_near_duplicates`."""
        if self.rounded:
            refuse_near_duplicates("probabilities", self.chances.items())
            refuse_near_duplicates("rewards", self.rewards.items())

    def _number(self, name: str, value: Any, met: dict[Fraction, bool]) -> Fraction:
        number, rounded = rational(name, value, self.floats)
        self.rounded = self.rounded or rounded
        met[number] = rounded
        return number

    def _state(self, state: Hashable) -> int:
        return self.states.setdefault(_hashable("a state", state), len(self.states))

    def _obs(self, obs: Hashable) -> int:
        known = self.observations
        return known.setdefault(_hashable("an observation", obs), len(known))


def _tuples(name: str, outcomes: Any, fields: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The outcomes as a list, each with all its fields."""
    if not isinstance(outcomes, Iterable):
        raise TypeError(
            f"{name}: expected a list of ({', '.join(fields)}), got {type(outcomes).__name__}"
        )
    rows = list(outcomes)
    for row in rows:
        if not isinstance(row, Sequence) or len(row) != len(fields):
            raise TypeError(f"{name}: expected ({', '.join(fields)}), got {row!r}")
    return rows


def _hashable(what: str, thing: Any) -> Hashable:
    try:
        hash(thing)
    except TypeError:
        raise TypeError(
            f"step: expected {what} that is hashable, such as a number, a string or a tuple, "
            f"got {type(thing).__name__}"
        ) from None
    return thing  # type: ignore[no-any-return]


def summing_to_one(name: str, chances: list[Fraction]) -> list[Fraction]:
    """The chances, as large as they must be to sum to one.

    Raises:
        ValueError: they miss it by more than rounding does, or one is negative.
    """
    if any(p < 0 for p in chances):
        raise ValueError(f"{name}: expected probabilities >= 0, got {float(min(chances))}")
    total = sum(chances, Fraction(0))
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"{name}: expected probabilities that sum to 1, got {float(total)}")
    if total == 1:
        return chances
    top = max(chances)
    share = (1 - total) / chances.count(top)
    return [p + share if p == top else p for p in chances]
