"""The command line: help that teaches, one clear line for each mistake, results as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastmaze.cli import COMMANDS, main

HIDE_TORCH_AND_NUMBA = """
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec

def find_others(name, path=None, target=None):
    return None if name in ("torch", "numba") else find_spec(name, path, target)

PathFinder.find_spec = find_others
"""


def run(*args: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "fastmaze", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help_names_every_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from fastmaze import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastmaze {__version__}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train"], ["--length", "--resume", "--json", "corridor"]),
        (["evaluate"], ["RUN", "--episodes", "--json"]),
        (["bench"], ["envs"]),
        (["lengths"], ["--length", "--table", "--stories", "--json"]),
        (["play"], ["--length", "--run", "Arrow keys"]),
        (["doctor"], ["--json"]),
    ],
)
def test_help_of_each_command(
    command: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*command, "--help"])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fly"], "no command 'fly'"),
        (["bench", "planes"], "no benchmark 'planes'"),
        (["train", "--length", "0"], "length"),
        (["train", "--task", "ActiveTMaze", "--length", "-3"], "length"),
        (["train", "--task", "TMazes"], "TMaze"),
        (["train", "--resume", "{tmp}/none"], "none"),
        (["train", "--resume", "{tmp}", "--length", "9"], "--resume"),
        (["train", "--run-dir", "{tmp}/file/run"], "{tmp}/file/run"),
        (["train", "--json", "{tmp}/none/x.json"], "--json"),
        (["evaluate", "{tmp}/none"], "none"),
        (["evaluate", "{tmp}"], "{tmp}"),
        (["evaluate", "{tmp}/file"], "{tmp}/file"),
        (["evaluate", "{tmp}", "--json", "{tmp}"], "--json"),
        (["evaluate", "{tmp}", "--length", "5", "--lengths", "5", "6"], "--lengths"),
        (["evaluate", "{tmp}", "--attention", "{tmp}/none/x.png"], "--attention"),
        (["evaluate", "{tmp}", "--attention", "{tmp}/x.pdf"], "--attention"),
        (["evaluate", "{tmp}", "--attention", "{tmp}/x.png", "--lengths", "5", "6"], "--attention"),
        (["play", "TMazes"], "TMaze"),
        (["play", "PassiveTMaze", "--length", "0"], "length"),
        (["play", "KeyToDoor"], "play supports ('PassiveTMaze', 'ActiveTMaze', 'TMaze')"),
        (["train", "--task", "KeyToDoor", "--backend", "numba"], "KeyToDoor has ('native', "),
        (["play", "TMaze", "--task-options", "penalty", "1"], "penalty"),
        (["play", "--run", "{tmp}/none"], "none"),
        (["play", "--run", "{tmp}", "--fps", "-1"], "fps"),
        (["play", "ActiveTMaze", "--run", "{tmp}"], "--run"),
        (["doctor", "--json", "{tmp}"], "--json"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is left behind."""
    (tmp_path / "file").write_text("not a checkpoint")
    before = sorted(tmp_path.rglob("*"))
    assert main([arg.replace("{tmp}", str(tmp_path)) for arg in args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert words.replace("{tmp}", str(tmp_path)) in captured.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", ["x.json", "old.json"])
def test_json_that_must_not_be_written(
    target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A new file in a directory without permission, or a read-only one, is refused at once.

    The permissions are simulated, for to the superuser they mean nothing.
    """
    (tmp_path / "old.json").touch()
    locked = tmp_path if target == "x.json" else tmp_path / target
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)
    assert main(["doctor", "--json", str(tmp_path / target)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--json" in captured.err
    assert str(locked) in captured.err


@pytest.mark.parametrize(
    "args",
    [
        ["train", "--lenght", "3"],
        ["evaluate"],
        ["doctor", "now"],
        ["bench", "envs", "--rounds", "0"],
    ],
)
def test_unknown_and_missing_arguments(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMAZE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="length"):
        main(["train", "--length", "0"])


def test_train_evaluate_resume_and_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole life: train, evaluate, train no further, and watch the agent."""
    run_dir, out = str(tmp_path / "run"), tmp_path / "out.json"
    budget = ["--length", "2", "--num-episodes", "64", "--num-threads", "1", "--run-dir", run_dir]
    assert main(["train", *budget, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["run_dir"] == run_dir
    assert (tmp_path / "run" / "learning_curve.png").stat().st_size > 1000
    words = capsys.readouterr().out
    for command in (f"evaluate {run_dir}", f"train --resume {run_dir}", "tensorboard"):
        assert command in words

    assert main(["train", *budget]) == 2  # the directory is taken

    assert main(["evaluate", run_dir, "--episodes", "16", "--json", str(out)]) == 0
    evaluated = json.loads(out.read_text())
    assert evaluated["num_episodes"] == 16
    assert 0 <= evaluated["success"] <= 1
    low, high = evaluated["success_interval"]
    assert 0 <= low <= evaluated["success"] <= high <= 1

    capsys.readouterr()
    several = ["--lengths", "2", "3", "--episodes", "8", "--json", str(out)]
    assert main(["evaluate", run_dir, *several]) == 0
    rows = json.loads(out.read_text())["lengths"]
    assert [row["length"] for row in rows] == [2, 3]
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[:3]] == ["length", "2", "3"]

    picture = tmp_path / "attention.png"
    assert main(["evaluate", run_dir, "--episodes", "4", "--attention", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    words = capsys.readouterr().out
    assert "cue -1, " in words
    assert "cue +1, " in words
    assert words.count("head 1: ") == 2

    assert main(["train", "--resume", run_dir, "--json", str(out)]) == 0
    assert json.loads(out.read_text())["updates"] == result["updates"]

    capsys.readouterr()
    assert main(["play", "--run", run_dir, "--seed", "1"]) == 0
    frames = capsys.readouterr().out.strip().split("\n\n")
    assert len(frames) == 4  # at the start and after each of three steps
    assert all("observes [" in frame and frame.count("●") == 1 for frame in frames)
    assert ["values" in frame for frame in frames] == [True, True, True, False]
    assert frames[-1].endswith("the goal.")


def test_bench_envs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark too short to mean anything runs and writes its figures."""
    out = tmp_path / "bench.json"
    short = ["--num-envs", "8", "--rounds", "1", "--seconds", "0.001", "--no-peers"]
    assert main(["bench", "envs", *short, "--json", str(out)]) == 0
    assert "native /" in capsys.readouterr().out
    figures = json.loads(out.read_text())
    assert figures["config"]["num_envs"] == [8]
    names = {row["name"] for row in figures["rows"]}
    assert {"native", "numba", "floor: memcpy", "NumPy baseline", "specification env"} <= names
    assert all(row["steps_per_second"] > 0 for row in figures["rows"])


def test_doctor_works_without_torch_and_train_says_what_to_install(tmp_path: Path) -> None:
    """Both are hidden, by a finder that finds neither, in processes whose path begins here."""
    (tmp_path / "sitecustomize.py").write_text(HIDE_TORCH_AND_NUMBA)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    doctor = run("doctor", "--json", tmp_path / "findings.json", env=env)
    assert doctor.returncode == 0, doctor.stderr
    assert "torch does not load" in doctor.stdout
    findings = json.loads((tmp_path / "findings.json").read_text())
    assert findings["backends"]["native"]["works"]
    assert 'pip install "fastmaze[numba]"' in findings["backends"]["numba"]["detail"]
    train = run("train", env=env)
    assert train.returncode == 2
    assert 'pip install "fastmaze[train]"' in train.stderr
    assert len(train.stderr.splitlines()) == 1


def test_closed_pipe_is_quiet() -> None:
    """`fastmaze play … | head` ends without a complaint."""
    command = f"yes ddd | head -2000 | {sys.executable} -m fastmaze play PassiveTMaze | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
