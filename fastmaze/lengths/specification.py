"""A task's specification env, read as a table: its own rules, with every draw both ways.

A state is what the env saves of itself. Its random numbers are taken from a script instead of from
Philox, and the script is varied until every outcome was seen. Numbers count as uniform.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import SpecificationEnv
from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import FAMILIES, TaskSpec, TMazeSpec

T = TypeVar("T")

Outcome = tuple[Fraction, Hashable, str, float]
"""(probability, next state, next observation, reward)."""

OVER: Final = "over"
"""State and observation after the end of an episode that ends early."""

_NOTHING_LEFT: Final = ("penalties", "distractions")
"""What a T-Maze counts for its statistics alone."""


class Rules(Protocol):
    """A task's rules as `TabularPOMDP.from_step` takes them."""

    def start(self) -> list[tuple[Fraction, Hashable, str]]:
        """What an episode may begin with: (probability, state, first observation), …."""

    def step(self, state: Any, action: str, t: int) -> list[Outcome]:
        """What may follow: (probability, next state, next observation, reward), …."""


def described(spec: TaskSpec) -> str:
    """A spec in short: its family, and the options that are not the default."""
    given = [
        f"{field.name}={getattr(spec, field.name)!r}"
        for field in dataclasses.fields(spec)  # type: ignore[arg-type]
        if getattr(spec, field.name) != field.default
    ]
    return f"{type(spec).__name__.removesuffix('Spec')}({', '.join(given)})"


def rules_of(spec: TaskSpec, max_outcomes: int) -> Rules:
    """The rules of a task.

    Args:
        spec: the task.
        max_outcomes: give up where the draws of one step have more outcomes than this.

    Raises:
        TypeError: not a task's spec.
    """
    if isinstance(spec, TMazeSpec):
        return _TMazeRules(spec)
    if not isinstance(spec, TaskSpec):
        raise TypeError(f"spec: expected a task's spec, got {type(spec).__name__}")
    return _Scripted(spec, max_outcomes)


class _TMazeRules:
    """The T-Maze draws nothing but its goal."""

    def __init__(self, spec: TMazeSpec) -> None:
        self.env = TMaze(spec)

    def start(self) -> list[tuple[Fraction, Hashable, str]]:
        """The goal on either side."""
        found: list[tuple[Fraction, Hashable, str]] = []
        for goal in (-1, 1):
            shown = self.env.reset(seed=0, goal_y=goal)
            found.append((Fraction(1, 2), self._state(), observation_text(shown)))
        return found

    def step(self, state: Any, action: str, t: int) -> list[Outcome]:
        """What one step leads to."""
        self.env.load(dict(state))
        shown, reward, _ = self.env.step(self.env.spec.action_names.index(action))
        return [(Fraction(1), self._state(), observation_text(shown), reward)]

    def _state(self) -> Hashable:
        return _frozen({**self.env.save(), **dict.fromkeys(_NOTHING_LEFT, 0)})


class _Scripted:
    """Any other task: `SpecificationEnv` says what its envs have in common."""

    def __init__(self, spec: TaskSpec, max_outcomes: int) -> None:
        self.spec, self.max_outcomes = spec, max_outcomes
        self.script = _Script((), {}, 0)
        rules = FAMILIES[spec.family].load("reference")
        scripted = type(rules.__name__, (rules,), {"draws": property(lambda _: self.script)})
        self.env: SpecificationEnv = scripted(spec)
        self.drawn_at: dict[Hashable, int] = {}
        """When each random number was drawn."""

    def start(self) -> list[tuple[Fraction, Hashable, str]]:
        """Every start of an episode."""

        def begin() -> tuple[Hashable, str]:
            shown = self.env.reset(seed=0)
            return self._state(), observation_text(shown)

        return [(chance, *found) for chance, found in self._outcomes(begin, 0)]

    def step(self, state: Any, action: str, t: int) -> list[Outcome]:
        """What one step leads to."""
        if state == OVER:
            return [(Fraction(1), OVER, OVER, 0.0)]
        row, number = dict(state), self.spec.action_names.index(action)

        def move() -> tuple[Hashable, str, float]:
            env = self.env
            env.t, env.start_t, env.over = t - 1, 0, False
            env.load_task({k: list(v) if isinstance(v, tuple) else v for k, v in row.items()})
            shown, reward, done = env.step(number)
            return OVER if done else self._state(), observation_text(shown), reward

        return [(chance, *found) for chance, found in self._outcomes(move, t)]

    def _state(self) -> Hashable:
        return _frozen(self.env.task_state())

    def _outcomes(self, run: Callable[[], T], t: int) -> Iterator[tuple[Fraction, T]]:
        """What `run` gives for every way its draws can fall, with their chances."""
        waiting: list[tuple[int, ...]] = [()]
        seen = 0
        while waiting:
            chosen = waiting.pop()
            self.script = _Script(chosen, self.drawn_at, t)
            found = run()
            sizes, taken = self.script.sizes, self.script.taken
            count, seen = math.prod(sizes), seen + 1
            if max(count, seen) > self.max_outcomes:
                figure = f"{count:,}" if count < 10**9 else f"{count:.1e}"
                raise ValueError(
                    f"max_states: the draws {'of a step' if t else 'at the start'} fall in "
                    f"{figure} ways, more than {self.max_outcomes:,}: take a smaller task, or an "
                    "abstract form by name (`fastmaze lengths --help` lists them)"
                )
            for i in range(len(chosen), len(sizes)):
                waiting += [(*taken[:i], other) for other in range(1, sizes[i])]
            yield Fraction(1, count), found


class _Script:
    """Stands in for `Draws`: the first numbers are given, all that follow are 0."""

    def __init__(self, chosen: tuple[int, ...], drawn_at: dict[Hashable, int], t: int) -> None:
        self.chosen, self.drawn_at, self.t = chosen, drawn_at, t
        self.sizes: list[int] = []
        self.taken: list[int] = []
        self.known: dict[Hashable, int] = {}
        """Place of random number k in the script."""

    def below(self, k: int, n: int) -> int:
        """Random number k of the episode, 0 … n - 1."""
        return self._draw(k, n)

    def below_at(self, t: int, j: int, n: int) -> int:
        """Random number j of the moment t, 0 … n - 1."""
        return self._draw((t, j), n)

    def _draw(self, k: Hashable, n: int) -> int:
        if self.drawn_at.setdefault(k, self.t) != self.t:
            raise ValueError(
                f"spec: random number {k} is drawn at t = {self.drawn_at[k]} and again at "
                f"{self.t}: only a task that keeps what it drew can be read as a table"
            )
        if k not in self.known:
            self.known[k] = len(self.sizes)
            self.taken.append(
                self.chosen[len(self.sizes)] if self.known[k] < len(self.chosen) else 0
            )
            self.sizes.append(n)
        return self.taken[self.known[k]]


def _frozen(row: Mapping[str, Any]) -> Hashable:
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in row.items())


def observation_text(shown: npt.NDArray[Any]) -> str:
    """An observation's entries, whole numbers without a point."""
    entries = [str(int(x)) if x == np.floor(x) else str(x) for x in shown.reshape(-1)]
    return f"[{', '.join(entries)}]"
