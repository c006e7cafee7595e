"""What surrounds the numbers: limits, stories, detail, the automaton, the command."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmaze.cli import main
from fastmaze.lengths import Bounds, LengthReport, TabularPOMDP, analyze, beliefs, credit
from fastmaze.lengths.beliefs import build
from fastmaze.lengths.brute_force import Histories, brute_force, constant, least_window
from fastmaze.lengths.minimise import minimise
from fastmaze.lengths.pairs import Walks
from tests.lengths.random_pomdps import random_pomdp


def within(length: Any, bounds: Any) -> bool:
    if isinstance(bounds, Bounds):
        return bounds.lower <= length <= bounds.upper
    return bounds is None or bool(bounds == length)


def three_worlds(horizon: int) -> TabularPOMDP:
    """Which of three worlds shows at first; in each, one action of three fails at the end."""

    def step(world: Any, action: int, t: int) -> list[tuple[Any, ...]]:
        return [(1, world, "nothing", int(action != world) if t == horizon else 0)]

    start = [(Fraction(1, 3), world, world) for world in range(3)]
    return TabularPOMDP.from_step(start, step, actions=range(3), horizon=horizon)


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


def test_a_class_can_lack_an_action_that_its_pairs_share() -> None:
    """Any two of the three worlds share an action that does not fail; all three share none."""
    model = three_worlds(3)
    report, truth = analyze(model, on_path_budget=1000), brute_force(model)
    assert report.l_mem == report.l_mem_everywhere == truth.l_mem == 3
    assert report.stories["l_mem"].count("optimal:") == 3
    # Waiting tells nothing, but the first two actions can: they are the agent's own.
    assert report.l_mem_on_path == 2


def test_a_limit_on_classes_leaves_a_bound() -> None:
    assert analyze(three_worlds(6)).l_mem == 6
    report = analyze(three_worlds(6), max_classes=1)
    assert isinstance(report.l_mem, Bounds)
    assert report.l_mem.lower < 6 <= report.l_mem.upper
    assert not report.exact


def test_detail_is_right_at_every_step() -> None:
    for seed in range(40):
        model = random_pomdp(seed)
        report, h = analyze(model, detail=True), Histories(model)

        def values(history: Any, h: Histories = h) -> Any:
            return tuple(h.q[len(history) // 2][history, a] for a in h.actions)

        for step in report.steps:
            layer = h.layers[step.t - 1]
            assert step.l_value == least_window([[]] * (step.t - 1) + [layer], constant(values), 9)
            assert step.beliefs <= len(layer)
        assert max(step.l_value or 0 for step in report.steps) == report.l_value
        assert max(step.m_reward or 0 for step in report.steps) == report.m_reward
        assert max(step.m_transit or 0 for step in report.steps) == report.m_transit
        assert max(step.c or 0 for step in report.steps) == report.c_sup


def test_story_of_the_passive_maze() -> None:
    stories = analyze("PassiveTMaze", length=3).stories
    assert stories["l_mem"].splitlines() == [
        "At t = 4, histories that end in the same last 3 observations (after the bar):",
        "  [0, -1] –right→ | [0, 0] –right→ [0, 0] –right→ [1, 0]",
        "    optimal: down",
        "  [0, 1] –right→ | [0, 0] –right→ [0, 0] –right→ [1, 0]",
        "    optimal: up",
        "  no action is optimal after all of them.",
    ]
    assert "right (optimal) has returned 0, the best of the others, up, -1/3" in stories["c_sup"]
    assert len(analyze("PassiveTMaze", length=500).stories["l_value"]) < 1000


def test_stories_are_true() -> None:
    """The histories told do differ, and share what they are said to share."""
    for seed in range(40):
        report = analyze(random_pomdp(seed))
        for name in ("m_reward", "m_transit", "l_value", "l_mem", "l_mem_everywhere"):
            length = getattr(report, name)
            assert (name in report.stories) == (length > 0)
            if length > 0:
                lines = report.stories[name].splitlines()
                ends = [line for line in lines if line.startswith("    ")]
                assert len(set(ends)) > 1, (seed, name)
                suffixes = {
                    line.split("|")[1] for line in lines if line[2:3] != " " and "|" in line
                }
                assert len(suffixes) == (1 if length > 1 else 0), (seed, name)
        assert "c_sup" in report.stories


def test_last_observation_left_out() -> None:
    full = analyze("ActiveTMaze", length=4)
    without = analyze("ActiveTMaze", length=4, last_observation=False)
    assert (full.m_transit, full.m) == (7, 7)
    assert (without.m_transit, without.m) == (6, 6)


def test_without_a_clock() -> None:
    """In the passive maze the window is the same; a clock that is shown makes up for none."""
    assert analyze("PassiveTMaze", length=4, pooled=True).l_mem == 5
    blind = TabularPOMDP.from_arrays(
        [1], [[[1], [1]]], [[1]], [[[0, 1]], [[1, 0]], [[0, 1]]], horizon=3
    )
    assert analyze(blind).l_mem == 0
    # Its own last two actions tell the agent the time.
    assert analyze(blind, pooled=True).l_mem == brute_force(blind, pooled=True).l_mem == 2
    with pytest.raises(ValueError, match="pooled: not together"):
        analyze(blind, pooled=True, detail=True)


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


def test_progress_ends_at_its_total() -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(what: str, done: int, total: int) -> None:
        told[what] = (done, total)

    analyze("ActiveTMaze", length=3, progress=progress)
    assert len(told) >= 6
    assert all(done == total for done, total in told.values())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    args = ["lengths", "ActiveTMaze", "--length", "4", "--stories", "--detail", "--json", str(path)]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert "ActiveTMaze: T = 7" in out
    assert "✗ the cue is the second observation" in out
    assert "no action is optimal after all of them" in out
    found = json.loads(path.read_text())
    assert (found["T"], found["l_mem"], found["m"], found["c"]) == (7, 6, 7, 7)
    assert found["l_mem_on_path"] is None
    assert found["best_return"] == "1"
    assert len(found["steps"]) == 7


def test_command_with_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    args = ["lengths", "ActiveTMaze", "--length", "9", "--max-nodes", "30", "--json", str(path)]
    assert main(args) == 0
    assert "(bounds)" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert not found["exact"]
    assert found["m_reward"]["lower"] <= 11 <= found["m_reward"]["upper"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "which task?"),
        (["PassiveTMazes"], "did you mean 'PassiveTMaze'?"),
        (["MemoryLenght"], "did you mean 'MemoryLength'?"),
        (["PassiveTMaze", "--length", "0"], "length"),
        (["PassiveTMaze", "--gamma", "much"], "gamma"),
        (["PassiveTMaze", "--table"], "--table: takes no task"),
        (["PassiveTMaze", "--json", "/nowhere/at/all.json"], "--json"),
        (["MemoryLength", "--task-options", "size", "3"], "no option 'size' in its abstract form"),
        (["KeyToDoor", "--task-options", "length", "3"], "options are distractor, explore"),
        (["PassiveVisualMatch", "--length", "2"], "max_states: the draws at the start fall in"),
        (["PassiveTMaze", "--length", "1000000"], "too many for the limit of 5,000,000,000"),
    ],
)
def test_command_refuses(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lengths", *args]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    args = ["bench", "lengths", "--passive", "4", "--active", "3", "--json", str(path)]
    assert main(args) == 0
    assert "ActiveTMaze" in capsys.readouterr().out
    passive, active = json.loads(path.read_text())["rows"]
    assert passive["lengths"]["l_mem"] == "5"
    assert active["beliefs"] == sum(step.beliefs for step in analyze("ActiveTMaze", length=3).steps)


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
    json.dumps(analyze(dense_floats(2, 7)).to_json())


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
