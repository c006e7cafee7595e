"""Large tasks and long numbers: limits leave bounds that hold, and other paths the same lengths."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastmaze.lengths import Bounds, LengthReport, TabularPOMDP, analyze, beliefs, credit
from fastmaze.lengths.beliefs import build
from fastmaze.lengths.brute_force import brute_force
from fastmaze.lengths.minimise import minimise
from fastmaze.lengths.pairs import Walks
from tests.lengths.random_pomdps import random_pomdp
from tests.lengths.three_worlds import three_worlds


def within(length: Any, bounds: Any) -> bool:
    if isinstance(bounds, Bounds):
        return bounds.lower <= length <= bounds.upper
    return bounds is None or bool(bounds == length)


@pytest.mark.parametrize("limit", ["max_nodes", "max_pairs"])
def test_limits_leave_bounds_that_hold(limit: str) -> None:
    stopped = 0
    for seed in range(60):
        model = random_pomdp(seed)
        full, some = analyze(model), analyze(model, **{limit: 3})
        assert full.exact
        stopped += not some.exact
        for name, length in full.lengths().items():
            bounds = some.lengths()[name]
            assert within(length, bounds) or isinstance(length, Bounds), (seed, name)
            assert isinstance(bounds, Bounds) <= (not some.exact or name == "c")
    assert stopped > 10


def test_a_limit_on_classes_leaves_a_bound() -> None:
    assert analyze(three_worlds(6)).l_mem == 6
    report = analyze(three_worlds(6), max_classes=1)
    assert isinstance(report.l_mem, Bounds)
    assert report.l_mem.lower < 6 <= report.l_mem.upper
    assert not report.exact


def test_on_path_budget_leaves_bounds() -> None:
    model = TabularPOMDP.from_step(
        [(Fraction(1, 2), i, i) for i in range(2)],
        lambda state, action, t: [(1, state, "o", int(t == 5 and action // 2 == state))],
        actions=range(4),
        horizon=5,
    )
    report = analyze(model, on_path_budget=2)
    assert isinstance(report.l_mem_on_path, Bounds)
    assert not report.exact


def test_large_probabilities_stay_exact() -> None:
    """Denominators beyond 64 bits: prime weights multiply along a history."""
    rng = np.random.default_rng(0)
    primes = [999_983, 999_979, 999_961, 999_959]
    weight = rng.choice(primes, size=(2, 2, 2))
    look = rng.choice(primes, size=(2, 2))
    model = TabularPOMDP.from_arrays(
        ["1/3", "2/3"],
        [[[Fraction(int(x), int(sum(row))) for x in row] for row in s] for s in weight],
        [[Fraction(int(x), int(sum(row))) for x in row] for row in look],
        [["1/7", 0], [0, "1/11"]],
        horizon=4,
        gamma=Fraction(99, 100),
    )
    equals_brute_force(analyze(model), model)


def dense_floats(states: int, horizon: int) -> TabularPOMDP:
    rng = np.random.default_rng(1)
    return TabularPOMDP.from_arrays(
        rng.dirichlet(np.ones(states)),
        rng.dirichlet(np.ones(states), size=(states, 2)),
        rng.dirichlet(np.ones(2), size=states),
        rng.integers(0, 3, size=(states, 2)),
        horizon=horizon,
    )


def test_floats_of_many_digits() -> None:
    """Probabilities that sum to one up to rounding: short numbers, and nothing overflows."""
    model = dense_floats(10, 3)
    assert max(x.bit_length() for x in (model.kernel(1).total, model.reward_unit)) < 160
    report = analyze(model)
    equals_brute_force(report, model)
    assert "best return               ≈ " in str(report)
    assert "≈ 0." in report.stories["m_transit"]
    json.dumps(analyze(dense_floats(2, 5)).to_json())


def equals_brute_force(report: LengthReport, model: TabularPOMDP) -> None:
    truth = brute_force(model)
    for name in ("m_reward", "m_transit", "m_transit_without_last", "l_value", "l_mem",
                 "l_mem_everywhere", "c_sup", "best_return"):  # fmt: skip
        assert getattr(report, name) == getattr(truth, name), name


def test_returns_of_unmerged_nodes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sums of beliefs have no common multiple worth having, nodes stay apart."""
    models = [random_pomdp(seed) for seed in range(60)]
    merged = [analyze(model) for model in models]
    monkeypatch.setattr(credit, "_FEW_BITS", 0)
    for model, report in zip(models, merged, strict=True):
        assert_same(analyze(model), report)


def test_layers_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that is expanded some nodes at a time is the layer."""
    models = [random_pomdp(seed) for seed in range(60)]
    whole = [analyze(model) for model in models]
    monkeypatch.setattr(beliefs, "_CHUNK", 3)
    for model, report in zip(models, whole, strict=True):
        assert_same(analyze(model), report)
    stopped = [analyze(model, max_nodes=40) for model in models]
    assert any(not some.exact for some in stopped)
    for some, report in zip(stopped, whole, strict=True):
        for name, length in report.lengths().items():
            assert within(length, some.lengths()[name]) or isinstance(length, Bounds), name


def assert_same(one: LengthReport, two: LengthReport) -> None:
    assert one.lengths() == two.lengths()
    assert one.best_return == two.best_return
    assert [step.c for step in one.steps] == [step.c for step in two.steps]


def test_beliefs_that_do_not_fit_stop_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next layer is not built whole before it is found to be too large."""
    part, built = beliefs._part, 0

    def counted(*args: Any) -> Any:
        nonlocal built
        found = part(*args)
        built += found[0].count
        return found

    monkeypatch.setattr(beliefs, "_CHUNK", 500)
    monkeypatch.setattr(beliefs, "_part", counted)
    report = analyze(dense_floats(6, 9), max_nodes=300)
    assert isinstance(report.m_reward, Bounds)
    assert built < 1_000  # a layer has four times as many as the one before
    monkeypatch.setattr(beliefs, "_CHUNK", 1)
    with pytest.raises(ValueError, match="max_nodes: the first step leads to more beliefs than 2"):
        analyze(dense_floats(6, 9), max_nodes=2)


def test_columns_that_no_pair_survives_take_no_room() -> None:
    """Where all is seen, nothing is shared: no table of all states by all observations."""
    states = 300
    move = np.roll(np.eye(states), 1, axis=1)[:, None] * 0.5 + np.eye(states)[:, None] * 0.5
    model = TabularPOMDP.from_arrays(
        np.full(states, 1 / states), np.repeat(move, 2, axis=1), np.eye(states),
        np.arange(states)[:, None] * np.array([0, 1]), horizon=4,
    )  # fmt: skip
    report = analyze(model)
    assert (report.m, report.l_mem) == (1, 0)
    walks = Walks(build(minimise(model, lambda *_: None), 2, lambda *_: None))
    assert walks.moves(2).successor.shape[1] == 0


def test_a_pooled_search_that_does_not_fit_is_bounds() -> None:
    report = analyze("PassiveTMaze", length=6, pooled=True, max_pairs=5, max_classes=5)
    full = analyze("PassiveTMaze", length=6, pooled=True)
    for name in ("m_reward", "m_transit", "l_value", "l_mem"):
        bounds = getattr(report, name)
        assert isinstance(bounds, Bounds)
        assert within(getattr(full, name), bounds)
