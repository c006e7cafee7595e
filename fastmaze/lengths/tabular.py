"""Any finite-horizon POMDP, from matrices or from a step function over hashable states."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastmaze.lengths.exact import (
    FLOATS,
    Integers,
    Rationals,
    common,
    narrow,
    rational,
    rationals,
)
from fastmaze.lengths.listing import SUM_TOLERANCE, Listing, StepFunction
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.model import Index, Kernel, Model, Start, as_index
from fastmaze.lengths.specification import described, rules_of
from fastmaze.specs import TaskSpec, check_integer

MAX_STATES: Final = 5_000_000
"""Largest number of states, over all layers, that a step function may lead to."""

MAX_STATES_OF_SPEC: Final = 100_000
"""The same for a task whose rules are stepped in Python: a minute's work rather than an hour's."""

OUTCOMES_PER_STATE: Final = 8
"""Most of them on the average, over all actions and draws, where `max_states` states are listed."""


class TabularPOMDP(Model):
    """A POMDP of finitely many states, actions, observations and steps.

    Make one with `from_arrays`, `from_step` or `from_spec`.
    """

    def __init__(
        self,
        *,
        name: str,
        horizon: int,
        gamma: Fraction,
        start: Start,
        sizes: Sequence[int],
        kernels: Sequence[Kernel],
        rewards: Sequence[Integers],
        reward_unit: int,
        rounded: bool,
        action_names: Sequence[str],
        observation_names: Sequence[str],
    ) -> None:
        self.name, self.horizon, self.gamma = name, horizon, gamma
        self.num_actions, self.action_names = len(action_names), tuple(action_names)
        self.reward_unit, self.rounded = reward_unit, rounded
        self._start, self._sizes = start, sizes
        self._kernels, self._rewards = kernels, rewards
        self._observation_names = observation_names

    def __repr__(self) -> str:
        return (
            f"<TabularPOMDP {self.name}: T = {self.horizon}, {self.num_states(1)} states at first, "
            f"{self.num_actions} actions, {len(self._observation_names)} observations>"
        )

    def start(self) -> Start:
        """How an episode begins."""
        return self._start

    def num_states(self, t: int) -> int:
        """States of layer t."""
        return self._sizes[min(t, len(self._sizes)) - 1]

    def kernel(self, t: int) -> Kernel:
        """From layer t to layer t + 1."""
        return self._kernels[min(t, len(self._kernels)) - 1]

    def rewards(self, t: int, states: Index) -> Integers:
        """E[r_t | s, a] in units of 1 / `reward_unit`."""
        return self._rewards[min(t, len(self._rewards)) - 1][states]

    def observation_name(self, obs: int) -> str:
        """An observation's name."""
        return self._observation_names[obs]

    @classmethod
    def from_arrays(
        cls,
        start: npt.ArrayLike,
        transition: npt.ArrayLike,
        observation: npt.ArrayLike,
        reward: npt.ArrayLike,
        *,
        horizon: int,
        gamma: Any = 1,
        name: str = "POMDP",
        action_names: Sequence[str] | None = None,
        observation_names: Sequence[str] | None = None,
        floats: str = "simplest",
    ) -> TabularPOMDP:
        """A POMDP from its matrices, of integers, Fractions or floats.

        Args:
            start: P(s_1) [S].
            transition: P(s' | s, a) [S, A, S], or one per step [T, S, A, S].
            observation: P(o | s) [S, O], or one per time [T + 1, S, O].
            reward: E[r | s, a] [S, A], or one per step [T, S, A], or by next state too [S, A, S]
                or [T, S, A, S]. Where T = S = A, three axes are read as the latter.
            horizon: T, the number of actions.
            gamma: reward discount, 0 to 1.
            name: what reports call it.
            action_names: A names; 0, 1, … if not given.
            observation_names: O names; 0, 1, … if not given.
            floats: "simplest" or "exact", how floats are read (see `fastmaze.lengths.exact`).

        Raises:
            TypeError: something is not a number.
            ValueError: a shape does not fit, a probability is negative, a distribution does not
                sum to one, a number is not finite, or `horizon` or `gamma` is out of range.
        """
        horizon = check_integer("horizon", horizon, 1)
        discount, rounded = check_gamma(gamma, floats)
        first = _distribution("start", start, 1, floats)
        move = _distribution("transition", transition, (3, 4), floats)
        look = _distribution("observation", observation, (2, 3), floats)
        states = move.numerators.shape[-1]
        actions, num_obs = move.numerators.shape[-2], look.numerators.shape[-1]
        if actions < 1 or num_obs < 1 or states < 1:
            raise ValueError("expected at least one state, one action and one observation")
        _check_shape("transition", move, [(states, actions, states)], horizon)
        if first.numerators.size != states:
            raise ValueError(
                f"start: expected {states} probabilities, as transition has states, "
                f"got {first.numerators.size}"
            )
        _check_shape("observation", look, [(states, num_obs)], horizon + 1)
        pay = rationals("reward", reward, floats)
        shapes = [(states, actions), (states, actions, states)]
        # [T, S, A] and [S, A, S] may have the same shape; the per-step reading needs T different.
        per_step = pay.numerators.ndim == 4 or (
            pay.numerators.ndim == 3 and pay.numerators.shape != shapes[1]
        )
        _check_shape("reward", pay, shapes, horizon)
        move_steps = move.numerators.reshape(-1, states, actions, states)
        look_steps = look.numerators.reshape(-1, states, num_obs)
        pay_steps = pay.numerators if per_step else pay.numerators[None]
        unit = pay.denominator
        if pay_steps.ndim == 4:
            unit *= move.denominator
            count = max(len(pay_steps), len(move_steps))
            pay_steps = np.stack(
                [
                    (_at(pay_steps, t).astype(object) * _at(move_steps, t)).sum(axis=-1)
                    for t in range(count)
                ]
            )
        num_kernels = horizon if max(len(move_steps), len(look_steps)) > 1 else 1
        kernels = [
            _kernel(_at(move_steps, t), _at(look_steps, t + 1), move.denominator, look.denominator)
            for t in range(num_kernels)
        ]
        joint = first.numerators[:, None].astype(object) * look_steps[0]
        state, obs = np.nonzero(joint)
        return cls(
            name=name,
            horizon=horizon,
            gamma=discount,
            start=Start(as_index(state), as_index(obs), narrow(joint[state, obs])),
            sizes=[states],
            kernels=kernels,
            rewards=[narrow(table) for table in pay_steps],
            reward_unit=unit,
            rounded=rounded or any(x.rounded for x in (first, move, look, pay)),
            action_names=_names("action_names", action_names, actions),
            observation_names=_names("observation_names", observation_names, num_obs),
        )

    @classmethod
    def from_step(
        cls,
        start: Iterable[tuple[Any, Hashable, Hashable]],
        step: StepFunction,
        *,
        actions: Iterable[Any],
        horizon: int,
        gamma: Any = 1,
        name: str = "POMDP",
        floats: str = "simplest",
        max_states: int = MAX_STATES,
        progress: Progress | None = None,
    ) -> TabularPOMDP:
        """A POMDP from a function that lists what may happen next.

        Args:
            start: (probability, state, first observation), …
            step: (state, action, t) to a list of (probability, next state, next observation,
                reward); t runs from 1 to `horizon`. States and observations are any hashables.
            actions: what `step` is given; their `str` names them.
            horizon: T, the number of actions.
            gamma: reward discount, 0 to 1.
            name: what reports call it.
            floats: "simplest" or "exact", how floats are read (see `fastmaze.lengths.exact`).
            max_states: give up at more states than this, over all layers, or at 8 times as many
                outcomes of their steps.
            progress: called with (what is being done, how far, of how much).

        Raises:
            TypeError, ValueError: as `from_arrays`; or there are too many states.
        """
        horizon = check_integer("horizon", horizon, 1)
        check_integer("max_states", max_states, 1)
        discount, rounded = check_gamma(gamma, floats)
        if not isinstance(actions, Iterable):
            raise TypeError(
                f"actions: expected a list of what step is given, got {type(actions).__name__}"
            )
        actions = list(actions)
        if not actions:
            raise ValueError("actions: expected at least one, got none")
        table = Listing(floats)
        first = table.start(start)
        sizes, kernels, rewards, rows = [len(table.states)], [], [], 0
        most = OUTCOMES_PER_STATE * max_states

        def check(new_states: int, new_rows: int) -> None:
            states, outcomes = sum(sizes) + new_states, rows + new_rows
            if states <= max_states and outcomes <= most:
                return
            many = "" if outcomes <= most else f" with {outcomes:,} outcomes of their steps"
            limit = f"{max_states:,}" if outcomes <= most else f"the {most:,} for {max_states:,}"
            rate = (horizon + 1) / (t + 1)
            raise ValueError(
                f"max_states: {states:,} states{many} up to t = {t + 1} of {horizon + 1}, more "
                f"than {limit}; at this rate {int(states * rate):,} states in all: make the task "
                "smaller, take an abstract form by name, or raise max_states"
            )

        for t in range(1, horizon + 1):
            kernel, pay = table.step(step, actions, t, check)
            kernels.append(kernel)
            rewards.append(pay)
            sizes.append(len(table.states))
            if progress is not None:
                progress("listing states", t, horizon)
            rows += len(kernel.weight)
        table.refuse_near_duplicates()
        numerators, unit = common([x for layer in rewards for row in layer for x in row])
        tables, position = [], 0
        for layer in rewards:
            count = len(layer) * len(actions)
            flat = np.array([*numerators[position : position + count], 0], dtype=object)[:-1]
            tables.append(narrow(flat.reshape(len(layer), len(actions))))
            position += count
        return cls(
            name=name,
            horizon=horizon,
            gamma=discount,
            start=first,
            sizes=sizes,
            kernels=kernels,
            rewards=tables,
            reward_unit=unit,
            rounded=rounded or table.rounded,
            action_names=[str(action) for action in actions],
            observation_names=[str(obs) for obs in table.observations],
        )

    @classmethod
    def from_spec(
        cls,
        spec: TaskSpec,
        *,
        gamma: Any = 1,
        name: str | None = None,
        max_states: int = MAX_STATES_OF_SPEC,
        progress: Progress | None = None,
    ) -> TabularPOMDP:
        """A POMDP from a task's specification: its own rules, every random draw both ways.

        Args:
            spec: what `fastmaze.specs.make_spec` returns, of any task; small.
            gamma: reward discount, 0 to 1.
            name: what reports call it; the spec's family and options if not given.
            max_states: give up at more states than this, over all layers.
            progress: called with (what is being done, how far, of how much).

        Raises:
            TypeError: not a spec.
            ValueError: too many states, or a draw that the state does not keep.
        """
        rules = rules_of(spec, check_integer("max_states", max_states, 1))
        return cls.from_step(
            rules.start(),
            rules.step,
            actions=spec.action_names,
            horizon=spec.episode_length,
            gamma=gamma,
            name=described(spec) if name is None else name,
            max_states=max_states,
            progress=progress,
        )


def check_gamma(gamma: Any, floats: str = "simplest") -> tuple[Fraction, bool]:
    """The discount as a fraction, and whether it was a float that is none in particular."""
    if floats not in FLOATS:
        raise ValueError(f"floats: expected one of {FLOATS}, got {floats!r}")
    discount, rounded = rational("gamma", gamma, floats)
    if not 0 <= discount <= 1:
        raise ValueError(f"gamma: expected a number from 0 to 1, got {gamma}")
    return discount, rounded


def _distribution(name: str, values: Any, ndim: int | tuple[int, ...], floats: str) -> Rationals:
    table = rationals(name, values, floats)
    array = table.numerators
    if array.ndim not in np.atleast_1d(ndim):
        raise ValueError(f"{name}: expected {ndim} dimensions, got the shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name}: expected some entries, got the shape {array.shape}")
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        low = array[where] / table.denominator
        raise ValueError(f"{name}: expected probabilities >= 0, got {low} at {where}")
    wide = array.astype(object)
    sums = np.asarray(wide.sum(axis=-1))
    if (sums == table.denominator).all():
        return table
    ratios = [Fraction(int(x), table.denominator) for x in sums.reshape(-1)]
    worst = max(range(len(ratios)), key=lambda i: abs(ratios[i] - 1))
    if abs(ratios[worst] - 1) > SUM_TOLERANCE:
        where = tuple(int(i) for i in np.unravel_index(worst, sums.shape)) if sums.ndim else ()
        raise ValueError(
            f"{name}: expected probabilities that sum to 1, got {float(ratios[worst])}"
            + (f" at {where}" if where else "")
        )
    # Equal entries stay equal: all that are largest share what is missing.
    top = wide == wide.max(axis=-1, keepdims=True)
    count = top.sum(axis=-1, keepdims=True)
    multiple = math.lcm(*(int(x) for x in count.reshape(-1)))
    missing = (table.denominator - sums)[..., None] * (multiple // count.astype(object))
    scaled = wide * multiple + top * missing
    return Rationals(narrow(scaled), table.denominator * multiple, table.rounded)


def _check_shape(name: str, table: Rationals, shapes: list[tuple[int, ...]], steps: int) -> None:
    shape = table.numerators.shape
    allowed = [*shapes, *((steps, *tail) for tail in shapes)]
    if shape not in allowed:
        said = " or ".join(str(x) for x in allowed)
        raise ValueError(f"{name}: expected the shape {said}, got {shape}")


def _at(steps: Integers, t: int) -> Integers:
    table: Integers = steps[min(t, len(steps) - 1)]
    return table


def _kernel(move: Integers, look: Integers, move_unit: int, look_unit: int) -> Kernel:
    states, actions, _ = move.shape
    row, to = np.nonzero(move.reshape(states * actions, states))
    shows, obs = np.nonzero(look)
    first = np.searchsorted(shows, np.arange(states + 1))
    count = first[to + 1] - first[to]
    entry = np.repeat(np.arange(to.size), count)
    offset = np.arange(entry.size) - np.repeat(np.cumsum(count) - count, count)
    seen = as_index(obs[first[to[entry]] + offset])
    weight = move.reshape(states * actions, states)[row, to].astype(object)[entry]
    weight = weight * look[to[entry], seen]
    ends = np.searchsorted(row[entry], np.arange(states * actions + 1))
    return Kernel(as_index(ends), seen, as_index(to[entry]), narrow(weight), move_unit * look_unit)


def _names(name: str, given: Sequence[str] | None, count: int) -> Sequence[str]:
    if given is None:
        return [str(i) for i in range(count)]
    if len(given) != count:
        raise ValueError(f"{name}: expected {count} names, got {len(given)}")
    return [str(x) for x in given]
