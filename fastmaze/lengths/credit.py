"""Step 5: c, the number of steps until an optimal action's return has overtaken the others'.

Nodes with equal reward futures become one value class first: observations do not matter here, so
a T-Maze keeps a handful a layer. Then, backwards, vectors of G_1, G_2, … for every action. After an
action the policy need only be optimal, so ties are resolved kindly: the largest return for an
optimal action, the smallest for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Final

import numpy as np

from fastmaze.lengths.beliefs import BeliefGraph, Edges, Nodes
from fastmaze.lengths.exact import INT64_SAFE, Integers, largest, narrow
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.model import Index, Model, take_rows
from fastmaze.lengths.repeats import Memory, Pool
from fastmaze.lengths.rows import (
    add_up,
    number,
    number_fractions,
    number_rows,
    number_together,
    pointers,
    reduced,
    starts_of,
)
from fastmaze.lengths.ties import refuse_near_returns
from fastmaze.lengths.values import Flags, Values

_FEW_BITS: Final = 62
"""Beliefs are merged by value where their sums in a layer have a common multiple of so many."""

_FIRST_LIMIT: Final = 32
"""Returns of this many steps are tried first: most actions are told apart early."""


@dataclass(frozen=True, eq=False, slots=True)
class Credit:
    """The credit-assignment lengths of a task."""

    lower: int
    """No optimal policy has a smaller c^M."""
    upper: int
    """Some optimal policy has this one."""
    sup: int
    """The largest c(h; π) over histories that some optimal policy visits, π chosen for each."""
    per_step: list[int]
    """The largest of them at t = 1 … T."""
    witness: CreditWitness


@dataclass(frozen=True, eq=False, slots=True)
class CreditWitness:
    """The history that needs `sup` steps of credit, and the returns that show it."""

    t: int
    node: int
    n: int
    optimal_action: int
    rival_action: int | None
    """None where all actions are optimal."""
    optimal_return: Fraction
    """G_n of the optimal action."""
    rival_return: Fraction
    before: tuple[Fraction, Fraction] | None
    """The same two at n - 1: the largest of optimal actions, and of the others; None for n = 1."""


@dataclass(frozen=True, eq=False, slots=True)
class ValueLayer:
    """Value classes of one time. Row c·A + a as in `Kernel`."""

    class_of: Index
    """[N], the class of each node."""
    example: Index
    """[C], a node of each class."""
    first: Index
    successor: Index
    weight: Integers
    """P(successor class | class, a), over `total`."""
    total: int
    reward: Integers
    """[C, A], over `unit`."""
    unit: int
    optimal: Flags
    """[C, A]."""
    total_of: Index | None = None
    """[C], what the class's returns are multiplied by; None if by nothing."""


def value_classes(
    graph: BeliefGraph, values: Values, model: Model, progress: Progress
) -> list[ValueLayer]:
    """Merges nodes that agree in expected rewards now and, in distribution, ever after.

    Merged nodes need chances over a common denominator. Where that would be a huge number, as for
    beliefs that are all different, each node stays a class of its own instead.
    """
    if any(
        math.lcm(*set(nodes.total.tolist())).bit_length() > _FEW_BITS
        if largest(nodes.total) < INT64_SAFE else True
        for nodes in graph.nodes
    ):  # fmt: skip
        return [
            _unmerged(*layer, model.reward_unit)
            for layer in zip(graph.nodes, graph.edges, graph.reward, values.optimal, strict=True)
        ]
    layers: list[ValueLayer] = []
    class_of, classes = np.zeros(1, np.int64), 1
    memory: Memory[ValueLayer] = Memory()
    pool: Pool[Index] = Pool()
    for t in range(graph.horizon, 0, -1):
        nodes, edges, reward = graph.nodes[t - 1], graph.edges[t - 1], graph.reward[t - 1]
        optimal = values.optimal[t - 1]
        compute = partial(
            _merge, nodes, edges, reward, optimal, class_of, classes, model.reward_unit
        )
        layer = memory.get(compute, nodes, edges, reward, optimal, class_of)
        layers.append(layer)
        class_of = pool.the(layer.class_of, layer.class_of)
        classes = layer.example.size
        progress("merging values", graph.horizon + 1 - t, graph.horizon)
    return layers[::-1]


def _unmerged(
    nodes: Nodes, edges: Edges, reward: Integers, optimal: Flags, unit: int
) -> ValueLayer:
    """Every node a class, with returns times the sum of its belief, which nothing divides."""
    every = np.arange(nodes.count)
    return ValueLayer(
        class_of=every,
        example=every,
        first=edges.first,
        successor=edges.successor,
        weight=edges.multiplier,
        total=edges.total,
        reward=reward,
        unit=unit,
        optimal=optimal,
        total_of=nodes.total,
    )


def _merge(
    nodes: Nodes,
    edges: Edges,
    reward: Integers,
    optimal: Flags,
    class_of: Index,
    classes: int,
    reward_unit: int,
) -> ValueLayer:
    """One layer, from the classes of the next."""
    actions = optimal.shape[1]
    row = np.repeat(np.arange(edges.first.size - 1), np.diff(edges.first))
    sums = add_up(row, class_of[edges.successor], edges.chance)
    node = sums.row // actions
    common = np.gcd.reduceat(sums.weight, starts_of(node))
    what = number(sums.row % actions * classes + sums.key)
    entry = number_together([what, number(narrow(sums.weight // common[node]))])
    future = number_rows(nodes.count, node, entry)
    top, bottom = reward, nodes.total
    if object in (top.dtype, bottom.dtype):
        top, bottom = top.astype(object), bottom.astype(object)
    merged = number_together([number(future.ids), number_fractions(top, bottom)])
    example = merged.examples
    rows = (example[:, None] * actions + np.arange(actions)).reshape(-1)
    taken = take_rows(pointers(edges.first.size - 1, sums.row), rows)
    # Chances as fractions in lowest terms, then over one denominator for the layer.
    node_total = nodes.total[example].astype(object)
    top, bottom = reduced(
        sums.weight[taken.entry].astype(object), (node_total * edges.total)[taken.row // actions]
    )
    total = math.lcm(1, *set(bottom.tolist()))
    pay, unit = reduced(reward[example].astype(object), (node_total * reward_unit)[:, None])
    common_unit = math.lcm(1, *set(unit.reshape(-1).tolist()))
    return ValueLayer(
        class_of=merged.ids,
        example=example,
        first=pointers(rows.size, taken.row),
        successor=sums.key[taken.entry],
        weight=narrow(top * (total // bottom)),
        total=total,
        reward=narrow(pay * (common_unit // unit)),
        unit=common_unit,
        optimal=optimal[example],
    )


def _successors(layer: ValueLayer, rows: Flags) -> Index:
    """Classes that the rows marked [C, A] lead to."""
    marked = np.flatnonzero(rows.reshape(-1))
    found: Index = np.unique(layer.successor[take_rows(layer.first, marked).entry])
    return found


def credit_lengths(graph: BeliefGraph, values: Values, model: Model, progress: Progress) -> Credit:
    """c^M as a bracket, c_sup, and the history behind the latter."""
    layers = value_classes(graph, values, model, progress)
    met, followed = _needed(graph, layers)
    limit = _FIRST_LIMIT
    while True:
        found = _Backward(layers, met, followed, graph, model, limit).run(progress)
        if found is not None:
            return found
        limit *= 8


def _needed(graph: BeliefGraph, layers: list[ValueLayer]) -> tuple[list[Flags], list[Flags]]:
    """Classes that optimal policies visit, and those that they come to after some deviation."""
    met, followed = [], []
    here = np.zeros(layers[0].example.size, bool)
    here[layers[0].class_of[graph.start.successor]] = True
    away = np.zeros_like(here)
    for t, layer in enumerate(layers):
        met.append(here)
        followed.append(away)
        size = layers[t + 1].example.size if t + 1 < len(layers) else 1
        next_here, next_away = np.zeros(size, bool), np.zeros(size, bool)
        next_here[_successors(layer, here[:, None] & layer.optimal)] = True
        every = np.broadcast_to(here[:, None], layer.optimal.shape)
        next_away[_successors(layer, every | (away[:, None] & layer.optimal))] = True
        here, away = next_here, next_away
    return met, followed


class _Backward:
    """The pass from the last step to the first, holding the vectors of one layer at a time.

    At layer t, vectors have the entries n = 0 … T - t + 1, all over `scale`. Entries beyond
    `limit` are left out; if they turn out to be needed, there is no result.
    """

    def __init__(
        self,
        layers: list[ValueLayer],
        met: list[Flags],
        followed: list[Flags],
        graph: BeliefGraph,
        model: Model,
        limit: int,
    ) -> None:
        self.layers, self.met, self.followed, self.graph = layers, met, followed, graph
        self.limit, self.rounded = limit, model.rounded
        self.horizon = len(layers)
        self.up, self.down = model.gamma.numerator, model.gamma.denominator
        self.unit = math.lcm(1, *(layer.unit for layer in layers))
        self.scale = self.unit
        nothing: Integers = np.zeros((1, 1), np.int64)
        # Largest and smallest over tied actions, and those of the policy behind `upper`.
        self.high, self.low, self.kept = nothing, nothing, nothing
        self.lower_of, self.upper_of = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.per_step: list[int] = []
        self.witness: CreditWitness | None = None

    def run(self, progress: Progress) -> Credit | None:
        """The lengths; None if some history needs more steps than `limit`."""
        for t in range(self.horizon, 0, -1):
            if not self._layer(t):
                return None
            progress("following returns", self.horizon + 1 - t, self.horizon)
        first = self.layers[0].class_of[self.graph.start.successor]
        if self.witness is None:  # pragma: no cover - every layer has a class that is met
            raise RuntimeError("no history was met")
        return Credit(
            lower=int(self.lower_of[first].max()),
            upper=int(self.upper_of[first].max()),
            sup=max(self.per_step),
            per_step=self.per_step[::-1],
            witness=self.witness,
        )

    def _layer(self, t: int) -> bool:
        """Goes back to layer t; False if `limit` is too small for it."""
        layer = self.layers[t - 1]
        count, actions = layer.optimal.shape
        self.scale *= layer.total * (self.down if t < self.horizon else 1)
        met, away = self.met[t - 1], self.followed[t - 1]
        wanted = (met[:, None] | (away[:, None] & layer.optimal)).reshape(-1)
        rows = np.flatnonzero(wanted)
        pay, factor = layer.reward.reshape(-1)[rows], self.scale // layer.unit
        if max(largest(pay), 1) * factor >= INT64_SAFE:
            pay = pay.astype(object)
        pay = pay * factor
        # Row of the table for each (class, action), -1 where none is needed.
        place = np.full(wanted.size, -1)
        place[rows] = np.arange(rows.size)
        taken = take_rows(layer.first, rows)
        high, low, kept = (
            self._returns(pay, layer, taken.row, taken.entry, vector)
            for vector in (self.high, self.low, self.kept)
        )
        size = high.shape[1]
        new_high, new_low = (np.zeros((count, size), x.dtype) for x in (high, low))
        new_kept = np.zeros((count, size), kept.dtype)
        lower_of, upper_of = np.zeros(count, np.int64), np.zeros(count, np.int64)
        largest_here = 1
        for c in np.flatnonzero(met | away).tolist():
            best = np.flatnonzero(layer.optimal[c])
            mine = place[c * actions + best]
            new_high[c], new_low[c] = high[mine].max(axis=0), low[mine].min(axis=0)
            if not met[c]:
                continue
            others = np.flatnonzero(~layer.optimal[c])
            worse = low[place[c * actions + others]]
            after = [self._after(layer, c * actions + a) for a in best.tolist()]
            n = _overtakes(new_high[c], worse, self.rounded)
            if n == 0:
                return False
            lower_of[c] = max(n, min(lower for lower, _ in after))
            choices = []
            for i, row in enumerate(mine):
                # The policy's own action keeps to the policy; other optimal ones need not.
                rest = np.append(high[mine[:i]], high[mine[i + 1 :]], axis=0)
                reached = np.append(kept[row][None], rest, axis=0).max(axis=0)
                overtakes = _overtakes(reached, worse, self.rounded)
                if overtakes:
                    choices.append((max(overtakes, after[i][1]), i))
            # An action left out here would need more steps than any that is not.
            if not choices:
                return False
            upper_of[c], pick = min(choices)
            new_kept[c] = kept[mine[pick]]
            largest_here = max(largest_here, n)
            # Of equals the earliest that has something to tell apart.
            if self.witness is None or n > self.witness.n or (n == self.witness.n and others.size):
                self.witness = self._testify(t, c, n, best, high[mine], others, worse)
        self.high, self.low, self.kept = new_high, new_low, new_kept
        self.lower_of, self.upper_of = lower_of, upper_of
        self.per_step.append(largest_here)
        return True

    def _returns(
        self, pay: Integers, layer: ValueLayer, row: Index, entry: Index, later: Integers
    ) -> Integers:
        """G_0, G_1, … of the rows wanted, from those of the next layer's classes."""
        weight = layer.weight[entry]
        most = int(np.bincount(row).max()) if row.size else 1
        bound = largest(weight) * largest(later) * self.up * most + largest(pay)
        if bound >= INT64_SAFE or self.up >= INT64_SAFE:
            pay, weight, later = (x.astype(object) for x in (pay, weight, later))
        summed = np.add.reduceat(weight[:, None] * later[layer.successor[entry]], starts_of(row))
        table = (pay[:, None] + summed * self.up)[:, : self.limit]
        return np.concatenate([np.zeros((table.shape[0], 1), table.dtype), table], axis=1)

    def _after(self, layer: ValueLayer, row: int) -> tuple[int, int]:
        """The worst bounds of what follows a row."""
        to = layer.successor[layer.first[row] : layer.first[row + 1]]
        return int(self.lower_of[to].max()), int(self.upper_of[to].max())

    def _testify(
        self, t: int, c: int, n: int, best: Index, high: Integers, others: Index, worse: Integers
    ) -> CreditWitness:
        total_of = self.layers[t - 1].total_of
        scale = self.scale * (1 if total_of is None else int(total_of[c]))

        def value(x: object) -> Fraction:
            return Fraction(int(x), scale)  # type: ignore[call-overload]

        winner = int(high[:, n].argmax())
        if not others.size:
            zero = Fraction(0)
            return CreditWitness(
                t, int(self.layers[t - 1].example[c]), n, int(best[winner]), None,
                value(high[winner, n]), zero, None,
            )  # fmt: skip
        rival = int(worse[:, n].argmax())
        return CreditWitness(
            t=t,
            node=int(self.layers[t - 1].example[c]),
            n=n,
            optimal_action=int(best[winner]),
            rival_action=int(others[rival]),
            optimal_return=value(high[winner, n]),
            rival_return=value(worse[rival, n]),
            before=(value(high[:, n - 1].max()), value(worse[:, n - 1].max())) if n > 1 else None,
        )


def _overtakes(mine: Integers, worse: Integers, rounded: bool) -> int:
    """The first n at which the vector exceeds all rows; 1 if there are none, 0 if none does."""
    if not len(worse):
        return 1
    rival = worse.max(axis=0)
    ahead = mine[1:] > rival[1:]
    n = int(np.argmax(ahead))
    found = n + 1 if ahead[n] else 0
    if rounded:
        refuse_near_returns(mine[1 : n + 2], rival[1 : n + 2])
    return found
