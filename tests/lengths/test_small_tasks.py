"""The small tasks: what their rules say in a line, and the oracle's lengths at the least sizes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from fastmaze.lengths import Bounds, analyze
from fastmaze.lengths.brute_force import brute_force
from fastmaze.lengths.paper import CLAIMS, SWEEPS, claim_of, formula, verdict
from fastmaze.lengths.small_tasks import SMALL_TASKS, small_task
from fastmaze.specs import TASKS

SMALLEST: list[tuple[str, dict[str, Any]]] = [
    ("MemoryLength", dict(length=3)),
    ("MemoryLength", dict(length=2, bits=2)),
    ("UmbrellaLength", dict(length=3)),
    ("RepeatFirst", dict(copies=2)),
    ("RepeatFirst", dict(copies=1, suits=3)),
    ("Autoencode", dict(copies=2)),
    ("TMazeLong", dict(length=4, noise=True)),
    ("HeavenHell", dict(size=1)),
    ("BakkerTMaze", dict(length=3)),
    ("BakkerTMaze", dict(length=2, stochasticity=0.3)),
    ("MemoryCards", dict(episode_length=2)),
    ("DelayedCatch", dict(runs=2)),
    ("KeyToDoor", dict(distractor=2)),
]


@pytest.mark.parametrize(("name", "options"), SMALLEST, ids=str)
def test_fast_equals_brute_force(name: str, options: dict[str, Any]) -> None:
    model = small_task(name, **options)
    report, truth = analyze(model), brute_force(model)
    for quantity in ("m_reward", "m_transit", "m_transit_without_last", "l_value", "l_mem",
                     "l_mem_everywhere", "c_sup", "best_return"):  # fmt: skip
        assert getattr(report, quantity) == getattr(truth, quantity), quantity


def test_umbrella_of_five() -> None:
    report = analyze("UmbrellaLength", length=5)
    found = (report.horizon, report.m_reward, report.m_transit, report.l_value, report.l_mem)
    assert found == (5, 1, 1, 1, 1)
    assert (report.c, report.c_sup) == (5, 5)


@pytest.mark.parametrize("size", range(1, 6))
def test_heaven_hell_is_tight(size: int) -> None:
    """As published: the last cell of an arm pays whatever is done there, step 4n + 3."""
    report = analyze("HeavenHell", size=size)
    assert report.horizon == 4 * size + 3
    assert report.best_return == 1
    assert (report.c, report.c_sup) == (report.horizon, report.horizon)
    # The turn comes 2n + 1 steps after the priest, the reward 3n + 1.
    assert (report.l_mem, report.m_reward, report.m) == (2 * size + 2, 3 * size + 2, 3 * size + 2)
    assert analyze("HeavenHell", size=size, episode_length=4 * size + 2).best_return == 0


def test_a_wide_board_leaves_spare_steps() -> None:
    narrow, wide = analyze("DelayedCatch", runs=2), analyze("DelayedCatch", runs=2, size=7)
    assert (narrow.horizon, narrow.m, narrow.c, narrow.c_sup) == (5, 3, 5, 5)
    assert (wide.horizon, wide.m, wide.c, wide.c_sup) == (13, 7, 8, 12)


def test_a_key_that_cannot_wait() -> None:
    spare, tight = analyze("KeyToDoor", distractor=3), analyze("KeyToDoor", distractor=3, explore=1)
    assert (spare.horizon, spare.c, spare.c_sup) == (6, 1, 5)
    assert (tight.horizon, tight.c, tight.c_sup) == (5, 5, 5)


@pytest.mark.parametrize(
    ("name", "options", "best"),
    [
        ("MemoryLength", dict(length=4), 1),
        ("RepeatFirst", dict(copies=3), 1),
        ("Autoencode", dict(copies=2), 1),
        ("TMazeLong", dict(length=4), 4),
        ("HeavenHell", dict(size=2), 1),
        ("HeavenHell", dict(size=2, episode_length=10), 0),  # no time to ask and to arrive
        ("BakkerTMaze", dict(length=4), 4),
        # Uniform actions: -3/40, then (4 - 2/10)/4 at the junction or -3/40 at the start.
        ("BakkerTMaze", dict(length=1, stochasticity=1), Fraction(17, 160)),
        ("DelayedCatch", dict(runs=3), 3),
        ("KeyToDoor", dict(distractor=3), 8),
    ],
)
def test_best_return(name: str, options: dict[str, Any], best: Any) -> None:
    assert analyze(name, **options).best_return == best


def test_horizons() -> None:
    assert analyze("MemoryLength", length=4).horizon == 5
    assert analyze("RepeatFirst", copies=2, suits=4).horizon == 7
    assert analyze("Autoencode", copies=2).horizon == 7
    assert analyze("HeavenHell", size=2).horizon == 11
    assert analyze("DelayedCatch", runs=2, size=5).horizon == 9


def test_discount() -> None:
    assert analyze("TMazeLong", length=3, gamma=Fraction(1, 2)).best_return == 1


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("MemoryLength", dict(length=0), ValueError, "length"),
        (
            "MemoryLength",
            dict(size=3),
            TypeError,
            "no option 'size' in its abstract form; that one's options are length",
        ),
        ("DelayedCatch", dict(size=4), ValueError, "size: expected an odd number, got 4"),
        ("BakkerTMaze", dict(stochasticity=1.5), ValueError, "stochasticity"),
        ("TMazeLong", dict(noise=1), TypeError, "noise"),
        ("TMazeLong", dict(gamma=-1), ValueError, "gamma"),
    ],
)
def test_bad_options(
    name: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        analyze(name, **options)


@pytest.mark.parametrize(
    ("points", "text"),
    [
        ([(3, 1), (4, 1)], "1"),
        ([(3, 2), (4, 3), (5, 4)], "T − 1"),
        ([(3, 3), (4, 4), (5, 5)], "T"),
        ([(7, 5), (11, 7), (15, 9)], "(T + 3)/2"),
        ([(7, 5), (11, 8), (15, 11)], "(3T − 1)/4"),
        ([(3, 1), (4, 3), (5, 4)], "1, 3, 4"),
        ([(3, 1), (4, 2)], "1, 2"),  # two points make no formula
        ([(3, 1), (4, Bounds(1, 4))], "1, 1…4 (bounds)"),
    ],
)
def test_formula(points: list[tuple[int, Any]], text: str) -> None:
    assert formula(points) == text


def test_claims_are_those_of_the_registry() -> None:
    for name, claim in CLAIMS.items():
        said = TASKS[name].paper if name in TASKS else None
        if said is not None:
            assert (claim.l_mem, claim.m, claim.c) == (said.l_mem, said.m, said.c), name
    visual = claim_of("PassiveVisualMatch")
    assert visual is not None
    assert visual.c == "≤ 18"
    assert claim_of("TMaze") is None


def test_verdicts() -> None:
    assert [verdict("≤ 18", n, 40) for n in (18, 19, None)] == ["✓", "✗", "?"]
    assert [verdict("T", n, 5) for n in (5, 4, Bounds(1, 5))] == ["✓", "✗", "?"]
    assert [verdict("short", 1, 5), verdict("1", 1, 5), verdict("2", 1, 5)] == ["", "✓", "✗"]


def test_every_small_task_is_in_the_table() -> None:
    assert set(SMALL_TASKS) < {sweep.task for sweep in SWEEPS}
