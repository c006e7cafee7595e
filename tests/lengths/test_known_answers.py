"""Lengths that are known from thought: T-Mazes and bandits; and the oracle's on small mazes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from fastmaze.lengths import LengthReport, TabularPOMDP, TMazeModel, analyze
from fastmaze.lengths.brute_force import brute_force
from fastmaze.specs import make_spec

LENGTHS = range(1, 13)
NAMES = ("m_reward", "m_transit", "m_transit_without_last", "l_value", "l_mem", "c", "c_sup")


def answers(report: LengthReport) -> tuple[Any, ...]:
    return tuple(getattr(report, name) for name in NAMES)


@pytest.mark.parametrize("length", LENGTHS)
def test_passive(length: int) -> None:
    report, t = analyze("PassiveTMaze", length=length), length + 1
    assert report.horizon == t
    # With L = 1 no cell lies between oracle and junction, and one wrong move shows in what is seen.
    transit = (t, t - 1) if length > 1 else (1, 0)
    assert answers(report) == (t, *transit, t, t, 1, 1)
    assert report.best_return == 1
    assert report.m == t


@pytest.mark.parametrize("length", LENGTHS)
def test_active(length: int) -> None:
    report, t = analyze("ActiveTMaze", length=length), length + 3
    # With L = 1 all cells look different, and whoever is behind the pace sees it.
    transit = (t, t - 1) if length > 1 else (3, 2)
    assert answers(report) == (t - 1, *transit, t - 1, t - 1, t, t)
    assert report.best_return == 1


@pytest.mark.parametrize("oracle", range(1, 4))
@pytest.mark.parametrize("length", LENGTHS)
def test_tmaze(length: int, oracle: int) -> None:
    """The paper's settings with the oracle further away."""
    t = length + 2 * oracle + 1
    report = analyze(
        "TMaze",
        corridor_length=length,
        oracle_length=oracle,
        penalty=-1 / length,
        ambiguous_position=True,
    )
    assert report.horizon == t
    transit = (t, t - 1) if (length, oracle) != (1, 1) else (3, 2)
    assert answers(report) == (t - 1, *transit, t - 1, t - oracle, t, t)


@pytest.mark.parametrize("length", LENGTHS)
def test_passive_without_penalty(length: int) -> None:
    report, t = analyze("PassiveTMaze", length=length, penalty=0), length + 1
    transit = (t, t - 1) if length > 1 else (1, 0)
    assert answers(report) == (t, *transit, t, t, t, t)


def test_active_with_the_goal_exposed() -> None:
    options = dict(expose_goal=True, ambiguous_position=False)
    assert answers(analyze("ActiveTMaze", length=5, **options)) == (1, 1, 1, 1, 1, 8, 8)


@pytest.mark.parametrize("length", [2, 3, 4, 6, 9])
def test_a_paid_step_to_the_left(length: int) -> None:
    """Short credit if the oracle pays less than waiting there costs; a trap if it pays a lot."""
    t, behind = length + 3, Fraction(1, length)
    trap = Fraction(2 * length + 1, length * (length + 1))
    little = Fraction(1, 1000)

    def found(pays: Fraction) -> tuple[Any, Any]:
        report = analyze(TMazeModel(make_spec("ActiveTMaze", length=length, distract_reward=pays)))
        return report.l_mem, report.c

    assert found(little) == found(behind - little) == (t - 1, 1)
    # From here on an agent that stays at the oracle is not behind before the end.
    assert found(behind) == found(trap - little) == (t - 1, t - 1)
    # From here on it never leaves.
    assert found(trap + little) == found(Fraction(2)) == (0, 1)


def test_bandit() -> None:
    bandit = TabularPOMDP.from_arrays([1], [[[1], [1]]], [[1]], [[0, 1]], horizon=1)
    report = analyze(bandit)
    assert answers(report) == (0, 0, 0, 0, 0, 1, 1)
    assert report.best_return == 1


def test_contextual_bandit_paid_four_steps_later() -> None:
    """The context shows at t = 1, the choice is made there, the reward comes at t = 5."""

    def step(state: Any, action: int, t: int) -> list[tuple[Any, ...]]:
        right = state == action if t == 1 else state
        return [(1, right, "nothing", int(right) if t == 5 else 0)]

    start = [(Fraction(1, 2), context, context) for context in (0, 1)]
    report = analyze(TabularPOMDP.from_step(start, step, actions=(0, 1), horizon=5))
    assert answers(report) == (5, 0, 0, 5, 1, 5, 5)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("PassiveTMaze", dict(length=1)),
        ("PassiveTMaze", dict(length=3)),
        ("PassiveTMaze", dict(length=3, penalty=0)),
        ("PassiveTMaze", dict(length=3, penalty_rule="action")),
        ("PassiveTMaze", dict(length=2, episode_length=5, distract_reward=0.1)),
        ("ActiveTMaze", dict(length=1)),
        ("ActiveTMaze", dict(length=2, add_timestep=True)),
        ("ActiveTMaze", dict(length=2, expose_goal=True, ambiguous_position=False)),
        ("ActiveTMaze", dict(length=2, ambiguous_position=False)),
        ("ActiveTMaze", dict(length=3, distract_reward=0.25)),
        ("TMaze", dict(corridor_length=1, oracle_length=2, ambiguous_position=True)),
    ],
    ids=str,
)
@pytest.mark.parametrize("gamma", [1, Fraction(1, 2)], ids=str)
def test_fast_equals_brute_force(task: str, options: dict[str, Any], gamma: Any) -> None:
    report = analyze(task, gamma=gamma, **options)
    truth = brute_force(TMazeModel(make_spec(task, **options), gamma=gamma))
    for name in ("m_reward", "m_transit", "m_transit_without_last", "l_value", "l_mem",
                 "l_mem_everywhere", "c_sup", "best_return"):  # fmt: skip
        assert getattr(report, name) == getattr(truth, name), name
