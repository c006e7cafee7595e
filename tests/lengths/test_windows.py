"""The best return of a window: a step at l_mem, and equal to a search over all policies."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from fastmaze.lengths import analyze
from fastmaze.lengths.brute_force import Histories, policy_return, window
from fastmaze.lengths.windows import best_returns
from tests.lengths.random_pomdps import random_pomdp


@pytest.mark.parametrize(("task", "length"), [("PassiveTMaze", 4), ("ActiveTMaze", 3)])
def test_step_at_l_mem(task: str, length: int) -> None:
    report = analyze(task, length=length)
    assert isinstance(report.l_mem, int)
    half, one = [Fraction(1, 2)], [Fraction(1)]
    below, above = report.l_mem, report.horizon + 1 - report.l_mem
    assert best_returns(task, length=length) == half * below + one * above


def test_equals_a_search_over_all_policies() -> None:
    compared = 0
    for seed in range(80):
        model = random_pomdp(seed, small=True)
        h = Histories(model)
        returns = best_returns(model)
        for n, found in enumerate(returns):
            windows = sorted({(len(x), window(x, n)) for layer in h.layers for x in layer})
            if model.num_actions ** len(windows) > 600:
                continue
            best = max(
                policy_return(h, lambda x, p=policy, n=n: p[len(x), window(x, n)])
                for choice in itertools.product(h.actions, repeat=len(windows))
                for policy in [dict(zip(windows, choice, strict=True))]
            )
            assert found == best, (seed, n)
            compared += 1
        on_path = analyze(model, on_path_budget=20_000).l_mem_on_path
        assert returns.index(h.best_return) == on_path, seed
    assert compared > 100


def test_too_large_a_search_is_refused() -> None:
    with pytest.raises(ValueError, match="max_choices: more than 3 choices"):
        best_returns("ActiveTMaze", length=4, max_choices=3)
