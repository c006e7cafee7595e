"""Step 3: how long a suffix two histories can share while something differs between them.

A pair of nodes of one layer is born at layer k when both can end in the same o_k, and moves on
under equal (action, observation). A pair born at k and alive at t shares t - k + 1 observations.
Births run from k = 2 on (o_1 alone is a whole history), and a pair met before needs no second
visit: whoever was born earlier shares more. So every pair is visited once, and the search stops
as soon as no later birth can beat the best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmaze.lengths.beliefs import BeliefGraph, Edges
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.model import Index
from fastmaze.lengths.repeats import Memory

MAX_PAIRS: Final = 200_000_000
"""Largest number of visited pairs by default; a pair takes 8 bytes, and more while in motion."""

_CHUNK: Final = 2_000_000
"""Successors of pairs worked on at once."""

Flags = npt.NDArray[np.bool_]


class Moves(NamedTuple):
    """Layer t as a table: the successor of each node under each (action, observation), or -1."""

    successor: Index
    """[N, columns]."""
    action: Index
    obs: Index


class Endings(NamedTuple):
    """Which nodes of a layer can end in which observation: group g is nodes[first[g]…]."""

    first: Index
    nodes: Index
    obs: Index
    """The observation of each group."""


class Walks:
    """The histories that a search may follow: all of them, or those that optimal actions take.

    Args:
        graph: the beliefs.
        taken: for each layer the edges that may be taken; None for all.
    """

    def __init__(self, graph: BeliefGraph, taken: list[Index] | None = None) -> None:
        self.graph, self.taken = graph, taken
        self.num_layers = len(graph.nodes)
        self._rows: Memory[Index] = Memory()
        self._moves: Memory[Moves] = Memory()
        self._endings: Memory[Endings] = Memory()
        self._every: Memory[Index] = Memory()

    def edges(self, t: int) -> Index:
        """Which edges leave layer t."""
        if self.taken is not None:
            return self.taken[t - 1]
        edges = self.graph.edges[t - 1]
        return self._every.get(lambda: np.arange(edges.obs.size), edges)

    def rows(self, t: int) -> Index:
        """Row (node · A + action) of those edges."""
        edges, kept = self.graph.edges[t - 1], self.edges(t)
        return self._rows.get(lambda: _rows(edges, kept), edges, kept)

    def moves(self, t: int) -> Moves:
        """Layer t as a table, without columns that lead to one node only: no pair survives them."""
        edges, kept = self.graph.edges[t - 1], self.edges(t)
        return self._moves.get(lambda: self._table(t, 2), edges, kept)

    def every_move(self, t: int) -> Moves:
        """Layer t as a table, complete."""
        return self._table(t, 1)

    def _table(self, t: int, successors: int) -> Moves:
        edges, kept, row = self.graph.edges[t - 1], self.edges(t), self.rows(t)
        count, actions = self.graph.nodes[t - 1].count, self.graph.num_actions
        return _moves(edges, kept, row, count, actions, successors)

    def endings(self, t: int) -> Endings:
        """Which nodes of layer t can end in which observation."""
        count = self.graph.nodes[t - 1].count
        if t == 1:
            edges, kept = self.graph.start, np.arange(self.graph.start.obs.size)
            return _endings(edges, kept, count)
        edges, kept = self.graph.edges[t - 2], self.edges(t - 1)
        return self._endings.get(lambda: _endings(edges, kept, count), edges, kept)

    def present(self, t: int) -> Index:
        """The nodes of layer t."""
        return np.unique(self.endings(t).nodes)


def _rows(edges: Edges, kept: Index) -> Index:
    row = np.repeat(np.arange(edges.first.size - 1), np.diff(edges.first))
    some: Index = row[kept]
    return some


def _moves(
    edges: Edges, kept: Index, row: Index, count: int, actions: int, successors: int
) -> Moves:
    width = int(edges.obs.max()) + 1
    columns, column = np.unique(row % actions * width + edges.obs[kept], return_inverse=True)
    to, column = edges.successor[kept], column.reshape(-1)
    if successors > 1:
        least, most = np.full(columns.size, int(to.max(initial=0))), np.zeros(columns.size, int)
        np.minimum.at(least, column, to)
        np.maximum.at(most, column, to)
        worth = least < most
        chosen = worth[column]
        row, to, column = row[chosen], to[chosen], (np.cumsum(worth) - 1)[column[chosen]]
        columns = columns[worth]
    table = np.full((count, columns.size), -1)
    table[row // actions, column] = to
    return Moves(table, columns // width, columns % width)


def _endings(edges: Edges, kept: Index, count: int) -> Endings:
    code = np.unique(edges.obs[kept] * count + edges.successor[kept])
    seen, first = np.unique(code // count, return_index=True)
    return Endings(np.append(first, code.size), code % count, seen)


@dataclass(slots=True)
class Shared:
    """The longest suffix found, and the histories that share it."""

    length: int = -1
    """Shared observations; -1 if nothing differs anywhere, 0 if only the empty suffix is shared."""
    t: int = 0
    pair: tuple[int, int] = (0, 0)
    """Two nodes of layer t that differ."""
    birth: int = 0
    """k: the suffix is o_k … o_t; t + 1 for the empty suffix."""
    path: tuple[tuple[int, int], ...] = ()
    """The pair's nodes at k … t."""
    steps: tuple[tuple[int, int], ...] = ()
    """(action, next observation) at k … t - 1."""
    first_obs: int = -1
    """o_k."""
    at_most: int | None = None
    """If the search was stopped: no suffix is longer than this. None if the length is exact."""


@dataclass(frozen=True, eq=False, slots=True)
class Question:
    """What must not differ, and where."""

    labels: list[Index]
    """For each layer what each node has, by number."""
    last: int
    """Compared at t = 1 … last."""
    apart: list[Flags] | None = None
    """For each layer whether two labels count as different, [labels, labels]; None: if unequal."""

    def differ(self, t: int, left: Index, right: Index) -> Flags:
        """Whether the members of each pair differ."""
        return self._apart(t, self.labels[t - 1][left], self.labels[t - 1][right])

    def example(self, t: int, nodes: Index) -> tuple[int, int] | None:
        """Two of the nodes that differ, if there are any."""
        labels, where = np.unique(self.labels[t - 1][nodes], return_index=True)
        for i in range(labels.size - 1):
            others = self._apart(t, np.full(labels.size - i - 1, labels[i]), labels[i + 1 :])
            if others.any():
                return int(nodes[where[i]]), int(nodes[where[i + 1 + int(others.argmax())]])
        return None

    def _apart(self, t: int, left: Index, right: Index) -> Flags:
        return left != right if self.apart is None else self.apart[t - 1][left, right]


class _Level(NamedTuple):
    """Pairs of one birth at one time, with where they came from."""

    left: Index
    right: Index
    parent: Index
    column: Index


def longest_shared(
    walks: Walks,
    questions: list[Question],
    progress: Progress,
    max_pairs: int = MAX_PAIRS,
    per_step: list[Index] | None = None,
) -> list[Shared]:
    """For each question the longest suffix that two differing histories share.

    Args:
        walks: the histories.
        questions: what must not differ.
        progress: told about births.
        max_pairs: stop after visiting more pairs than this, with bounds.
        per_step: if given, one array [T + 1] for each question, filled with the longest suffix at
            each t (-1 where nothing differs); the search then stops later.
    """
    results = [Shared() for _ in questions]
    _empty_suffixes(walks, questions, results, per_step)
    visited: dict[int, Index] = {}
    count = 0
    for birth in range(2, walks.num_layers + 1):
        if not _worth(birth, questions, results, per_step):
            break
        count = _run_birth(walks, questions, results, per_step, birth, visited, count, max_pairs)
        if count > max_pairs:
            for question, result in zip(questions, results, strict=True):
                limit = question.last - birth + 1
                result.at_most = limit if limit > result.length else None
            break
        progress("comparing suffixes", birth, walks.num_layers)
    progress("comparing suffixes", walks.num_layers, walks.num_layers)
    return results


def _worth(
    birth: int, questions: list[Question], results: list[Shared], per_step: list[Index] | None
) -> bool:
    """Whether a pair born now could share more than the best so far."""
    if per_step is not None:
        return any(
            (np.arange(birth, q.last + 1) - birth + 1 > found[birth : q.last + 1]).any()
            for q, found in zip(questions, per_step, strict=True)
        )
    return any(q.last - birth + 1 > r.length for q, r in zip(questions, results, strict=True))


def _empty_suffixes(
    walks: Walks, questions: list[Question], results: list[Shared], per_step: list[Index] | None
) -> None:
    """Two nodes of a layer that differ share the empty suffix at least."""
    for i, (question, result) in enumerate(zip(questions, results, strict=True)):
        for t in range(1, question.last + 1):
            pair = question.example(t, walks.present(t))
            if pair is None:
                continue
            if per_step is not None:
                per_step[i][t] = 0
            if result.length < 0:
                result.length, result.t, result.pair, result.birth = 0, t, pair, t + 1
                if per_step is None:
                    break


def _run_birth(
    walks: Walks,
    questions: list[Question],
    results: list[Shared],
    per_step: list[Index] | None,
    birth: int,
    visited: dict[int, Index],
    count: int,
    max_pairs: int,
) -> int:
    """Follows the pairs born at one layer; returns the number of pairs visited so far."""
    groups = walks.endings(birth)
    level = _born(groups, walks.graph.nodes[birth - 1].count, visited, birth, max_pairs - count)
    if level is None:
        return max_pairs + 1
    levels: list[_Level] = []
    found: list[tuple[int, int] | None] = [None] * len(questions)
    t = birth
    while level.left.size:
        levels.append(level)
        count += level.left.size
        length = t - birth + 1
        for i, (question, result) in enumerate(zip(questions, results, strict=True)):
            worth = length > result.length or (per_step is not None and length > per_step[i][t])
            if t <= question.last and worth:
                apart = question.differ(t, level.left, level.right)
                if apart.any():
                    if per_step is not None:
                        per_step[i][t] = max(length, per_step[i][t])
                    if length > result.length:
                        found[i] = (t, int(apart.argmax()))
                        result.length = length
        if count > max_pairs or t == walks.num_layers:
            break
        level = _next_level(walks, level, t, visited)
        t += 1
    for i, where in enumerate(found):
        if where is not None:
            results[i] = _trace(walks, levels, groups, birth, *where)
    return count


def _born(
    groups: Endings, width: int, visited: dict[int, Index], t: int, room: int
) -> _Level | None:
    """All pairs that share their last observation; None if they are more than there is room."""
    sizes = np.diff(groups.first)
    if int((sizes * (sizes - 1) // 2).sum()) > max(room, 0):
        return None
    codes = []
    for i in np.flatnonzero(sizes > 1):
        nodes = groups.nodes[groups.first[i] : groups.first[i + 1]]
        left, right = np.triu_indices(nodes.size, 1)
        codes.append(nodes[left] * width + nodes[right])
    code = np.concatenate(codes) if codes else np.zeros(0, np.int64)
    fresh, _ = _fresh(code, visited, t)
    none = np.full(fresh.size, -1)
    return _Level(fresh // width, fresh % width, none, none)


def _next_level(walks: Walks, level: _Level, t: int, visited: dict[int, Index]) -> _Level:
    moves, width = walks.moves(t), walks.graph.nodes[t].count
    step = max(1, _CHUNK // max(1, moves.action.size))
    codes, parents, columns = [], [], []
    for begin in range(0, level.left.size, step):
        left = moves.successor[level.left[begin : begin + step]]
        right = moves.successor[level.right[begin : begin + step]]
        parent, column = np.nonzero((left >= 0) & (right >= 0) & (left != right))
        one, two = left[parent, column], right[parent, column]
        codes.append(np.minimum(one, two) * width + np.maximum(one, two))
        parents.append(parent + begin)
        columns.append(column)
    fresh, kept = _fresh(np.concatenate(codes), visited, t + 1)
    return _Level(
        fresh // width, fresh % width, np.concatenate(parents)[kept], np.concatenate(columns)[kept]
    )


def _fresh(code: Index, visited: dict[int, Index], t: int) -> tuple[Index, Index]:
    """The pairs not met before at t, each once, and where they stand; from now on they are met."""
    code, kept = np.unique(code, return_index=True)
    before = visited.get(t)
    if before is None:
        visited[t] = code
        return code, kept
    if code.size:
        place = np.minimum(np.searchsorted(before, code), max(before.size - 1, 0))
        new = before[place] != code if before.size else np.ones(code.size, bool)
        code, kept = code[new], kept[new]
        if code.size:
            visited[t] = np.union1d(before, code)
    return code, kept


def _trace(
    walks: Walks, levels: list[_Level], groups: Endings, birth: int, t: int, index: int
) -> Shared:
    """Back along the parents of one pair."""
    end, steps = t, []
    while t > birth:
        level = levels[t - birth]
        column = int(level.column[index])
        moves = walks.moves(t - 1)
        steps.append((int(moves.action[column]), int(moves.obs[column])))
        index, t = int(level.parent[index]), t - 1
    steps.reverse()
    # A level holds each pair in order; forward again, to know who is who.
    left, right = int(levels[0].left[index]), int(levels[0].right[index])
    followed = [(left, right)]
    for i, (action, obs) in enumerate(steps):
        moves = walks.moves(birth + i)
        column = int(np.flatnonzero((moves.action == action) & (moves.obs == obs))[0])
        left, right = int(moves.successor[left, column]), int(moves.successor[right, column])
        followed.append((left, right))
    return Shared(
        length=end - birth + 1,
        t=end,
        pair=followed[-1],
        birth=birth,
        path=tuple(followed),
        steps=tuple(steps),
        first_obs=_common_ending(groups, *followed[0]),
    )


def _common_ending(groups: Endings, left: int, right: int) -> int:
    member = np.repeat(np.arange(groups.obs.size), np.diff(groups.first))
    mine = set(member[groups.nodes == left].tolist())
    shared = mine & set(member[groups.nodes == right].tolist())
    return int(groups.obs[min(shared)])
