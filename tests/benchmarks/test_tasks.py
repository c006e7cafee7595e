"""`fastmaze bench tasks` measures every task and writes what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastmaze.bench.peers import PUBLISHED
from fastmaze.bench.tasks import BenchConfig
from fastmaze.cli import main
from fastmaze.specs import TASKS


def test_every_task_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tasks.json"
    short = ["--num-envs", "8", "--rounds", "1", "--seconds", "0.001", "--length", "5"]
    assert main(["bench", "tasks", *short, "--no-peers", "--json", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {entry["task"]: entry for entry in json.loads(out.read_text())["tasks"]}
    assert found.keys() == TASKS.keys()
    for task, entry in found.items():
        assert any(line.startswith(task + " ") for line in lines)
        assert {"native", "staggered"} <= {row["name"] for row in entry["rows"]}
        assert all(row["steps_per_second"] > 0 for row in entry["rows"])
        if TASKS[task].dial == "length" and "length" in entry["options"]:
            assert entry["options"]["length"] == 5


def test_packages_that_are_not_here_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing package costs its row and is told with the install line; nothing else fails."""
    short = ["--num-envs", "2", "--rounds", "1", "--seconds", "0.001", "--no-every-isa"]
    assert main(["bench", "tasks", *short, "--tasks", *PUBLISHED]) == 0
    out = capsys.readouterr().out
    for name, _ in PUBLISHED.values():
        package = name.split()[0]
        measured = f"{name}: " in out and "times as fast" in out
        assert measured or f"{name}: skipped, not installed: pip install {package}" in out


@pytest.mark.parametrize(
    ("field", "bad", "error"),
    [
        ("tasks", ("NoMaze",), ValueError),
        ("tasks", "KeyToDoor", TypeError),
        ("length", 0, ValueError),
        ("num_envs", 0, ValueError),
        ("num_envs", 2.0, TypeError),
        ("rounds", 0, ValueError),
        ("seconds", 0.0, ValueError),
    ],
)
def test_config_refuses(field: str, bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{field}: expected"):
        BenchConfig(**{field: bad})
