"""Protects runs from signals, full disks, damaged files and divergence."""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.cli import main
from fastmaze.training import (
    CheckpointError,
    DivergedError,
    TrainConfig,
    resume_training,
    train,
)
from fastmaze.training import trainer as trainer_module
from fastmaze.training.checkpoint import load_checkpoint
from fastmaze.training.interruption import interruption
from fastmaze.training.logging import read_log
from tests.training.runs import Crash, assert_same_run, crash_in_round, files_of, in_round

Make = Callable[..., TrainConfig]


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_round_with_a_checkpoint(
    tiny: Make,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = train(tiny("whole"), progress=False)
    config = tiny("asked", checkpoint_every=None)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        in_round(patch, 5, lambda: os.kill(os.getpid(), number), until=5)
        with pytest.raises((KeyboardInterrupt, SystemExit)) as end:
            train(config, progress=False)
    if number == signal.SIGTERM:
        assert isinstance(end.value, SystemExit)
        assert end.value.code == 143
    assert signal.getsignal(number) is before
    said = capfd.readouterr()
    assert "finishing this round, then a checkpoint" in said.err
    assert f"go on with: fastmaze train --resume {config.directory}" in said.out
    checkpoint = load_checkpoint(config.directory / "checkpoint.safetensors")
    assert checkpoint.metadata["learner"]["round"] == 5
    resume_training(config.directory, progress=False)
    assert_same_run(whole.run_dir, config.directory)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_acts_at_once(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    def at_once(number: int, frame: object) -> None:
        raise Crash

    before = signal.signal(number, at_once)
    try:
        with interruption() as asked:
            os.kill(os.getpid(), number)
            assert asked
            with pytest.raises(Crash):
                os.kill(os.getpid(), number)
        assert "again to end at once" in capfd.readouterr().err
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored() -> None:
    """As after `nohup`, or for `fastmaze train &` in a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert not asked
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_ends_with_the_conventional_status(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    run_dir = tmp_path / "run"
    options = ["--length", "5", "--width", "16", "--num-threads", "1", "--eval-episodes", "4"]
    command = [sys.executable, "-m", "fastmaze", "train", *options, "--run-dir", str(run_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(read_log(run_dir)) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    said, complained = process.communicate()
    assert process.returncode == status, complained
    assert f"go on with: fastmaze train --resume {run_dir}" in said
    assert "Traceback" not in complained
    kept = load_checkpoint(run_dir / "checkpoint.safetensors").metadata["learner"]["round"]
    assert kept == len(read_log(run_dir)) >= 2


# A full disk


@pytest.fixture
def largest_file() -> Iterator[Callable[[int], None]]:
    """Sets the size that no file of this process may grow beyond, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_finds_no_room_leaves_the_last_one(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, largest_file: Callable[[int], None]
) -> None:
    whole = train(tiny("whole"), progress=False)
    config = tiny("full")
    with monkeypatch.context() as patch:
        in_round(patch, 7, lambda: largest_file(20_000))  # less than a checkpoint, more than a log
        with pytest.raises(OSError, match=r"last checkpoint, of round 6, is whole") as stop:
            train(config, progress=False)
    largest_file(resource.RLIM_INFINITY)
    assert stop.value.errno == errno.EFBIG
    assert stop.value.filename == str(config.directory / "checkpoint.safetensors")
    assert f"fastmaze train --resume {config.directory}" in str(stop.value)
    assert not list(config.directory.glob(".*tmp*"))
    last = load_checkpoint(config.directory / "checkpoint.safetensors")
    assert last.metadata["learner"]["round"] == 6
    resume_training(config.directory, progress=False)
    assert_same_run(whole.run_dir, config.directory)


def test_a_log_that_finds_no_room_stops_the_run(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that is always full, in the place of the log."""
    config = tiny("full", checkpoint_every=None)
    with monkeypatch.context() as patch:
        crash_in_round(patch, 1)
        with pytest.raises(Crash):
            train(config, progress=False)
    log = config.directory / "log.jsonl"
    log.unlink()
    log.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"last checkpoint, of round 0, is whole") as stop:
        resume_training(config.directory, progress=False)
    assert stop.value.errno == errno.ENOSPC
    assert stop.value.filename == str(log)
    log.unlink()
    resume_training(config.directory, progress=False)
    assert_same_run(train(tiny("whole"), progress=False).run_dir, config.directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only the superuser may mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    tiny: Make,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = train(tiny("whole"), progress=False)
    config = tiny(str(small_disk / "run"))
    filler = small_disk / "filler"

    def fill() -> None:
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(2**20))

    with monkeypatch.context() as patch:
        in_round(patch, 7, fill, until=7)
        with pytest.raises(OSError, match=r"No space left on device; the last checkpoint, of rou"):
            train(config, progress=False)
    assert main(["train", "--resume", str(config.directory)]) == 2, "still no room"
    complaint = capsys.readouterr().err
    assert len(complaint.splitlines()) == 1
    assert str(config.directory) in complaint
    filler.unlink()
    resume_training(config.directory, progress=False)
    assert_same_run(whole.run_dir, config.directory)


# Divergence


def test_a_loss_that_is_no_number_stops_before_it_is_kept(tiny: Make) -> None:
    config = tiny(learning_rate=1e30, warmup_updates=12)
    with pytest.raises(DivergedError) as stop:
        train(config, progress=False)
    words = str(stop.value)
    assert "learning diverged in round" in words
    assert "updates" in words
    assert "learning_rate" in words
    kept = load_checkpoint(config.directory / "checkpoint.safetensors")
    number = kept.metadata["learner"]["round"]
    assert f"of round {number}, is untouched" in words
    assert len(read_log(config.directory)) == number < config.num_rounds
    for path in config.directory.glob("*.safetensors"):
        for name, tensor in load_checkpoint(path).tensors.items():
            if name.startswith(("online/", "target/")):
                assert tensor.isfinite().all(), f"{path}: {name}"
    with pytest.raises(DivergedError, match=f"diverged in round {number + 1}, "):
        resume_training(config.directory, progress=False)


def test_weights_spoilt_by_the_last_update_are_noticed(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss was still finite."""
    original = trainer_module.Learner.learn

    def learn(self: Any) -> Any:
        stats = original(self)
        if self.round == 3:
            with torch.no_grad():
                next(self.target.parameters()).view(-1)[-1] = math.inf
        return stats

    monkeypatch.setattr(trainer_module.Learner, "learn", learn)
    with pytest.raises(DivergedError, match="round 3, updates 7 to 9: the weights of the target"):
        train(tiny(), progress=False)


# Damage


@pytest.mark.parametrize("damage", ["truncated", "foreign", "altered", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    whole = train(tiny("whole"), progress=False)
    config = tiny("damaged")
    with monkeypatch.context() as patch:
        crash_in_round(patch, 7)
        with pytest.raises(Crash):
            train(config, progress=False)
    newest, older = (config.directory / f"checkpoint{age}.safetensors" for age in ("", "-1"))
    spoil(newest, damage)
    with monkeypatch.context() as patch:
        crash_in_round(patch, 7)  # after one more checkpoint, that of round 6
        with pytest.raises(Crash):
            resume_training(config.directory, progress=False)
    said = capsys.readouterr().err
    if damage != "missing":
        assert f"{newest}: expected" in said
        assert f"going on from the one before it, {older}" in said
    rounds = [load_checkpoint(path).metadata["learner"]["round"] for path in (newest, older)]
    assert rounds == [6, 5], "the whole one was not moved out by the damaged one"
    resume_training(config.directory, progress=False)
    assert_same_run(whole.run_dir, config.directory)


def spoil(path: Path, damage: str) -> None:
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        path.write_bytes(b"PK\x03\x04" * 50)
    elif damage == "altered":
        data = bytearray(path.read_bytes())
        data[-1000] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "altered", "missing"])
def test_damage_to_all_checkpoints_is_refused(tiny: Make, damage: str) -> None:
    run_dir = train(tiny(keep_checkpoints=3), progress=False).run_dir
    checkpoints = sorted(run_dir.glob("checkpoint*.safetensors"))
    assert len(checkpoints) == 3
    for path in checkpoints:
        spoil(path, damage)
    before = files_of(run_dir)
    expected = FileNotFoundError if damage == "missing" else CheckpointError
    with pytest.raises(expected, match=r"checkpoint\.safetensors"):
        resume_training(run_dir, progress=False)
    assert files_of(run_dir) == before


def test_weights_alone_are_not_resumed_from(tiny: Make) -> None:
    run_dir = train(tiny(keep_checkpoints=1), progress=False).run_dir
    (run_dir / "best.safetensors").rename(run_dir / "checkpoint.safetensors")
    before = files_of(run_dir)
    with pytest.raises(CheckpointError, match="to resume from, got weights alone"):
        resume_training(run_dir, progress=False)
    assert files_of(run_dir) == before
