"""docs/lengths.md: its code runs, its table is what the command computes, its example is true."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from fastmaze.lengths import TabularPOMDP, analyze
from fastmaze.lengths.brute_force import brute_force
from fastmaze.lengths.paper import markdown, table

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "lengths.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_code_runs() -> None:
    assert len(BLOCKS) == 3
    for code in BLOCKS:
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_ones_own_pomdp_takes_ten_lines() -> None:
    assert len(BLOCKS[1].strip().splitlines()) <= 10
    namespace: dict[str, object] = {}
    # Shorter episodes, for the oracle's sake.
    exec(BLOCKS[1].replace("horizon=12", "horizon=7"), namespace)
    pomdp = namespace["pomdp"]
    assert isinstance(pomdp, TabularPOMDP)
    report, truth = analyze(pomdp), brute_force(pomdp)
    assert report.l_mem == truth.l_mem == 1  # at home stay, else walk on
    assert (report.m_transit, report.l_value) == (truth.m_transit, truth.l_value)
    # Staying pays at home only, and who is n steps from home comes home in n steps.
    assert report.best_return == Fraction(sum(7 - steps for steps in range(8)), 10)


def test_a_step_function_of_ones_own() -> None:
    namespace: dict[str, object] = {}
    exec(BLOCKS[2], namespace)
    tiger = namespace["tiger"]
    assert isinstance(tiger, TabularPOMDP)
    report, truth = analyze(tiger), brute_force(tiger)
    assert report.l_mem == truth.l_mem == 2
    assert (report.m, report.l_value, report.c_sup) == (3, truth.l_value, truth.c_sup)
    assert report.best_return == truth.best_return == Fraction(493, 200)


def test_what_hangs_on_a_detail() -> None:
    """The sentences below the table."""
    assert analyze("HeavenHell", size=2, episode_length=12).c == 11
    assert analyze("MemoryCards", episode_length=8).l_mem == 3
    assert analyze("ActiveTMaze", length=6, distract_reward=0.25).c == 8


def test_table_is_computed() -> None:
    between = TEXT.split("<!-- table: fastmaze lengths --table -->\n")[1]
    assert between.split("<!-- end of table -->")[0].strip() == markdown(table()).strip()


def test_worked_example() -> None:
    paper, free = analyze("PassiveTMaze", length=3), analyze("PassiveTMaze", length=3, penalty=0)
    assert (paper.horizon, paper.l_mem, paper.l_value, paper.m_reward) == (4, 4, 4, 4)
    assert (paper.m_transit, paper.m_transit_without_last) == (4, 3)
    assert (paper.c, free.c) == (1, 4)
