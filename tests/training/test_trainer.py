"""Protects runs: the same seed gives the same run, resumed or not, and nothing is lost or mixed."""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.training import CheckpointError, TrainConfig, closing_words, resume_training, train
from fastmaze.training.checkpoint import load_checkpoint
from fastmaze.training.evaluation import EvalResult, Evaluator
from fastmaze.training.logging import read_log
from tests.training.runs import (
    Crash,
    assert_same_run,
    crash_in_round,
    files_of,
    lines_without_clock,
)

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2, "task": "ActiveTMaze", "positions": "learned"},
        {"model": "lstm", "act_with_target": False},
        {"preset": "paper", "num_envs": 1, "num_episodes": 20, "replay_steps": 48},
        {"task_options": {"ambiguous_position": False, "add_timestep": True}},
    ],
    ids=["default", "dropout", "lstm", "paper", "other-observations"],
)
def test_a_crashed_run_resumes_bit_for_bit(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = train(tiny("whole", **changes), progress=False)
    with monkeypatch.context() as patch:
        crash_in_round(patch, 7)
        with pytest.raises(Crash):
            train(tiny("crashed", **changes), progress=False)
    crashed = tiny("crashed").directory
    assert len(read_log(crashed)) == 6
    resumed = resume_training(crashed, progress=False)
    assert_same_run(whole.run_dir, crashed)
    assert len(resumed.history) == tiny(**changes).num_rounds
    assert resumed.best_success == whole.best_success


def test_lines_after_the_last_checkpoint_are_written_once(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log ran ahead of the checkpoint, and its last line was cut off in the middle."""
    whole = train(tiny("whole"), progress=False)
    config = tiny("crashed", checkpoint_every=None)  # only the checkpoint of the start
    with monkeypatch.context() as patch:
        crash_in_round(patch, 6)
        with pytest.raises(Crash):
            train(config, progress=False)
    with open(config.directory / "log.jsonl", "ab") as file:
        file.write(b'{"round": 6, "episo')
    assert len(read_log(config.directory)) == 5
    resume_training(config.directory, progress=False)
    assert [line["round"] for line in read_log(config.directory)] == list(range(1, 13))
    assert_same_run(whole.run_dir, config.directory)


def test_the_same_seed_is_the_same_run_on_every_backend(tiny: Make) -> None:
    native = train(tiny("native"), progress=False).run_dir
    assert_same_run(native, train(tiny("again"), progress=False).run_dir)
    assert_same_run(native, train(tiny("slow", backend="reference"), progress=False).run_dir)
    other = train(tiny("other", seed=1), progress=False).run_dir
    assert lines_without_clock(native) != lines_without_clock(other)


def test_a_run_ends_when_it_was_solved_often_enough_in_a_row(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure starts the count anew, and a resumed run counts on."""
    successes = iter([1.0, 0.5, 1.0, 1.0, 1.0, 1.0])

    def evaluate(self: Evaluator, network: object, seed: int, **options: bool) -> EvalResult:
        return EvalResult(16, next(successes), 0.0, 1.0, 0.0, {})

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    with monkeypatch.context() as patch:
        crash_in_round(patch, 8)  # after the evaluations of rounds 2, 4 and 6
        with pytest.raises(Crash):
            train(tiny(stop_after_solved=3), progress=False)
    result = resume_training(tiny().directory, progress=False)
    assert len(result.history) == 10  # solved in rounds 6, 8 and 10 of 12
    assert result.final_success == 1.0
    assert len(resume_training(tiny().directory, progress=False).history) == 10


def test_evaluations_change_nothing(tiny: Make) -> None:
    """However often and on however many episodes, as long as nothing is made of the result."""
    often = train(tiny("often", eval_every=4, settle_after=0), progress=False).run_dir
    config = tiny("seldom", eval_every=48, eval_episodes=3, settle_after=0)
    seldom = train(config, progress=False).run_dir
    one, other = (load_checkpoint(d / "checkpoint.safetensors") for d in (often, seldom))
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert one.metadata["learner"] == other.metadata["learner"]


def test_the_callers_random_numbers_and_threads_stay(tiny: Make) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(tiny(dropout=0.1, num_threads=2, num_episodes=8), progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_run_keeps_what_it_says(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny()
    result = train(config)
    said = capsys.readouterr().out
    assert str(config.directory) in said
    assert said.count("success") == 6, "a line per evaluation where there is no terminal"
    assert result.env_steps == 48 * 6
    assert result.updates == 12 * 3
    assert [line["round"] for line in result.history] == list(range(1, 13))
    evaluated = [line for line in result.history if "eval_success" in line]
    assert len(evaluated) == 6
    assert result.final_success == evaluated[-1]["eval_success"]
    assert result.best_success == max(line["eval_success"] for line in evaluated)
    saved = json.loads((result.run_dir / "config.json").read_text())
    assert TrainConfig.from_json(saved) == config
    assert list((result.run_dir / "tensorboard").iterdir())
    words = closing_words(result)
    for command in ("tensorboard --logdir", "fastmaze evaluate", "fastmaze train --resume"):
        assert f"{command} {result.run_dir}" in words


def test_resuming_a_finished_run_changes_nothing(tiny: Make) -> None:
    first = train(tiny(), progress=False)
    log = (first.run_dir / "log.jsonl").read_bytes()
    again = resume_training(first.run_dir, progress=False)
    assert again.history == first.history
    assert (first.run_dir / "log.jsonl").read_bytes() == log
    assert again.best_success == first.best_success


def test_an_existing_run_is_never_written_over(tiny: Make) -> None:
    run_dir = train(tiny(), progress=False).run_dir
    before = files_of(run_dir)
    with pytest.raises(ValueError, match=r"new or empty directory.*fastmaze train --resume"):
        train(tiny(), progress=False)
    assert files_of(run_dir) == before


def test_another_configuration_is_refused_and_named(tiny: Make) -> None:
    config = tiny()
    run_dir = train(config, progress=False).run_dir
    before = files_of(run_dir)
    other = dataclasses.replace(config, learning_rate=2e-3, seed=9)
    with pytest.raises(CheckpointError, match=r"seed: 9, 0; learning_rate: 0\.002, "):
        train(other, resume=True, progress=False)
    assert files_of(run_dir) == before


def test_a_shortened_log_is_refused(tiny: Make) -> None:
    run_dir = train(tiny(), progress=False).run_dir
    log = run_dir / "log.jsonl"
    log.write_bytes(log.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"log\.jsonl: expected at least \d+ bytes"):
        resume_training(run_dir, progress=False)


def test_nothing_to_resume(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a run with a config\.json"):
        resume_training(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected a run with a config\.json"):
        train(tiny("nowhere"), resume=True)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: expected JSON"):
        resume_training(tmp_path)


def test_a_directory_that_cannot_be_written_is_refused(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"run_dir: cannot write to .*file"):
        train(tiny("file"), progress=False)
    with pytest.raises(ValueError, match=r"run_dir: cannot write to .*below"):
        train(tiny("file/below"), progress=False)
    assert (tmp_path / "file").read_text() == "in the way"


def test_two_processes_cannot_train_in_one_directory(tiny: Make) -> None:
    run_dir = train(tiny(), progress=False).run_dir
    with open(run_dir / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is training in"):
            resume_training(run_dir, progress=False)


def test_the_default_directory_is_a_fresh_one(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(tiny(), run_dir=None, num_episodes=4)
    assert train(config, progress=False).run_dir == Path("runs/PassiveTMaze-5-gpt-seed0")
    assert train(config, progress=False).run_dir == Path("runs/PassiveTMaze-5-gpt-seed0-2")
