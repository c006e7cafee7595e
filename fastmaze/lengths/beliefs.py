"""Step 2: the belief graph. Histories with equal beliefs have equal futures and share a node.

A belief is a primitive integer vector over hidden classes (no common divisor), so equal beliefs
are equal vectors. An edge (node, action, observation) carries a multiplier: the unnormalised
belief after it is multiplier × the successor's vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from fastmaze.lengths.exact import INT64_SAFE, Integers, largest, narrow
from fastmaze.lengths.minimise import ClassLayer, Minimised, Progress
from fastmaze.lengths.model import Index, ranges, take_rows
from fastmaze.lengths.repeats import Memory, Pool
from fastmaze.lengths.rows import (
    add_up,
    number,
    number_rows,
    number_together,
    pointers,
    starts_of,
)

MAX_NODES: Final = 2_000_000
"""Largest number of belief nodes by default; a node takes some 200 bytes."""


@dataclass(frozen=True, eq=False, slots=True)
class Nodes:
    """Beliefs of one time."""

    first: Index
    """[N + 1]: the entries of node i are first[i] … first[i + 1] - 1."""
    hidden: Index
    """Hidden class of each entry, ascending within a node."""
    weight: Integers
    total: Integers
    """[N], the sum of each node's weights."""

    @property
    def count(self) -> int:
        """N."""
        return self.first.size - 1


@dataclass(frozen=True, eq=False, slots=True)
class Edges:
    """What may follow each node and action. Row i·A + a as in `Kernel`."""

    first: Index
    obs: Index
    successor: Index
    multiplier: Integers
    chance: Integers
    """multiplier × the successor's total: P(o | node, a) is this over node total × `total`."""
    total: int


@dataclass(frozen=True, eq=False, slots=True)
class BeliefGraph:
    """All reachable beliefs, layer by layer, t = 1 … T (or fewer, see `complete`)."""

    num_actions: int
    horizon: int
    start: Edges
    """One row: the first observations."""
    nodes: list[Nodes]
    edges: list[Edges]
    """edges[t - 1] leave layer t; those of layer T lead to one node without a future."""
    reward: list[Integers]
    """[N, A]: reward × node total, in the model's unit."""
    complete: bool
    """False if the limit on nodes stopped the search: then layers are missing at the end."""

    @property
    def num_nodes(self) -> int:
        """Over all layers."""
        return sum(nodes.count for nodes in self.nodes)


def build(
    minimised: Minimised, num_actions: int, progress: Progress, max_nodes: int = MAX_NODES
) -> BeliefGraph:
    """Follows every action and observation from the start."""
    start = minimised.start
    horizon = len(minimised.layers)
    classes = max(minimised.layers[0].count, 1)
    total = sum(int(w) for w in start.weight)
    nodes, first_edges = _successors(
        np.zeros(start.obs.size, np.int64), start.obs, start.state, start.weight, classes, 1, total
    )
    layers, edges, rewards = [nodes], [], []
    found = nodes.count
    pool: Pool[Nodes] = Pool()
    pays: Memory[Integers] = Memory()
    steps: Memory[tuple[Nodes, Edges]] = Memory()
    for t, layer in enumerate(minimised.layers, start=1):
        here, following = nodes, minimised.layers[t] if t < horizon else None
        rewards.append(pays.get(partial(_expected_rewards, here, layer), here, layer))
        width = 1 if following is None else following.count
        nodes, leaving = steps.get(
            partial(_step, here, layer, num_actions, width), here, layer, following
        )
        nodes = pool.the(nodes, nodes.first, nodes.hidden, nodes.weight)
        edges.append(leaving)
        progress("following beliefs", t, horizon)
        if t < horizon:
            found += nodes.count
            if found > max_nodes:
                return BeliefGraph(num_actions, horizon, first_edges, layers, edges, rewards, False)
            layers.append(nodes)
    return BeliefGraph(num_actions, horizon, first_edges, layers, edges, rewards, True)


def _expected_rewards(nodes: Nodes, layer: ClassLayer) -> Integers:
    node = np.repeat(np.arange(nodes.count), np.diff(nodes.first))
    pay, weight = layer.reward[nodes.hidden], nodes.weight
    if largest(pay) * largest(nodes.total) >= INT64_SAFE:
        pay, weight = pay.astype(object), weight.astype(object)
    return np.add.reduceat(pay * weight[:, None], starts_of(node), axis=0)


def _step(nodes: Nodes, layer: ClassLayer, actions: int, width: int) -> tuple[Nodes, Edges]:
    entries = nodes.hidden.size
    node = np.repeat(np.arange(nodes.count), np.diff(nodes.first))
    rows = (nodes.hidden[:, None] * actions + np.arange(actions)).reshape(-1)
    taken = take_rows(layer.first, rows)
    entry, action = taken.row // actions, taken.row % actions
    ours, theirs = nodes.weight, layer.weight
    if largest(nodes.total) * layer.total >= INT64_SAFE:
        ours, theirs = ours.astype(object), theirs.astype(object)
    weight = ours[entry] * theirs[taken.entry] if entries else ours
    return _successors(
        node[entry] * actions + action,
        layer.obs[taken.entry],
        layer.successor[taken.entry],
        weight,
        width,
        nodes.count * actions,
        layer.total,
    )


def _successors(
    row: Index, obs: Index, hidden: Index, weight: Integers, width: int, num_rows: int, total: int
) -> tuple[Nodes, Edges]:
    """Splits unnormalised beliefs by observation, and merges those that are equal but for size."""
    sums = add_up(row, obs * width + hidden, weight)
    obs, hidden = sums.key // width, sums.key % width
    num_obs = int(obs.max()) + 1
    starts = starts_of(sums.row * num_obs + obs)
    divisor = np.gcd.reduceat(sums.weight, starts)
    length = np.diff(np.append(starts, sums.row.size))
    group = np.repeat(np.arange(starts.size), length)
    primitive = narrow(sums.weight // divisor[group])
    entry = number(hidden)
    if primitive.size and not (primitive == primitive[0]).all():
        entry = number_together([entry, number(primitive)])
    merged = number_rows(starts.size, group, entry)
    kept = merged.examples
    taken = ranges(starts[kept], length[kept])
    first = np.append(0, np.cumsum(length[kept]))
    totals = np.add.reduceat(primitive[taken], first[:-1])
    nodes = Nodes(first, hidden[taken], primitive[taken], totals)
    chance = np.add.reduceat(sums.weight, starts)
    return nodes, Edges(
        first=pointers(num_rows, sums.row[starts]),
        obs=obs[starts],
        successor=merged.ids,
        multiplier=narrow(divisor),
        chance=chance,
        total=total,
    )
