"""Witnesses as stories: which histories prove a length, in words a person can follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

import numpy as np

from fastmaze.lengths.beliefs import BeliefGraph
from fastmaze.lengths.credit import CreditWitness
from fastmaze.lengths.exact import shown
from fastmaze.lengths.model import Model
from fastmaze.lengths.pairs import Walks
from fastmaze.lengths.values import Values

Steps = tuple[tuple[int, int], ...]
"""(action, next observation), …"""

Chances = list[tuple[int, Fraction]]
"""(observation, its probability), …"""


class Suffix(NamedTuple):
    """What some histories share at their ends."""

    t: int
    """Where they end."""
    nodes: Sequence[int]
    """Where each of them leads."""
    first_obs: int
    """The first shared observation; -1 if nothing is shared."""
    steps: Steps
    """What follows it in all of them."""


class Told(NamedTuple):
    """A history's observations and the actions between them."""

    obs: list[int]
    actions: list[int]


class Storyteller:
    """Finds histories that lead to nodes, and writes them out.

    Args:
        model: for the names.
        graph: the beliefs.
    """

    def __init__(self, model: Model, graph: BeliefGraph) -> None:
        self.model, self.graph = model, graph

    def of_reward(self, walks: Walks, suffix: Suffix) -> str:
        """Why a window does not tell the expected reward."""
        table, total = self.graph.reward[suffix.t - 1], self.graph.nodes[suffix.t - 1].total
        unit = self.model.reward_unit

        def value(node: int, action: int) -> Fraction:
            return Fraction(int(table[node, action]), int(total[node]) * unit)

        return self._compared(walks, suffix, value, "the expected reward of {action} is")

    def of_value(self, walks: Walks, suffix: Suffix, values: Values) -> str:
        """Why a window does not tell Q*."""
        table, scale = values.q[suffix.t - 1], values.scale[suffix.t - 1]
        total = self.graph.nodes[suffix.t - 1].total

        def value(node: int, action: int) -> Fraction:
            return Fraction(int(table[node, action]), int(total[node]) * scale)

        return self._compared(walks, suffix, value, "Q* of {action} is")

    def of_transit(self, walks: Walks, suffix: Suffix) -> str:
        """Why a window does not tell what comes next."""

        def value(node: int, action: int) -> Chances:
            return self._chances(suffix.t, node, action)

        return self._compared(walks, suffix, value, "after {action} comes")

    def of_memory(self, walks: Walks, suffix: Suffix, values: Values) -> str:
        """Why a window does not do to act on."""
        optimal = values.optimal[suffix.t - 1]
        names = self.model.action_names
        ends = []
        for node in suffix.nodes:
            best = [names[a] for a in np.flatnonzero(optimal[node]).tolist()]
            ends.append(f"optimal: {' or '.join(best)}")
        return self._written(walks, suffix, ends, "no action is optimal after all of them")

    def of_credit(self, walks: Walks, found: CreditWitness) -> str:
        """How long the better action takes to get ahead."""
        names = self.model.action_names
        lines = [
            f"At t = {found.t}, after a history that optimal actions reach:",
            f"  {self._line(self._history(walks, found.t, found.node), 0)}",
        ]
        if found.rival_action is None:
            return "\n".join([*lines, "  every action is optimal, there is nothing to tell apart."])
        if found.before is not None:
            mine, theirs = found.before
            lines.append(
                f"  {found.n - 1} step{'s' * (found.n > 2)} on, the optimal actions have returned "
                f"{shown(mine)} at most, the others as much as {shown(theirs)};"
            )
        lines.append(
            f"  {found.n} step{'s' * (found.n > 1)} on, {names[found.optimal_action]} (optimal) "
            f"has returned {shown(found.optimal_return)}, the best of the others, "
            f"{names[found.rival_action]}, {shown(found.rival_return)}."
        )
        return "\n".join(lines)

    def _compared(
        self,
        walks: Walks,
        suffix: Suffix,
        value: Callable[[int, int], Fraction | Chances],
        what: str,
    ) -> str:
        left, right = suffix.nodes
        for action in range(self.model.num_actions):
            one, two = value(left, action), value(right, action)
            if one != two:
                said = what.format(action=self.model.action_names[action])
                ends = [f"{said} {text}" for text in self._told_apart(one, two)]
                return self._written(walks, suffix, ends, "")
        raise ValueError(f"the nodes {left} and {right} of t = {suffix.t} do not differ")

    def _told_apart(self, one: Fraction | Chances, two: Fraction | Chances) -> tuple[str, str]:
        """Two different things in words, with as many digits as it takes."""
        for digits in (9, 17):
            texts = self._text(one, digits), self._text(two, digits)
            if texts[0] != texts[1]:
                return texts
        return texts[0], f"{texts[1]}, which differs in later digits"

    def _text(self, value: Fraction | Chances, digits: int) -> str:
        if isinstance(value, Fraction):
            return shown(value, digits)
        parts = []
        for obs, chance in value:
            name = self.model.observation_name(obs)
            said = f"{name} with probability {shown(chance, digits)}"
            parts.append(name if chance == 1 else said)
        return ", ".join(parts)

    def _written(self, walks: Walks, suffix: Suffix, ends: list[str], moral: str) -> str:
        shared = len(suffix.steps) + 1 if suffix.first_obs >= 0 else 0
        if shared:
            same = f"the same last {shared} observations" if shared > 1 else "the same observation"
            head = f"At t = {suffix.t}, histories that end in {same} (after the bar):"
        else:
            head = f"At t = {suffix.t}, histories that differ even in what is seen now:"
        lines = [head]
        birth = suffix.t - shared + 1 if shared else suffix.t
        for node, end in zip(self._births(walks, suffix), ends, strict=True):
            obs = suffix.first_obs if shared else None
            told = self._history(walks, birth, node, obs)
            for action, seen in suffix.steps:
                told.actions.append(action)
                told.obs.append(seen)
            lines += [f"  {self._line(told, shared)}", f"    {end}"]
        if moral:
            lines.append(f"  {moral}.")
        return "\n".join(lines)

    def _births(self, walks: Walks, suffix: Suffix) -> list[int]:
        """Nodes from which the shared steps lead to the suffix's nodes, one for each of these."""
        if not suffix.steps:
            return list(suffix.nodes)
        birth = suffix.t - len(suffix.steps)
        groups = walks.endings(birth)
        i = int(np.flatnonzero(groups.obs == suffix.first_obs)[0])
        born = groups.nodes[groups.first[i] : groups.first[i + 1]]
        ends = born
        for t, (action, obs) in enumerate(suffix.steps, start=birth):
            moves = walks.moves(t)
            column = int(np.flatnonzero((moves.action == action) & (moves.obs == obs))[0])
            ends = moves.successor[ends, column]
            born, ends = born[ends >= 0], ends[ends >= 0]
        return [int(born[np.flatnonzero(ends == node)[0]]) for node in suffix.nodes]

    def _history(self, walks: Walks, t: int, node: int, obs: int | None = None) -> Told:
        """Some history that the walks allow, that leads to a node and ends in an observation."""
        seen: list[int] = []
        done: list[int] = []
        while t > 1:
            edges, kept = self.graph.edges[t - 2], walks.edges(t - 1)
            fits = edges.successor[kept] == node
            if obs is not None:
                fits &= edges.obs[kept] == obs
            i = int(fits.argmax())
            row = int(walks.rows(t - 1)[i])
            seen.append(int(edges.obs[kept[i]]))
            done.append(row % self.graph.num_actions)
            node, obs, t = row // self.graph.num_actions, None, t - 1
        start = self.graph.start
        fits = start.successor == node
        if obs is not None:
            fits &= start.obs == obs
        seen.append(int(start.obs[fits.argmax()]))
        return Told(seen[::-1], done[::-1])

    def _line(self, told: Told, shared: int) -> str:
        """Observations and actions in a row, repetitions counted, a bar before what is shared."""
        cut = len(told.obs) - shared
        names = self.model.action_names
        words = [
            f"{_arrow(names[action])} {self.model.observation_name(obs)}"
            for action, obs in zip(told.actions, told.obs[1:], strict=True)
        ]
        first = self.model.observation_name(told.obs[0])
        if not shared:
            return _joined([first, *_counted(words)])
        if cut == 0:
            return _joined(["|", first, *_counted(words)])
        # The action that leads to the first shared observation is not shared.
        leading = _arrow(names[told.actions[cut - 1]])
        bar = f"{leading} | {self.model.observation_name(told.obs[cut])}"
        return _joined([first, *_counted(words[: cut - 1]), bar, *_counted(words[cut:])])

    def _chances(self, t: int, node: int, action: int) -> Chances:
        edges = self.graph.edges[t - 1]
        row = node * self.graph.num_actions + action
        total = int(self.graph.nodes[t - 1].total[node]) * edges.total
        span = range(edges.first[row], edges.first[row + 1])
        return [(int(edges.obs[i]), Fraction(int(edges.chance[i]), total)) for i in span]


def _arrow(action: str) -> str:
    """An action as what leads from one observation to the next."""
    return f"–{action}→"


def _counted(words: list[str]) -> list[str]:
    """Runs of equal words as one."""
    counted = []
    for word, run in groupby(words):
        times = len(list(run))
        counted.append(word if times == 1 else f"({word}) × {times:,}")
    return counted


def _joined(words: list[str]) -> str:
    """All on one line; of many, the first and the last."""
    if len(words) > 16:
        words = [*words[:8], f"… {len(words) - 15} more …", *words[-7:]]
    return " ".join(words)
