"""l_mem on-path: the least window with which some policy has the best return from the start.

Unlike the other readings, the policy may avoid histories where its window would not do. Deciding
that is NP-hard in general; here it is a depth-first search over the optimal actions of each
window that the policy meets, with a budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastmaze.lengths.beliefs import BeliefGraph
from fastmaze.lengths.values import Values

Window = tuple[int, ...]
"""Observations and the actions between them."""

Met = dict[Window, frozenset[int]]
"""The windows that a policy meets at one time, with the nodes it may be in."""


class _Level(NamedTuple):
    met: Met
    choices: Iterator[tuple[int, ...]]


class OnPathSearch:
    """Decides for a window whether it can do, within a budget over all calls.

    Args:
        graph: the beliefs.
        values: optimal actions.
        last: the last t at which actions matter (1 for γ = 0, else T).
        budget: how many layers of windows may be looked at.
    """

    def __init__(self, graph: BeliefGraph, values: Values, last: int, budget: int) -> None:
        self.graph, self.values, self.last, self.left = graph, values, last, budget

    def least(self, upper: int) -> tuple[int, int]:
        """The least window that does, as (lower, upper): equal unless the budget ends first.

        Args:
            upper: a window that does for certain.
        """
        # If a window does, so does every longer one: go down until one does not.
        for n in range(upper - 1, -1, -1):
            does = self.does(n)
            if does is None:
                return 0, n + 1
            if not does:
                return n + 1, n + 1
        return 0, 0

    def does(self, n: int) -> bool | None:
        """Whether some policy of the last n observations is optimal; None if the budget ends."""
        failed: set[tuple[int, frozenset[tuple[Window, frozenset[int]]]]] = set()
        first: Met = {}
        for obs, node in zip(self.graph.start.obs, self.graph.start.successor, strict=True):
            _meet(first, (int(obs),) if n else (), {int(node)})
        stack = [_Level(first, self._choices(1, first))]
        while stack:
            t, level = len(stack), stack[-1]
            choice = next(level.choices, None)
            if choice is None:
                failed.add((t, frozenset(level.met.items())))
                stack.pop()
                continue
            if t == self.last:
                return True
            self.left -= 1
            if self.left < 0:
                return None
            following = self._follow(t, n, level.met, choice)
            if (t + 1, frozenset(following.items())) not in failed:
                stack.append(_Level(following, self._choices(t + 1, following)))
        return False

    def _choices(self, t: int, met: Met) -> Iterator[tuple[int, ...]]:
        """Every way of giving each window an action that is optimal in all its nodes."""
        optimal = self.values.optimal[t - 1]
        return itertools.product(
            *(np.flatnonzero(optimal[list(nodes)].all(axis=0)).tolist() for nodes in met.values())
        )

    def _follow(self, t: int, n: int, met: Met, choice: tuple[int, ...]) -> Met:
        edges, actions = self.graph.edges[t - 1], self.graph.num_actions
        following: Met = {}
        for (window, nodes), action in zip(met.items(), choice, strict=True):
            for node in nodes:
                row = node * actions + action
                for entry in range(edges.first[row], edges.first[row + 1]):
                    longer = (*window, action, int(edges.obs[entry])) if n else ()
                    kept = longer[max(0, len(longer) - (2 * n - 1)) :]
                    _meet(following, kept, {int(edges.successor[entry])})
        return following


def _meet(met: Met, window: Window, nodes: set[int]) -> None:
    met[window] = met.get(window, frozenset()) | nodes
