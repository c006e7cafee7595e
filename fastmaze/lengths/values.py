"""Step 2, continued: Q*, V* and optimal actions by backward induction, and what nodes are equal in.

Values are integers: with b a node's vector and B its sum, Q(node, a) is q / (B · scale[t]), where
scale grows by the denominators of the transitions and of γ, so nothing is ever divided.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt

from fastmaze.lengths.beliefs import BeliefGraph, Edges
from fastmaze.lengths.exact import INT64_SAFE, Integers, largest, narrow
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.model import Index, Model
from fastmaze.lengths.repeats import Memory, Pool
from fastmaze.lengths.rows import (
    number,
    number_fractions,
    number_rows,
    number_together,
    starts_of,
)
from fastmaze.lengths.ties import refuse_near_ties

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Values:
    """Q* of every node, by layer."""

    q: list[Integers]
    """[N, A]."""
    scale: list[int]
    """scale[t - 1]; Q = q / (node total × scale)."""
    optimal: list[Flags]
    """[N, A]: is the action optimal?"""
    best_return: Fraction
    """V* at the start."""


def solve(graph: BeliefGraph, model: Model, progress: Progress) -> Values:
    """Backward induction.

    Raises:
        ValueError: the model has rounded numbers, and some action values are so close that
            rounding may have decided between them.
    """
    actions, horizon = graph.num_actions, graph.horizon
    up, down = model.gamma.numerator, model.gamma.denominator
    value: Integers = np.zeros(1, np.int64)
    scale = model.reward_unit
    q_layers, scales, optimal = [], [], []
    pool: Pool[Flags] = Pool()
    for t in range(horizon, 0, -1):
        edges, reward = graph.edges[t - 1], graph.reward[t - 1]
        count = reward.shape[0]
        scale *= edges.total * (down if t < horizon else 1)
        factor = scale // model.reward_unit
        later_bound = up * largest(edges.multiplier) * largest(value)
        bound = factor * largest(reward) + later_bound * int(np.diff(edges.first).max())
        multiplier = edges.multiplier
        if bound >= INT64_SAFE or max(up, factor) >= INT64_SAFE:
            reward, value, multiplier = (x.astype(object) for x in (reward, value, multiplier))
        later = multiplier * value[edges.successor]
        q = np.add.reduceat(later, edges.first[:-1]).reshape(count, actions) * up + reward * factor
        value = q.max(axis=1)
        best = np.asarray(q == value[:, None], dtype=bool)
        if model.rounded:
            refuse_near_ties(q, graph.nodes[t - 1].total, scale, best, t)
        value = narrow(value)
        q_layers.append(narrow(q))
        scales.append(scale)
        optimal.append(pool.the(best, best))
        progress("solving", horizon + 1 - t, horizon)
    # The start: chances are multiplier × total over the start's total.
    begin = graph.start
    at_start = sum(
        int(m) * int(value[s]) for m, s in zip(begin.multiplier, begin.successor, strict=True)
    )
    return Values(
        q_layers[::-1], scales[::-1], optimal[::-1], Fraction(at_start, begin.total * scale)
    )


@dataclass(frozen=True, eq=False, slots=True)
class Quantities:
    """What the definitions ask to be equal: nodes of a layer share a number if they are."""

    reward: list[Index]
    transit: list[Index]
    value: list[Index]


def quantities(graph: BeliefGraph, values: Values | None) -> Quantities:
    """Numbers each layer's nodes by E[r | ·, a], by P(o | ·, a) and by Q*(·, a), over all a.

    Without values (an incomplete graph) the last is empty.
    """
    reward, transit, value = [], [], []
    rewards: Memory[Index] = Memory()
    transits: Memory[Index] = Memory()
    for t, nodes in enumerate(graph.nodes):
        pay, edges, total = graph.reward[t], graph.edges[t], nodes.total
        reward.append(rewards.get(partial(_number_ratios, pay, total), pay, nodes))
        transit.append(
            transits.get(partial(_number_transits, nodes.count, edges, graph.num_actions), edges)
        )
        if values is not None:
            value.append(_number_ratios(values.q[t], total))
    return Quantities(reward, transit, value)


def _number_ratios(table: Integers, total: Integers) -> Index:
    if object in (table.dtype, total.dtype):  # gcd takes no mixture
        table, total = table.astype(object), total.astype(object)
    return number_fractions(table, total).ids


def _number_transits(count: int, edges: Edges, actions: int) -> Index:
    """A node's chances, all actions in one list, divided by what they have in common."""
    row = np.repeat(np.arange(edges.first.size - 1), np.diff(edges.first))
    node, action = row // actions, row % actions
    chance = edges.chance // np.gcd.reduceat(edges.chance, starts_of(node))[node]
    what = number(action * (int(edges.obs.max()) + 1) + edges.obs)
    entry = number_together([what, number(narrow(chance))])
    return number_rows(count, node, entry).ids


def optimal_edges(graph: BeliefGraph, values: Values) -> list[Index]:
    """For each t the edges that optimal actions take, from nodes that optimal actions reach."""
    reached = np.unique(graph.start.successor)
    taken = []
    memory: Memory[tuple[Index, Index]] = Memory()
    pool: Pool[Index] = Pool()
    for t in range(graph.horizon):
        edges, optimal = graph.edges[t], values.optimal[t]
        kept, reached = memory.get(
            partial(_followed, edges, optimal, reached), edges, optimal, reached
        )
        taken.append(kept)
        reached = pool.the(reached, reached)
    return taken


def _followed(edges: Edges, optimal: Flags, reached: Index) -> tuple[Index, Index]:
    here = np.zeros(optimal.shape[0], bool)
    here[reached] = True
    rows = (here[:, None] & optimal).reshape(-1)
    kept = np.flatnonzero(np.repeat(rows, np.diff(edges.first)))
    return kept, np.unique(edges.successor[kept])
