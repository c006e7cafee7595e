"""The definitions, word for word: every history is listed. Slow, readable, and the tests' oracle.

A history is (o_1, a_1, o_2, …, o_t). Rewards are not part of it. Its window n is the last n
observations with the n - 1 actions between them; for t < n it is the whole history.

Nothing here is shared with the fast algorithm but the model itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fastmaze.lengths.model import Model

History = tuple[int, ...]
Belief = dict[int, Fraction]


@dataclass(frozen=True, kw_only=True)
class BruteForce:
    """Every length of a task, from all its histories."""

    m_reward: int
    m_transit: int
    m_transit_without_last: int
    l_value: int
    l_mem_everywhere: int
    l_mem: int
    """After histories that optimal actions can reach."""
    c_sup: int
    best_return: Fraction


class Histories:
    """All reachable histories of a model, with what the definitions ask about each.

    Args:
        model: the task.
        limit: give up at more histories than this.

    Raises:
        ValueError: there are more.
    """

    def __init__(self, model: Model, limit: int = 200_000) -> None:
        self.model, self.actions = model, range(model.num_actions)
        self.layers: list[dict[History, Belief]] = []
        """layers[t - 1]: P(s_t | history) of every reachable history of t observations."""
        self.chance: list[dict[tuple[History, int], dict[int, Fraction]]] = []
        """P(o_{t+1} | history, action)."""
        self.reward: list[dict[tuple[History, int], Fraction]] = []
        """E[r_t | history, action]."""
        self.q: list[dict[tuple[History, int], Fraction]] = []
        """Q*(history, action)."""
        self._list(limit)
        self._solve()

    def optimal(self, history: History) -> list[int]:
        """The optimal actions after a history."""
        q = self.q[len(history) // 2]
        best = max(q[history, a] for a in self.actions)
        return [a for a in self.actions if q[history, a] == best]

    def after(self, history: History, action: int) -> Iterator[tuple[Fraction, History]]:
        """P(o | history, action) and the longer history, for each possible observation."""
        for obs, chance in self.chance[len(history) // 2][history, action].items():
            yield chance, (*history, action, obs)

    def chosen(self) -> list[set[History]]:
        """Histories that optimal actions can reach, by t."""
        layers = [set(self.layers[0])]
        for _ in range(1, self.model.horizon):
            layers.append(
                {
                    longer
                    for history in layers[-1]
                    for action in self.optimal(history)
                    for _, longer in self.after(history, action)
                }
            )
        return layers

    def _list(self, limit: int) -> None:
        model = self.model
        start = model.start()
        total = sum(int(w) for w in start.weight)
        first: dict[History, Belief] = {}
        for state, obs, weight in zip(*start, strict=True):
            _add(first, (int(obs),), int(state), Fraction(int(weight), total))
        self.layers.append(first)
        for t in range(1, model.horizon + 1):
            self.layers[-1] = {h: _normalised(b) for h, b in self.layers[-1].items()}
            kernel = model.kernel(t)
            pay = model.rewards(t, np.arange(model.num_states(t)))
            chances, rewards, longer = {}, {}, {}
            for history, belief in self.layers[-1].items():
                for action in self.actions:
                    following: dict[History, Belief] = {}
                    expected = Fraction(0)
                    for state, p in belief.items():
                        expected += p * Fraction(int(pay[state, action]), model.reward_unit)
                        row = state * model.num_actions + action
                        for entry in range(kernel.first[row], kernel.first[row + 1]):
                            chance = p * Fraction(int(kernel.weight[entry]), kernel.total)
                            new = (*history, action, int(kernel.obs[entry]))
                            _add(following, new, int(kernel.state[entry]), chance)
                    rewards[history, action] = expected
                    chances[history, action] = {
                        new[-1]: sum(b.values(), Fraction(0)) for new, b in following.items()
                    }
                    longer.update(following)
            self.chance.append(chances)
            self.reward.append(rewards)
            if t < model.horizon:
                self.layers.append(longer)
            if sum(map(len, self.layers)) > limit:
                raise ValueError(f"limit: more than {limit:,} histories at t = {t + 1}")

    def _solve(self) -> None:
        best: dict[History, Fraction] = {}
        for t in range(self.model.horizon, 0, -1):
            q = {}
            for history in self.layers[t - 1]:
                for action in self.actions:
                    later = sum(
                        (p * best.get(new, Fraction(0)) for p, new in self.after(history, action)),
                        Fraction(0),
                    )
                    q[history, action] = (
                        self.reward[t - 1][history, action] + self.model.gamma * later
                    )
            best = {h: max(q[h, a] for a in self.actions) for h in self.layers[t - 1]}
            self.q.insert(0, q)
        start = self.model.start()
        total = sum(int(w) for w in start.weight)
        self.best_return = Fraction(0)
        for _, obs, weight in zip(*start, strict=True):
            self.best_return += Fraction(int(weight), total) * best[int(obs),]


def window(history: History, n: int) -> History:
    """The last n observations and the actions between them."""
    return (
        history[len(history) - (2 * n - 1) :]
        if 0 < 2 * n - 1 < len(history)
        else (history if n else ())
    )


def least_window(
    layers: Iterable[Iterable[History]],
    alike: Callable[[list[History]], bool],
    horizon: int,
    pooled: bool = False,
) -> int:
    """The least n such that `alike` holds for every class of histories with the same window n.

    Classes hold histories of one length or, if pooled, of every length from n on.
    """
    layers = [list(layer) for layer in layers]
    for n in range(horizon + 1):
        classes: dict[tuple[int, History], list[History]] = {}
        for t, layer in enumerate(layers):
            for history in layer:
                time = -1 if pooled and t + 1 >= n else t
                classes.setdefault((time, window(history, n)), []).append(history)
        if all(alike(members) for members in classes.values()):
            return n
    raise AssertionError("whole histories are always alike")


def constant(quantity: Callable[[History], Hashable]) -> Callable[[list[History]], bool]:
    """Whether a quantity is the same for all histories of a class."""
    return lambda members: len({quantity(history) for history in members}) == 1


def brute_force(model: Model, limit: int = 200_000, pooled: bool = False) -> BruteForce:
    """Computes every length straight from its definition."""
    h = Histories(model, limit)

    def per_action(table: list[dict[tuple[History, int], Any]]) -> Callable[[History], Hashable]:
        def quantity(history: History) -> Hashable:
            values = [table[len(history) // 2][history, a] for a in h.actions]
            return tuple(frozenset(v.items()) if isinstance(v, dict) else v for v in values)

        return quantity

    def share_action(members: list[History]) -> bool:
        return bool(set.intersection(*(set(h.optimal(history)) for history in members)))

    transit = constant(per_action(h.chance))

    def least(layers: list[Any], alike: Callable[[list[History]], bool]) -> int:
        return least_window(layers, alike, model.horizon, pooled)

    return BruteForce(
        m_reward=least(h.layers, constant(per_action(h.reward))),
        m_transit=least(h.layers, transit),
        m_transit_without_last=least(h.layers[:-1], transit),
        l_value=least(h.layers, constant(per_action(h.q))),
        l_mem_everywhere=least(h.layers, share_action),
        l_mem=least(h.chosen(), share_action),
        c_sup=max(kindest_credit(h, history) for layer in h.chosen() for history in layer),
        best_return=h.best_return,
    )


def kindest_credit(h: Histories, history: History) -> int:
    """The smallest c(h; π) over optimal policies π.

    For one history and one n, the policies that follow the actions can be chosen apart: the
    kindest for an optimal action has the largest n-step return, for another the smallest.
    """
    best = h.optimal(history)
    others = [a for a in h.actions if a not in best]
    for n in range(1, h.model.horizon - len(history) // 2 + 1):
        rival = max((_extreme(h, min, history, a, n) for a in others), default=None)
        if rival is None or max(_extreme(h, max, history, a, n) for a in best) > rival:
            return n
    raise AssertionError("the whole return tells optimal actions from others")


def _extreme(
    h: Histories, pick: Callable[..., Fraction], history: History, action: int, n: int
) -> Fraction:
    """The largest or smallest n-step return of an action that optimal actions follow."""
    t = len(history) // 2
    total = h.reward[t][history, action]
    if n > 1 and t + 1 < h.model.horizon:
        for p, new in h.after(history, action):
            rest = [_extreme(h, pick, new, a, n - 1) for a in h.optimal(new)]
            total += h.model.gamma * p * pick(rest)
    return total


class Policy:
    """A deterministic optimal policy over histories."""

    def __init__(self, histories: Histories, choice: dict[History, int]) -> None:
        self.h, self.choice = histories, choice
        self._sums: dict[tuple[History, int, int], Fraction] = {}

    def partial_return(self, history: History, action: int, n: int) -> Fraction:
        """G_n: the discounted rewards of n steps, the first of them `action`."""
        if n == 0:
            return Fraction(0)
        key = (history, action, n)
        if key not in self._sums:
            t = len(history) // 2
            total = self.h.reward[t][history, action]
            if n > 1 and t + 1 < self.h.model.horizon:
                total += self.h.model.gamma * sum(
                    p * self.partial_return(new, self.choice[new], n - 1)
                    for p, new in self.h.after(history, action)
                )
            self._sums[key] = total
        return self._sums[key]

    def credit(self, history: History) -> int:
        """c(h; π): the first n at which an optimal action has overtaken all that are not."""
        best = self.h.optimal(history)
        others = [a for a in self.h.actions if a not in best]
        steps_left = self.h.model.horizon - len(history) // 2
        for n in range(1, steps_left + 1):
            rival = max((self.partial_return(history, a, n) for a in others), default=None)
            if rival is None or any(self.partial_return(history, a, n) > rival for a in best):
                return n
        raise AssertionError("the whole return tells optimal actions from others")

    def visited(self) -> Iterator[History]:
        """Histories that the policy meets."""
        layer = list(self.h.layers[0])
        for _ in range(self.h.model.horizon):
            yield from layer
            if len(layer[0]) // 2 + 1 < self.h.model.horizon:
                layer = [new for x in layer for _, new in self.h.after(x, self.choice[x])]


def policies_around(h: Histories, history: History, limit: int = 50_000) -> Iterator[Policy]:
    """Every optimal policy, as far as it matters for what follows one history."""
    later = [
        x for layer in h.layers[len(history) // 2 + 1 :] for x in layer
        if x[: len(history)] == history
    ]  # fmt: skip
    return _policies(h, later, limit)


def all_policies(h: Histories, limit: int = 50_000) -> Iterator[Policy]:
    """Every deterministic optimal policy."""
    return _policies(h, [x for layer in h.layers for x in layer], limit)


def credit_length(h: Histories, limit: int = 50_000) -> int:
    """c^M: over optimal policies, the smallest largest c(h; π) of the histories that π visits."""
    return min(max(map(policy.credit, policy.visited())) for policy in all_policies(h, limit))


def on_path_length(h: Histories, limit: int = 200_000) -> int:
    """l_mem on-path: the least n for which some policy of the window n has the best return."""
    for n in range(h.model.horizon + 1):
        windows = sorted({(len(x), window(x, n)) for layer in h.layers for x in layer})
        if h.model.num_actions ** len(windows) > limit:
            raise ValueError(f"limit: more than {limit:,} policies of the window {n}")
        for choice in itertools.product(h.actions, repeat=len(windows)):
            policy = dict(zip(windows, choice, strict=True))
            if policy_return(h, lambda x, p=policy, n=n: p[len(x), window(x, n)]) == h.best_return:  # type: ignore[misc]
                return n
    raise AssertionError("a policy of whole histories has the best return")


def policy_return(h: Histories, policy: Callable[[History], int]) -> Fraction:
    """The expected return of a deterministic policy."""
    start = h.model.start()
    total = sum(int(w) for w in start.weight)
    layer: dict[History, Fraction] = {}
    for _, obs, weight in zip(*start, strict=True):
        first = (int(obs),)
        layer[first] = layer.get(first, Fraction(0)) + Fraction(int(weight), total)
    result, discount = Fraction(0), Fraction(1)
    for t in range(h.model.horizon):
        following = {}
        for history, chance in layer.items():
            action = policy(history)
            result += discount * chance * h.reward[t][history, action]
            for p, new in h.after(history, action):
                following[new] = chance * p
        layer, discount = following, discount * h.model.gamma
    return result


def _policies(h: Histories, histories: list[History], limit: int) -> Iterator[Policy]:
    options = [h.optimal(x) for x in histories]
    count = 1
    for option in options:
        count *= len(option)
    if count > limit:
        raise ValueError(f"limit: {count:,} optimal policies, more than {limit:,}")
    for choice in itertools.product(*options):
        yield Policy(h, dict(zip(histories, choice, strict=True)))


def _add(layer: dict[History, Belief], history: History, state: int, chance: Fraction) -> None:
    belief = layer.setdefault(history, {})
    belief[state] = belief.get(state, Fraction(0)) + chance


def _normalised(belief: Belief) -> Belief:
    total = sum(belief.values(), Fraction(0))
    return {state: p / total for state, p in belief.items()}
