"""What surrounds the numbers: stories, detail, the automaton, the clock, progress."""

from __future__ import annotations

from typing import Any

import pytest

from fastmaze.lengths import TabularPOMDP, analyze
from fastmaze.lengths.brute_force import Histories, brute_force, constant, least_window
from tests.lengths.random_pomdps import random_pomdp
from tests.lengths.three_worlds import three_worlds


def test_a_class_can_lack_an_action_that_its_pairs_share() -> None:
    """Any two of the three worlds share an action that does not fail; all three share none."""
    model = three_worlds(3)
    report, truth = analyze(model, on_path_budget=1000), brute_force(model)
    assert report.l_mem == report.l_mem_everywhere == truth.l_mem == 3
    assert report.stories["l_mem"].count("optimal:") == 3
    # Waiting tells nothing, but the first two actions can: they are the agent's own.
    assert report.l_mem_on_path == 2


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


def test_progress_ends_at_its_total() -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(what: str, done: int, total: int) -> None:
        told[what] = (done, total)

    analyze("ActiveTMaze", length=3, progress=progress)
    assert len(told) >= 6
    assert all(done == total for done, total in told.values())
