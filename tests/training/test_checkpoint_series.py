"""Protects the choice of checkpoints: which are kept, which is gone on from, when one is due."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fastmaze.training.checkpoint import Checkpoint, DamagedCheckpointError, load_checkpoint
from fastmaze.training.checkpoint_series import CheckpointPace, CheckpointSeries


def numbered(number: int) -> Checkpoint:
    return Checkpoint({"x": torch.full((1000,), float(number))}, {"config": {}, "number": number})


def numbers(run_dir: Path, keep: int) -> list[int]:
    """Of the newest first."""
    paths = [p for p in CheckpointSeries(run_dir, keep).paths if p.exists()]
    assert {p.name for p in paths} == set(os.listdir(run_dir))
    return [load_checkpoint(path).metadata["number"] for path in paths]


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_newest_are_kept_in_order(tmp_path: Path, keep: int) -> None:
    series = CheckpointSeries(tmp_path, keep)
    assert series.load() is None
    for number in range(6):
        series.save(numbered(number))
        assert numbers(tmp_path, keep) == [number - age for age in range(min(keep, number + 1))]
        loaded = series.load()
        assert loaded is not None
        assert loaded.metadata["number"] == number


def test_damaged_ones_give_way_to_the_next_and_whole_ones_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = CheckpointSeries(tmp_path, 3)
    for number in range(3):
        series.save(numbered(number))
    for path in series.paths[:2]:
        path.write_bytes(path.read_bytes()[:-1])
    series = CheckpointSeries(tmp_path, 3)
    loaded = series.load()
    assert loaded is not None
    assert loaded.metadata["number"] == 0
    assert f"going on from the one before it, {series.paths[2]}" in capsys.readouterr().err
    series.save(numbered(10))
    assert [p.exists() for p in series.paths] == [True, False, True]
    series.save(numbered(11))
    assert numbers(tmp_path, 3) == [11, 10, 0]
    for path in series.paths:
        path.write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint\.safetensors: expected"):
        series.load()


def test_a_failed_write_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = CheckpointSeries(tmp_path, 2)
    for number in range(2):
        series.save(numbered(number))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastmaze.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        series.save(numbered(2))
    assert numbers(tmp_path, 2) == [1, 0]


def test_large_checkpoints_are_written_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the time at most goes into them, by a clock that is moved by hand."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = CheckpointPace(30.0, None)
    assert pace.wait == 30.0
    for took, wait in ((0.5, 30.0), (10.0, 190.0), (0.0, 30.0)):
        pace.saved(took)
        assert pace.wait == pytest.approx(wait)
        assert took / (took + wait) <= 0.05 + 1e-9
        now += wait - 1
        assert not pace.due(7)
        now += 2
        assert pace.due(7)


def test_rounds_asked_for_are_kept_whatever_it_costs() -> None:
    pace = CheckpointPace(1e9, 4)
    pace.saved(1e6)
    assert [round_ for round_ in range(1, 13) if pace.due(round_)] == [4, 8, 12]
