"""Windows of all times compared with each other: what an agent without a clock must remember.

A window of n observations is then one class, whenever it ends; only histories shorter than n are
whole, and apart. Pairs and sets of nodes of all layers are followed together from window to
window, which costs T² as much: for small tasks.
"""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fastmaze.lengths.beliefs import BeliefGraph
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.model import Index, Model
from fastmaze.lengths.pairs import Walks
from fastmaze.lengths.report import Length, length_of
from fastmaze.lengths.values import Values


class _Union(NamedTuple):
    """The layers of some walks as one: nodes numbered through."""

    successor: Index
    """[nodes, columns], -1 where there is none; column = (action, observation)."""
    groups: list[Index]
    """For each observation the nodes that can end in it."""
    nodes: Index
    """Nodes of the walks."""


def pooled_lengths(
    model: Model,
    graph: BeliefGraph,
    values: Values,
    walks: Walks,
    progress: Progress,
    max_pairs: int,
) -> dict[str, Length]:
    """m_reward, m_transit with and without the last observation, and l_value."""
    names = ("m_reward", "m_transit", "m_transit_without_last", "l_value")
    groups = _groups(walks)
    if sum(group.size * (group.size - 1) // 2 for group in groups) > max_pairs:
        return {name: length_of(0, graph.horizon) for name in names}
    union = _union(walks)
    late = graph.num_nodes - graph.nodes[-1].count
    transit = _numbers(_transits(graph))
    without_last = transit.copy()
    # Distinct from nothing: -1 is never compared.
    without_last[late:] = -1
    labels = {
        "m_reward": _numbers(_ratios(graph, graph.reward, [model.reward_unit] * graph.horizon)),
        "m_transit": transit,
        "m_transit_without_last": without_last,
        "l_value": _numbers(_ratios(graph, values.q, values.scale)),
    }
    found = dict.fromkeys(labels, -1)
    for name, label in labels.items():
        compared = label[union.nodes]
        if np.unique(compared[compared >= 0]).size > 1:
            found[name] = 0
    count = graph.num_nodes
    code = np.unique(np.concatenate([_pairs_within(group, count) for group in union.groups]))
    for length in range(1, graph.horizon + 1):
        if code.size > max_pairs:
            return {name: length_of(n + 1, graph.horizon) for name, n in found.items()}
        left, right = code // count, code % count
        differs = False
        for name, label in labels.items():
            apart = (label[left] != label[right]) & (label[left] >= 0) & (label[right] >= 0)
            if apart.any():
                found[name], differs = length, True
        progress("comparing windows of all times", length, graph.horizon)
        if not differs:
            break
        one, two = union.successor[left], union.successor[right]
        kept = (one >= 0) & (two >= 0) & (one != two)
        one, two = one[kept], two[kept]
        code = np.unique(np.minimum(one, two) * count + np.maximum(one, two))
    return {name: n + 1 for name, n in found.items()}


def pooled_memory(values: Values, walks: Walks, progress: Progress, max_classes: int) -> Length:
    """l_mem: every window, whenever it ends, has an action optimal after all its histories."""
    union = _union(walks)
    optimal = np.concatenate(values.optimal)

    def lacks_action(nodes: Index) -> bool:
        return not bool(optimal[nodes].all(axis=0).any())

    longest = 0 if lacks_action(union.nodes) else -1
    level = {tuple(group.tolist()) for group in union.groups}
    count = 0
    horizon = walks.num_layers
    for length in range(1, horizon + 1):
        count += len(level)
        if count > max_classes:
            return length_of(longest + 1, horizon)
        following: set[tuple[int, ...]] = set()
        for nodes in level:
            if length > longest and lacks_action(np.array(nodes)):
                longest = length
            table = union.successor[list(nodes)]
            for column in np.flatnonzero((table >= 0).sum(axis=0) > 1).tolist():
                new = np.unique(table[:, column])
                new = new[new >= 0]
                if new.size > 1:
                    following.add(tuple(new.tolist()))
        progress("comparing classes of all times", length, horizon)
        level = following
    return longest + 1


def _groups(walks: Walks) -> list[Index]:
    """For each observation the nodes, numbered through, that can end in it."""
    offset = _offsets(walks)
    groups: dict[int, list[Index]] = {}
    for t in range(1, walks.num_layers + 1):
        endings = walks.endings(t)
        for i, obs in enumerate(endings.obs.tolist()):
            members = endings.nodes[endings.first[i] : endings.first[i + 1]]
            groups.setdefault(obs, []).append(members + offset[t - 1])
    return [np.concatenate(parts) for parts in groups.values()]


def _offsets(walks: Walks) -> Index:
    """Where each layer's nodes begin when they are numbered through; their number at last."""
    return np.cumsum([0, *(nodes.count for nodes in walks.graph.nodes)])


def _union(walks: Walks) -> _Union:
    offset = _offsets(walks)
    columns: dict[tuple[int, int], int] = {}
    entries: list[tuple[Index, Index, Index]] = []
    present = []
    for t in range(1, walks.num_layers + 1):
        present.append(walks.present(t) + offset[t - 1])
        if t == walks.num_layers:
            break
        moves = walks.every_move(t)
        keys = zip(moves.action.tolist(), moves.obs.tolist(), strict=True)
        number = np.array([columns.setdefault(key, len(columns)) for key in keys])
        node, column = np.nonzero(moves.successor >= 0)
        to = moves.successor[node, column] + offset[t]
        entries.append((node + offset[t - 1], number[column], to))
    table = np.full((int(offset[-1]), max(1, len(columns))), -1)
    for node, column, to in entries:
        table[node, column] = to
    return _Union(table, _groups(walks), np.concatenate(present))


def _pairs_within(nodes: Index, count: int) -> Index:
    nodes = np.sort(nodes)
    left, right = np.triu_indices(nodes.size, 1)
    codes: Index = nodes[left] * count + nodes[right]
    return codes


def _numbers(things: list[Hashable]) -> Index:
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(thing, len(known)) for thing in things])


def _ratios(graph: BeliefGraph, tables: list[Index], scales: list[int]) -> list[Hashable]:
    return [
        tuple(Fraction(int(x), int(total) * scale) for x in row)
        for nodes, table, scale in zip(graph.nodes, tables, scales, strict=True)
        for row, total in zip(table, nodes.total, strict=True)
    ]


def _transits(graph: BeliefGraph) -> list[Hashable]:
    found: list[Hashable] = []
    for nodes, edges in zip(graph.nodes, graph.edges, strict=True):
        for node, total in enumerate(nodes.total.tolist()):
            row = node * graph.num_actions
            chances = []
            for action in range(graph.num_actions):
                span = range(edges.first[row + action], edges.first[row + action + 1])
                chances.append(
                    tuple(
                        (int(edges.obs[i]), Fraction(int(edges.chance[i]), total * edges.total))
                        for i in span
                    )
                )
            found.append(tuple(chances))
    return found
