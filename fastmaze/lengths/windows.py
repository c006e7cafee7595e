"""The empirical side: the best return of an agent that acts on its last n observations alone.

The definition of l_mem predicts a step: from n = l_mem on-path on, the best return is V*; below it
is less. A policy here is time-aware and deterministic (no other does better). Its choices at one
time meet again later, wherever two histories become one window, so the search is over whole layers
of windows: exact, for small tasks.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

from fastmaze.lengths.analyze import as_model
from fastmaze.lengths.beliefs import MAX_NODES, BeliefGraph, build
from fastmaze.lengths.minimise import minimise
from fastmaze.lengths.model import Model
from fastmaze.lengths.values import Values, solve
from fastmaze.specs import check_integer

Window = tuple[int, ...]
Layer = dict[Window, dict[int, Fraction]]
"""For each window that the policy meets, the chance of each node behind it."""

MAX_CHOICES = 1_000_000
"""Joint choices of actions looked at by default, over a whole search."""


def best_returns(task: Any, *, max_choices: int = MAX_CHOICES, **options: Any) -> list[Fraction]:
    """The best return for each window n = 0 … T, discounted as the task is.

    Args:
        task: as `analyze` takes it; small.
        max_choices: give up beyond this many joint choices of actions for one window.
        **options: the task's, and `gamma`, as `analyze` takes them.

    Raises:
        ValueError: the task is too large.
    """
    check_integer("max_choices", max_choices, 1)
    model = as_model(task, **options)
    graph = build(minimise(model, _silent), model.num_actions, _silent)
    if not graph.complete:
        raise ValueError(f"task: more than {MAX_NODES:,} beliefs, too large for this search")
    values = solve(graph, model, _silent)
    return [_Search(model, graph, values, n, max_choices).best() for n in range(model.horizon + 1)]


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


class _Search:
    """Branch and bound for one window; V* of what is left bounds every branch."""

    def __init__(
        self, model: Model, graph: BeliefGraph, values: Values, n: int, max_choices: int
    ) -> None:
        self.model, self.graph, self.n = model, graph, n
        self.left, self.max_choices = max_choices, max_choices
        self.q = [
            [
                [Fraction(int(x), int(total) * scale) for x in row]
                for row, total in zip(table, nodes.total, strict=True)
            ]
            for table, scale, nodes in zip(values.q, values.scale, graph.nodes, strict=True)
        ]
        self.known: dict[Any, tuple[Fraction, bool]] = {}
        """Layer to its best return, and whether that is exact or an upper bound."""

    def best(self) -> Fraction:
        """The best return from the start."""
        start = self.graph.start
        layer: Layer = {}
        for obs, node, chance in zip(start.obs, start.successor, start.chance, strict=True):
            window = (int(obs),) if self.n else ()
            _add(layer, window, int(node), Fraction(int(chance), start.total))
        found = self._best(1, layer, None)
        if found is None:
            raise RuntimeError("a search without a bound finds something")
        return found

    def _best(self, t: int, layer: Layer, above: Fraction | None) -> Fraction | None:
        """The best return of what is left, or None if it is at most `above`."""
        if t > self.model.horizon:
            return Fraction(0) if above is None or above < 0 else None
        key = (t, tuple(sorted((w, tuple(sorted(b.items()))) for w, b in layer.items())))
        if key in self.known:
            value, exact = self.known[key]
            if exact or (above is not None and value <= above):
                return value if above is None or value > above else None
        q = self.q[t - 1]
        # For each window the actions with an upper bound on what they can bring, best first.
        options = []
        for nodes in layer.values():
            bounds = [
                (sum((p * q[node][a] for node, p in nodes.items()), Fraction(0)), a)
                for a in range(self.model.num_actions)
            ]
            options.append(sorted(bounds, key=lambda x: (-x[0], x[1])))
        found, best = None, above
        for choice in self._promising(options):
            bound = sum((b for b, _ in choice), Fraction(0))
            if best is not None and bound <= best:
                continue
            self.left -= 1
            if self.left < 0:
                raise ValueError(
                    f"max_choices: more than {self.max_choices:,} choices for the window {self.n}; "
                    "take a smaller task, or raise it"
                )
            paid, following = self._follow(t, layer, [a for _, a in choice])
            wanted = None if best is None else (best - paid) / self._discount()
            rest = self._best(t + 1, following, wanted) if self.model.gamma else Fraction(0)
            if rest is not None and (best is None or paid + self.model.gamma * rest > best):
                found = best = paid + self.model.gamma * rest
        if found is not None:
            self.known[key] = (found, True)
        elif above is not None:
            self.known[key] = (above, False)
        return found

    def _discount(self) -> Fraction:
        return self.model.gamma or Fraction(1)

    def _promising(self, options: list[Any]) -> list[tuple[tuple[Fraction, int], ...]]:
        """Joint choices, the most promising first."""
        choices = list(itertools.islice(itertools.product(*options), self.left + 1))
        return sorted(choices, key=lambda choice: -sum(bound for bound, _ in choice))

    def _follow(self, t: int, layer: Layer, actions: list[int]) -> tuple[Fraction, Layer]:
        edges, rewards = self.graph.edges[t - 1], self.graph.reward[t - 1]
        totals = self.graph.nodes[t - 1].total
        paid, following = Fraction(0), Layer()
        for (window, nodes), action in zip(layer.items(), actions, strict=True):
            for node, chance in nodes.items():
                total = int(totals[node])
                pay = Fraction(int(rewards[node, action]), total * self.model.reward_unit)
                paid += chance * pay
                row = node * self.model.num_actions + action
                for entry in range(edges.first[row], edges.first[row + 1]):
                    longer = (*window, action, int(edges.obs[entry])) if self.n else ()
                    kept = longer[max(0, len(longer) - (2 * self.n - 1)) :]
                    p = chance * Fraction(int(edges.chance[entry]), total * edges.total)
                    _add(following, kept, int(edges.successor[entry]), p)
        return paid, following


def _add(layer: Layer, window: Window, node: int, chance: Fraction) -> None:
    nodes = layer.setdefault(window, {})
    nodes[node] = nodes.get(node, Fraction(0)) + chance
