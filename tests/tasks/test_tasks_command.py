"""`fastmaze tasks` tells of every registered task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastmaze.cli import main
from fastmaze.specs import TASKS


def test_every_task_has_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["tasks", "--json", str(tmp_path / "tasks.json")]) == 0
    lines = capsys.readouterr().out.split("\n")
    rows = {row["task"]: row for row in json.loads((tmp_path / "tasks.json").read_text())["tasks"]}
    assert rows.keys() == TASKS.keys()
    for name, task in TASKS.items():
        line = next(line for line in lines if line.startswith(name + " "))
        assert all(backend in line for backend in task.family.backends)
        assert rows[name]["id"] == f"fastmaze/{name}-v0"
        if task.paper is not None:
            assert line.split()[1] == task.paper.T


def test_known_rows() -> None:
    """The paper's own tasks, as its table has them."""
    passive, key = TASKS["PassiveVisualMatch"].paper, TASKS["KeyToDoor"].paper
    assert passive is not None
    assert (passive.T, passive.l_mem, passive.m, passive.c) == ("1030", "T", "T", "≤ 18")
    assert key is not None
    assert (key.T, key.l_mem, key.m, key.c) == ("530", "short", "T", "T")
