"""Step 2: the belief graph. Histories with equal beliefs have equal futures and share a node.

A belief is a primitive integer vector over hidden classes (no common divisor), so equal beliefs
are equal vectors. An edge (node, action, observation) carries a multiplier: the unnormalised
belief after it is multiplier × the successor's vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

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
"""Largest number of belief nodes by default; a T-Maze's node takes some 200 bytes."""

_WIDE: Final = 8
"""Where beliefs are wide or branch a lot: so many numbers a node are allowed on average."""

_CHUNK: Final = 2_000_000
"""Entries of unnormalised beliefs worked on at once."""


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
    """Follows every action and observation from the start.

    Raises:
        ValueError: the limit does not even allow the first step.
    """
    start = minimised.start
    horizon = len(minimised.layers)
    classes = max(minimised.layers[0].count, 1)
    total = sum(int(w) for w in start.weight)
    nodes, first_edges = _successors(
        np.zeros(start.obs.size, np.int64), start.obs, start.state, start.weight, classes, 1, total
    )
    layers = [nodes]
    edges: list[Edges] = []
    rewards: list[Integers] = []
    room = _Room(max_nodes - nodes.count, _WIDE * max_nodes - nodes.hidden.size)
    pool: Pool[Nodes] = Pool()
    pays: Memory[Integers] = Memory()
    steps: Memory[tuple[Nodes, Edges] | None] = Memory()
    for t, layer in enumerate(minimised.layers, start=1):
        here, following = nodes, minimised.layers[t] if t < horizon else None
        width = 1 if following is None else following.count
        found = steps.get(
            partial(_step, here, layer, num_actions, width, room), here, layer, following
        )
        if found is None:
            if t == 1:
                raise ValueError(
                    f"max_nodes: the first step leads to more beliefs than {max_nodes:,} allow: "
                    "make the task smaller, or raise max_nodes"
                )
            return BeliefGraph(
                num_actions, horizon, first_edges, layers[:-1], edges, rewards, False
            )
        nodes, leaving = found
        rewards.append(pays.get(partial(_expected_rewards, here, layer), here, layer))
        nodes = pool.the(nodes, nodes.first, nodes.hidden, nodes.weight)
        edges.append(leaving)
        progress("following beliefs", t, horizon)
        if t < horizon:
            room = _Room(
                room.nodes - nodes.count, room.numbers - nodes.hidden.size - leaving.obs.size
            )
            if min(room) < 0:
                return BeliefGraph(num_actions, horizon, first_edges, layers, edges, rewards, False)
            layers.append(nodes)
    return BeliefGraph(num_actions, horizon, first_edges, layers, edges, rewards, True)


class _Room(NamedTuple):
    """What the limit leaves."""

    nodes: int
    numbers: int
    """Entries of beliefs, and edges."""


def _expected_rewards(nodes: Nodes, layer: ClassLayer) -> Integers:
    node = np.repeat(np.arange(nodes.count), np.diff(nodes.first))
    pay, weight = layer.reward[nodes.hidden], nodes.weight
    if largest(pay) * largest(nodes.total) >= INT64_SAFE:
        pay, weight = pay.astype(object), weight.astype(object)
    return np.add.reduceat(pay * weight[:, None], starts_of(node), axis=0)


def _step(
    nodes: Nodes, layer: ClassLayer, actions: int, width: int, room: _Room
) -> tuple[Nodes, Edges] | None:
    """The next layer, some nodes at a time; None as soon as there is no room for it."""
    # Entries that each node leads to.
    leads = np.diff(layer.first)[_rows_of(nodes.hidden, actions)].reshape(-1, actions).sum(axis=1)
    ends = np.cumsum(leads)[nodes.first[1:] - 1]
    if ends[-1] <= _CHUNK:
        return _part(nodes, layer, actions, width)
    parts: list[tuple[Nodes, Edges]] = []
    begin, edges = 0, 0
    while begin < nodes.count:
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        parts.append(_part(_some(nodes, begin, end), layer, actions, width))
        edges += parts[-1][1].obs.size
        if _too_many(parts, room, edges):
            parts = [_merged(parts)]
            if _too_many(parts, room, edges):
                return None
        begin = end
    return _merged(parts)


def _rows_of(hidden: Index, actions: int) -> Index:
    rows: Index = (hidden[:, None] * actions + np.arange(actions)).reshape(-1)
    return rows


def _too_many(parts: list[tuple[Nodes, Edges]], room: _Room, edges: int) -> bool:
    return (
        sum(nodes.count for nodes, _ in parts) > room.nodes
        or edges + sum(nodes.hidden.size for nodes, _ in parts) > room.numbers
    )


def _some(nodes: Nodes, begin: int, end: int) -> Nodes:
    """Nodes begin … end - 1."""
    first, last = nodes.first[begin], nodes.first[end]
    return Nodes(
        nodes.first[begin : end + 1] - first,
        nodes.hidden[first:last],
        nodes.weight[first:last],
        nodes.total[begin:end],
    )


def _merged(parts: list[tuple[Nodes, Edges]]) -> tuple[Nodes, Edges]:
    """What some nodes lead to and what others do, equal beliefs being one."""
    counts = [nodes.count for nodes, _ in parts]
    hidden = np.concatenate([nodes.hidden for nodes, _ in parts])
    weight = np.concatenate([nodes.weight for nodes, _ in parts])
    length = np.concatenate([np.diff(nodes.first) for nodes, _ in parts])
    starts = np.append(0, np.cumsum(length))
    group = np.repeat(np.arange(length.size), length)
    ids, nodes = _distinct(starts[:-1], length, group, hidden, weight)
    offset = np.cumsum([0, *counts])
    every = [edges for _, edges in parts]
    ends = np.cumsum([edges.obs.size for edges in every])
    first = [edges.first[1:] + end - edges.obs.size for edges, end in zip(every, ends, strict=True)]
    successor = [ids[edges.successor + begin] for edges, begin in zip(every, offset, strict=False)]
    return nodes, Edges(
        first=np.concatenate([[0], *first]),
        obs=np.concatenate([edges.obs for edges in every]),
        successor=np.concatenate(successor),
        multiplier=np.concatenate([edges.multiplier for edges in every]),
        chance=np.concatenate([edges.chance for edges in every]),
        total=every[0].total,
    )


def _part(nodes: Nodes, layer: ClassLayer, actions: int, width: int) -> tuple[Nodes, Edges]:
    """What some nodes lead to."""
    node = np.repeat(np.arange(nodes.count), np.diff(nodes.first))
    taken = take_rows(layer.first, _rows_of(nodes.hidden, actions))
    entry, action = taken.row // actions, taken.row % actions
    ours, theirs = nodes.weight, layer.weight
    if largest(nodes.total) * layer.total >= INT64_SAFE:
        ours, theirs = ours.astype(object), theirs.astype(object)
    return _successors(
        node[entry] * actions + action,
        layer.obs[taken.entry],
        layer.successor[taken.entry],
        ours[entry] * theirs[taken.entry],
        width,
        nodes.count * actions,
        layer.total,
    )


def _distinct(
    starts: Index, length: Index, group: Index, hidden: Index, weight: Integers
) -> tuple[Index, Nodes]:
    """Numbers equal beliefs equally; belief i's entries begin at starts[i]."""
    entry = number(hidden)
    if weight.size and not (weight == weight[0]).all():
        entry = number_together([entry, number(weight)])
    merged = number_rows(starts.size, group, entry)
    kept = merged.examples
    taken = ranges(starts[kept], length[kept])
    first = np.append(0, np.cumsum(length[kept]))
    totals = np.add.reduceat(weight[taken], first[:-1])
    return merged.ids, Nodes(first, hidden[taken], weight[taken], totals)


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
    ids, nodes = _distinct(starts, length, group, hidden, primitive)
    chance = np.add.reduceat(sums.weight, starts)
    return nodes, Edges(
        first=pointers(num_rows, sums.row[starts]),
        obs=obs[starts],
        successor=ids,
        multiplier=narrow(divisor),
        chance=chance,
        total=total,
    )
