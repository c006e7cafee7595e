"""The fast algorithm against the definitions; FASTMAZE_TEST_POMDPS=1000 for the whole sweep."""

from __future__ import annotations

import pytest

from fastmaze.lengths import Bounds, analyze
from fastmaze.lengths.brute_force import (
    Histories,
    brute_force,
    credit_length,
    on_path_length,
    policies_around,
)
from tests.lengths.random_pomdps import SWEEP, random_pomdp

BUDGET = 20_000
EXACT = ("m_reward", "m_transit", "m_transit_without_last", "l_value", "l_mem",
         "l_mem_everywhere", "c_sup", "best_return")  # fmt: skip


def batches(count: int, size: int = 50) -> list[range]:
    return [range(i, min(i + size, count)) for i in range(0, count, size)]


@pytest.mark.parametrize("seeds", batches(SWEEP), ids=str)
def test_fast_equals_brute_force(seeds: range) -> None:
    for seed in seeds:
        model = random_pomdp(seed)
        report, truth = analyze(model), brute_force(model)
        for name in EXACT:
            assert getattr(report, name) == getattr(truth, name), (seed, name)


@pytest.mark.parametrize("seeds", batches(SWEEP), ids=str)
def test_pooled_equals_brute_force(seeds: range) -> None:
    for seed in seeds:
        model = random_pomdp(seed)
        report, truth = analyze(model, pooled=True), brute_force(model, pooled=True)
        for name in EXACT:
            assert getattr(report, name) == getattr(truth, name), (seed, name)


@pytest.mark.parametrize("seeds", batches(2 * SWEEP), ids=str)
def test_chain_of_inequalities(seeds: range) -> None:
    """The theorem of the paper, and a stricter reading of "optimal" never needs less."""
    for seed in seeds:
        report = analyze(random_pomdp(seed), on_path_budget=BUDGET)
        chain = [report.l_mem_on_path, report.l_mem, report.l_mem_everywhere, report.l_value,
                 report.m]  # fmt: skip
        assert not any(isinstance(x, Bounds) for x in chain), seed
        assert chain == sorted(chain), seed
        lower, upper = report.c_bracket
        assert 1 <= lower <= upper <= report.horizon, seed
        assert lower <= report.c_sup <= report.horizon, seed


@pytest.mark.parametrize("seeds", batches(SWEEP), ids=str)
def test_credit_and_on_path_against_all_policies(seeds: range) -> None:
    """c^M lies in the bracket, and is nearly always found; on-path is exact."""
    compared = exact = 0
    for seed in seeds:
        model = random_pomdp(seed, small=True)
        report, h = analyze(model, on_path_budget=BUDGET), Histories(model)
        try:
            assert report.l_mem_on_path == on_path_length(h, limit=3_000), seed
            truth = credit_length(h, limit=300)
            sup = max(
                min(policy.credit(x) for policy in policies_around(h, x, limit=300))
                for layer in h.chosen()
                for x in layer
            )
        except ValueError:
            continue  # too many policies to list
        lower, upper = report.c_bracket
        assert lower <= truth <= upper, seed
        assert report.c_sup == sup, seed
        compared, exact = compared + 1, exact + (lower == upper)
    assert compared >= len(seeds) // 4
    assert exact >= 0.9 * compared
