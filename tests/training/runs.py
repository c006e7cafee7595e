"""Runs to compare, and ways for one to die."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.training import trainer as trainer_module
from fastmaze.training.checkpoint import load_checkpoint
from fastmaze.training.logging import WALL_CLOCK, Line, read_log


class Crash(Exception):
    """Stands for a run that dies."""


def lines_without_clock(run_dir: Path) -> list[Line]:
    return [
        {name: value for name, value in line.items() if name not in WALL_CLOCK}
        for line in read_log(run_dir)
    ]


def assert_same_run(first: Path, second: Path) -> None:
    """Weights, optimiser, replay, envs, random numbers, counters, log: all equal, bit for bit."""
    assert lines_without_clock(first) == lines_without_clock(second)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        one, other = load_checkpoint(first / name), load_checkpoint(second / name)
        assert one.tensors.keys() == other.tensors.keys()
        for key, tensor in one.tensors.items():
            assert torch.equal(tensor, other.tensors[key]), f"{name}: {key}"
    one, other = (load_checkpoint(d / "checkpoint.safetensors") for d in (first, second))
    assert one.metadata["learner"] == other.metadata["learner"]
    clocks = {"seconds", "solved_after", "log_position"}
    tallies = [
        {k: v for k, v in c.metadata["tally"].items() if k not in clocks} for c in (one, other)
    ]
    assert tallies[0] == tallies[1]


def crash_in_round(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Lets the next run die in the middle of a round: after collecting, before the log line."""
    original = trainer_module.Learner.learn

    def learn(self: Any) -> Any:
        if self.round == number:
            raise Crash
        return original(self)

    monkeypatch.setattr(trainer_module.Learner, "learn", learn)


def in_round(
    monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None], until: int = 10**9
) -> None:
    """Does something in the middle of a round, or of several."""
    original = trainer_module.Learner.learn

    def learn(self: Any) -> Any:
        if number <= self.round <= until:
            act()
        return original(self)

    monkeypatch.setattr(trainer_module.Learner, "learn", learn)


def files_of(run_dir: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in run_dir.rglob("*")
        if path.is_file()
    }
