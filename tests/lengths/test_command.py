"""`fastmaze lengths` and `fastmaze bench lengths`: what they print, write and refuse."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from fastmaze.cli import main
from fastmaze.commands import lengths as lengths_command
from fastmaze.lengths import analyze


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


def test_command_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for hidden in (False, True):
        with monkeypatch.context() as patch:
            terminal = Terminal()
            patch.setattr(sys, "stderr", terminal)
            if hidden:
                patch.setattr(lengths_command, "find_spec", lambda name: None)
            assert main(["lengths", "ActiveTMaze", "--length", "6"]) == 0
        stages = ("minimising hidden states", "following beliefs", "solving", "following returns")
        assert all(stage in terminal.getvalue() for stage in stages)
        assert ("solving: done" in terminal.getvalue()) == hidden


def test_command_says_which_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lengths", "KeyToDoor", "--length", "2"]) == 0
    out = capsys.readouterr().out
    assert "KeyToDoor 2 (abstract form): T = 5\n  (the abstract form of the task:" in out
    with pytest.raises(SystemExit):
        main(["lengths", "--help"])
    out = capsys.readouterr().out
    assert "KeyToDoor (distractor, explore)" in out
    assert "HeavenHell (size, episode_length)" in out


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
