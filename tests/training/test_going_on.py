"""Protects beginning and going on: time limits, budgets, versions, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.cli import main
from fastmaze.training import (
    CheckpointError,
    TrainConfig,
    closing_words,
    resume_training,
    resuming,
    train,
)
from fastmaze.training import trainer as trainer_module
from fastmaze.training.checkpoint import load_checkpoint, save_checkpoint
from fastmaze.training.logging import read_log
from tests.training.runs import Crash, assert_same_run, crash_in_round, files_of, in_round

Make = Callable[..., TrainConfig]


# Time, budget and version


def test_max_minutes_stops_with_a_checkpoint_and_goes_on(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """No time at all is a round for each process."""
    whole = train(tiny("whole"), progress=False)
    config = tiny("late", checkpoint_every=None, max_minutes=0)
    result = train(config)
    assert not result.finished
    assert len(result.history) == 1
    assert "stopped after max_minutes" in capsys.readouterr().out
    assert f"go on:     fastmaze train --resume {config.directory}" in closing_words(result)
    for rounds in (2, 3):
        assert main(["train", "--resume", str(config.directory), "--max-minutes", "0"]) == 0
        assert len(read_log(config.directory)) == rounds
    result = resume_training(config.directory, progress=False)
    assert result.finished, "the limit was that of another process"
    assert_same_run(whole.run_dir, config.directory)


def test_a_finished_run_says_so_and_can_be_trained_on(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing that falls over the budget, as if it had been the budget from the start."""
    changes = {"final_learning_rate": 1.0, "settle_after": 0}
    whole = train(tiny("whole", num_episodes=96, **changes), progress=False)
    run_dir = train(tiny("short", **changes), progress=False).run_dir
    capsys.readouterr()
    resume_training(run_dir)
    said = capsys.readouterr().out
    assert "finished already: all 48 episodes are played" in said
    assert f"fastmaze train --resume {run_dir} --num-episodes 96" in said
    result = resume_training(run_dir, num_episodes=96)
    assert "num_episodes: 48 before, 96 from here on" in capsys.readouterr().out
    assert result.finished
    assert_same_run(whole.run_dir, run_dir)
    assert resume_training(run_dir, progress=False).history == result.history, "96 by now"


def test_more_episodes_take_a_solved_run_on(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hint at a run's end tells people to do."""
    for module in ("trainer", "evaluation"):
        monkeypatch.setattr(f"fastmaze.training.{module}.SOLVED", 0.0)
    result = train(tiny(stop_after_solved=2), progress=False)
    assert len(result.history) == 4
    longer = resume_training(result.run_dir, num_episodes=96, progress=False)
    assert len(longer.history) == 8, "solved twice more"


def test_better_weights_than_the_checkpoint_knows_are_kept(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the best evaluation and before the checkpoint after it."""
    config = tiny(checkpoint_every=None, checkpoint_seconds=3600.0)
    crash_in_round(monkeypatch, 4)
    with pytest.raises(Crash):
        train(config, progress=False)
    monkeypatch.undo()
    path = config.directory / "best.safetensors"
    best = load_checkpoint(path)
    best.metadata |= {"success": 1.5, "return": 0.0}  # more than any evaluation gives
    save_checkpoint(path, best)
    result = resume_training(config.directory, progress=False)
    assert result.finished
    assert result.best_success == 1.5
    assert load_checkpoint(path).metadata["success"] == 1.5


def test_any_option_beside_resume_is_refused_be_it_a_default(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = train(tiny(), progress=False).run_dir
    command = ["train", "--resume", str(run_dir)]
    assert main([*command, "--length", "50", "--no-compile-update"]) == 2
    assert "got --length, --compile-update" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"device": "meta"}, "device: expected cpu, cuda"),
     ({"attention_impl": "triton", "num_heads": 2, "width": 10}, "expected a last dimension")],
    ids=["device", "head-width"],
)  # fmt: skip
def test_what_cannot_run_here_leaves_no_directory(
    tiny: Make, changes: dict[str, Any], message: str
) -> None:
    config = tiny(**changes)
    with pytest.raises((ValueError, ImportError), match=f"{message}|pip install"):
        train(config, progress=False)
    assert not config.directory.exists()


def test_the_logged_chance_is_that_of_the_round(tiny: Make) -> None:
    history = train(tiny(epsilon=0.25), progress=False).history
    assert [line["epsilon"] for line in history[:3]] == [1.0, 1.0, 0.25]


def test_a_run_that_ended_solved_can_be_trained_on(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainer_module, "SOLVED", 0.0)
    monkeypatch.setattr("fastmaze.training.evaluation.SOLVED", 0.0)
    result = train(tiny(stop_after_solved=2), progress=False)
    assert len(result.history) == 4
    assert resume_training(result.run_dir).history == result.history
    said = capsys.readouterr().out
    assert "finished already: the last 2 evaluations found it solved" in said
    assert "--stop-after-solved 0" in said
    longer = resume_training(result.run_dir, stop_after_solved=0)
    assert "stop_after_solved: 2 before, 0 from here on" in capsys.readouterr().out
    assert len(longer.history) == 12


def test_a_budget_below_what_was_played_is_refused(tiny: Make) -> None:
    run_dir = train(tiny(), progress=False).run_dir
    before = files_of(run_dir)
    with pytest.raises(ValueError, match="num_episodes: expected at least the 48 that the run has"):
        resume_training(run_dir, num_episodes=44)
    assert files_of(run_dir) == before


def test_only_the_budget_can_be_given_beside_resume(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = train(tiny(num_episodes=8), progress=False).run_dir
    resume = ["train", "--resume", str(run_dir)]
    assert main([*resume, "--length", "9", "--num-episodes", "12", "--seed", "3"]) == 2
    assert "got --length, --seed" in capsys.readouterr().err
    assert main([*resume, "--num-episodes", "12"]) == 0
    assert len(read_log(run_dir)) == 3
    assert main(["train", "--allow-other-version"]) == 2
    assert "--allow-other-version: only --resume" in capsys.readouterr().err


def test_another_version_needs_consent(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "versions", lambda: {"fastmaze": "0.0.9", "torch": "1.0"})
        crash_in_round(patch, 5)
        with pytest.raises(Crash):
            train(tiny(), progress=False)
    run_dir = tiny().directory
    before = files_of(run_dir)
    now = resuming.versions()["fastmaze"]
    with pytest.raises(CheckpointError, match=f"written by fastmaze 0.0.9, this is {now}.*--allow"):
        resume_training(run_dir, progress=False)
    assert files_of(run_dir) == before
    capsys.readouterr()
    assert len(resume_training(run_dir, allow_other_version=True).history) == 12
    said = capsys.readouterr().out
    assert f"fastmaze 0.0.9 before, {now} from here on: results may differ" in said
    assert "torch 1.0 before" in said
    resume_training(run_dir, progress=False)  # by now it is this version's


# The beginning


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny("whole"), progress=False)
    config = tiny("killed")

    def no_checkpoint(*args: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.CheckpointSeries, "save", no_checkpoint)
        with pytest.raises(Crash):
            train(config, progress=False)
    resume_training(config.directory, progress=False)
    assert_same_run(whole.run_dir, config.directory)


def test_a_directory_with_nothing_but_a_lock_is_as_good_as_empty(tiny: Make) -> None:
    config = tiny(num_episodes=8)
    config.directory.mkdir()
    (config.directory / ".lock").touch()
    assert len(train(config, progress=False).history) == 2


def test_a_directory_is_locked_while_a_run_goes(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(num_episodes=8)

    def another() -> None:
        with pytest.raises(ValueError, match="another process is training in"):
            resume_training(config.directory, progress=False)

    in_round(monkeypatch, 2, another)
    assert len(train(config, progress=False).history) == 2


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    tiny: Make, tmp_path: Path
) -> None:
    missing = ["cuda:99", "abacus"] + ([] if torch.cuda.is_available() else ["cuda"])
    for device in missing:
        with pytest.raises(ValueError, match=f"device: expected .*'{device}'"):
            train(tiny(device=device), progress=False)
    assert not list(tmp_path.iterdir())


def test_a_batch_larger_than_the_replay_is_refused(tiny: Make) -> None:
    with pytest.raises(ValueError, match="batch_size: expected at most the 8 episodes that the"):
        tiny(replay_steps=8 * 6, batch_size=9)
    assert tiny(replay_steps=8 * 6, batch_size=8).replay_episodes == 8
    with pytest.raises(ValueError, match="batch_size: expected at most the 48 episodes"):
        tiny(batch_size=49)


def test_a_missing_run_is_answered_with_those_there_are(tiny: Make, tmp_path: Path) -> None:
    run_dir = train(tiny("here", num_episodes=4), progress=False).run_dir
    for wrong in (tmp_path / "her", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"the newest runs there: {run_dir}"):
            resume_training(wrong)
    with pytest.raises(FileNotFoundError, match=f"which is a file; the run is {run_dir}$"):
        resume_training(run_dir / "checkpoint.safetensors")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("checkpoint_every", 0, ValueError),
        ("checkpoint_every", 2.0, TypeError),
        ("keep_checkpoints", 0, ValueError),
        ("max_minutes", -1, ValueError),
        ("max_minutes", float("nan"), ValueError),
        ("max_minutes", "5", TypeError),
    ],
)
def test_fields_out_of_range_are_refused(
    tiny: Make, field: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"{field}: expected"):
        tiny(**{field: value})


def test_how_often_a_run_is_kept_makes_it_no_other_run(tiny: Make) -> None:
    often = train(tiny("often", keep_checkpoints=4), progress=False).run_dir
    once = train(tiny("once", checkpoint_every=None, max_minutes=1e6), progress=False).run_dir
    assert_same_run(often, once)
    assert not tiny(checkpoint_every=3, keep_checkpoints=1).differences(tiny(max_minutes=3))
