"""Step 4: l_mem. Histories with the same window must share an optimal action, all of a class.

Two histories with disjoint optimal actions bound it from below, which is a question for pairs. A
class may lack a common action though every two of its members share one; where a layer's sets of
optimal actions allow that at all, an automaton over the sets of nodes of a class decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.model import Index
from fastmaze.lengths.pairs import Flags, Question, Shared, Walks, longest_shared
from fastmaze.lengths.repeats import Memory
from fastmaze.lengths.values import Values

MAX_CLASSES = 2_000_000
"""Largest number of sets of nodes by default that the automaton visits."""

_FEW_SETS = 14
"""Up to this many different optimal sets a layer is examined for sets that only meet in pairs."""


@dataclass(slots=True)
class SharedClass:
    """The longest suffix shared by histories that have no optimal action in common."""

    length: int
    """Shared observations; -1 if every layer has a common action."""
    t: int
    nodes: tuple[int, ...]
    """Nodes of layer t without a common optimal action."""
    first_obs: int = -1
    steps: tuple[tuple[int, int], ...] = ()
    """(action, next observation), from the suffix's first observation on."""
    at_most: int | None = None
    """If the search was stopped: no suffix is longer than this."""


def optimal_sets(values: Values) -> tuple[list[Index], list[Flags]]:
    """For each layer the optimal set of each node by number, and the sets [sets, A]."""
    memory: Memory[tuple[Index, Flags]] = Memory()
    found = [memory.get(partial(_number_sets, x), x) for x in values.optimal]
    return [ids for ids, _ in found], [sets for _, sets in found]


def _number_sets(optimal: Flags) -> tuple[Index, Flags]:
    distinct, ids = np.unique(optimal, axis=0, return_inverse=True)
    return ids.reshape(-1).astype(np.int64), distinct


def disjoint_question(labels: list[Index], sets: list[Flags]) -> Question:
    """Two nodes differ if no action is optimal in both."""
    memory: Memory[Flags] = Memory()
    return Question(labels, len(labels), [memory.get(partial(_disjoint, x), x) for x in sets])


def _disjoint(sets: Flags) -> Flags:
    return np.logical_not((sets[:, None, :] & sets[None, :, :]).any(axis=2))


def longest_without_common_action(
    walks: Walks, values: Values, progress: Progress, max_pairs: int, max_classes: int = MAX_CLASSES
) -> SharedClass:
    """The longest suffix whose histories share no optimal action; l_mem is one more.

    Args:
        walks: the histories that count.
        values: optimal actions.
        progress: told how far it is.
        max_pairs: stop after visiting more pairs than this, with bounds.
        max_classes: the same for sets of nodes.
    """
    labels, sets = optimal_sets(values)
    found = longest_shared(walks, [disjoint_question(labels, sets)], progress, max_pairs)[0]
    best = _of_pair(found)
    layers = [
        t for t in range(1, walks.num_layers + 1)
        if not _meets_in_pairs_only_if_all(_present(walks, labels, sets, t))
    ]  # fmt: skip
    return _Automaton(walks, values, max_classes).search(best, layers) if layers else best


def _of_pair(found: Shared) -> SharedClass:
    return SharedClass(
        found.length, found.t, found.pair, found.first_obs, found.steps, found.at_most
    )


def _present(walks: Walks, labels: list[Index], sets: list[Flags], t: int) -> Flags:
    """The optimal sets that nodes of the walks have at t."""
    return sets[t - 1][np.unique(labels[t - 1][walks.present(t)])]


def _meets_in_pairs_only_if_all(sets: Flags) -> bool:
    """Whether any of the sets that meet in pairs have a common element (the Helly property)."""
    num_sets, actions = sets.shape
    if actions <= 2 or num_sets <= 2:
        return True
    if num_sets > _FEW_SETS:
        return False
    masks = [int(sum(1 << int(a) for a in np.flatnonzero(row))) for row in sets]

    def extend(chosen: list[int], common: int, rest: list[int]) -> bool:
        for i, mask in enumerate(rest):
            if all(mask & other for other in chosen):
                if not mask & common:
                    return False
                if not extend([*chosen, mask], mask & common, rest[i + 1 :]):
                    return False
        return True

    return extend([], (1 << actions) - 1, masks)


class _Automaton:
    """Sets of nodes that histories with one suffix can be in, from birth to birth.

    Args:
        walks: the histories that count.
        values: optimal actions.
        limit: stop after this many sets.
    """

    def __init__(self, walks: Walks, values: Values, limit: int) -> None:
        self.walks, self.values, self.limit = walks, values, limit
        self.count = 0
        self.visited: list[set[tuple[int, ...]]] = [set() for _ in range(walks.num_layers + 1)]

    def search(self, best: SharedClass, layers: list[int]) -> SharedClass:
        """Looks for suffixes longer than the best, that end in one of the layers."""
        for t in layers:
            nodes = tuple(self.walks.present(t).tolist())
            if best.length < 0 and self._has_no_common_action(t, nodes):
                best = SharedClass(0, t, nodes)
        last = max(layers)
        for birth in range(2, last + 1):
            if last - birth + 1 <= best.length:
                break
            best = self._run_birth(best, birth, last)
            if self.count > self.limit:
                at_most = max(last - birth + 1, best.at_most or 0)
                best.at_most = at_most if at_most > best.length else None
                break
        if best.at_most is not None and best.at_most <= best.length:
            best.at_most = None
        return best

    def _run_birth(self, best: SharedClass, birth: int, last: int) -> SharedClass:
        groups = self.walks.endings(birth)
        # Each set with the suffix that leads to it: (first observation, steps).
        level: dict[tuple[int, ...], tuple[int, tuple[tuple[int, int], ...]]] = {}
        for i, obs in enumerate(groups.obs):
            nodes = tuple(groups.nodes[groups.first[i] : groups.first[i + 1]].tolist())
            self._meet(level, birth, nodes, (int(obs), ()))
        for t in range(birth, last + 1):
            if t - birth + 1 > best.length:
                for nodes, (obs, steps) in level.items():
                    if self._has_no_common_action(t, nodes):
                        stopped = best.at_most
                        best = SharedClass(t - birth + 1, t, nodes, obs, steps, stopped)
                        break
            if t == last or not level or self.count > self.limit:
                break
            moves = self.walks.moves(t)
            following: dict[tuple[int, ...], tuple[int, tuple[tuple[int, int], ...]]] = {}
            for nodes, (obs, steps) in level.items():
                table = moves.successor[list(nodes)]
                for column in np.flatnonzero((table >= 0).sum(axis=0) > 1).tolist():
                    new = np.unique(table[:, column])
                    step = (int(moves.action[column]), int(moves.obs[column]))
                    self._meet(following, t + 1, tuple(new[new >= 0].tolist()),
                               (obs, (*steps, step)))  # fmt: skip
            level = following
        return best

    def _meet(
        self,
        level: dict[tuple[int, ...], tuple[int, tuple[tuple[int, int], ...]]],
        t: int,
        nodes: tuple[int, ...],
        suffix: tuple[int, tuple[tuple[int, int], ...]],
    ) -> None:
        # Two nodes are a pair, which is settled already.
        if len(nodes) > 2 and nodes not in self.visited[t]:
            self.visited[t].add(nodes)
            level[nodes] = suffix
            self.count += 1

    def _has_no_common_action(self, t: int, nodes: tuple[int, ...]) -> bool:
        return not bool(self.values.optimal[t - 1][list(nodes)].all(axis=0).any())
