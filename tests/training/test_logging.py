"""Protects what is seen of a run: progress lines without a terminal, TensorBoard without gaps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastmaze.training import TrainConfig, resume_training, train
from fastmaze.training.logging import WALL_CLOCK, read_log
from fastmaze.training.progress import Progress, _fitting, _summary, short
from fastmaze.training.tensorboard import EventFile
from tests.training.runs import Crash, crash_in_round

Make = Callable[..., TrainConfig]


def line(number: int, **more: Any) -> dict[str, Any]:
    train = {"train_success": 0.25, "train_return": -0.5}
    return {"round": number, "env_steps": 100 * number, "seconds": 1.0, **train, **more}


def test_lines_come_with_evaluations_and_after_a_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Progress(9, 0, True, quiet_seconds=1e6)
    progress.update(line(1))
    progress.update(line(2, eval_success=0.5, eval_return=0.1))
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 2e6)
    progress.update(line(3))
    progress.update(line(4))
    progress.close()
    said = capsys.readouterr().out.splitlines()
    assert [words.split()[1] for words in said] == ["2/9", "3/9"]
    assert "success 0.500" in said[0]
    assert "exploring: 0.250" in said[1]


def test_a_narrow_terminal_gets_whole_parts_only() -> None:
    parts = ["success 0.500", "junction 0.75", "recall 0.67"]
    assert _fitting(parts, 200) == "success 0.500, junction 0.75, recall 0.67"
    assert _fitting(parts, 41) == "success 0.500, junction 0.75, recall 0.67"
    assert _fitting(parts, 40) == "success 0.500, junction 0.75"
    assert _fitting(parts, 5) == "success 0.500"


def test_a_line_says_all_there_is_to_watch() -> None:
    shown = _summary(
        line(
            2,
            eval_success=0.5,
            eval_return=0.1,
            eval_junction=0.75,
            eval_recall=2 / 3,
            epsilon=0.05,
            tokens_per_second=123_456,
            env_steps_per_second=987,
            update_ms=35.21,
            gpu_gib=2.34,
        )
    )
    assert ", ".join(shown) == (
        "success 0.500, junction 0.75, recall 0.67, return +0.10, eps 0.05, 123k tokens/s, "
        "987 env steps/s, 35.2 ms/update, 2.3 GiB, 200 steps, 1 s"
    )


def test_numbers_are_short() -> None:
    numbers = (0, 950, 999.4, 999.6, 12_345, 999_600, 4_560_000, 2e9)
    assert [short(x) for x in numbers] == ["0", "950", "999", "1k", "12.3k", "1M", "4.56M", "2G"]


def test_a_round_logs_its_rates(tiny: Make) -> None:
    """And those are no part of what makes two runs the same."""
    config = tiny(num_episodes=16)
    lines = read_log(train(config, progress=False).run_dir)
    for logged in lines:
        tokens = config.hyper.batch_size * config.spec.episode_length
        made = logged["tokens_per_second"] * logged["update_ms"] / 1e3
        assert made == pytest.approx(tokens, rel=1e-2)
        assert logged["env_steps_per_second"] > 0
        assert "gpu_gib" not in logged
        assert 0 <= logged["train_junction"] <= 1
        assert logged["train_junction"] >= logged["train_success"]
    # Two rounds of random actions.
    assert [logged["epsilon"] for logged in lines[:2]] == [1.0, 1.0]
    assert lines[2]["epsilon"] < 1.0
    names = {name for logged in lines for name in logged}
    assert names >= {"eval_junction", *WALL_CLOCK} - {"gpu_gib"}


def test_a_long_round_is_said_to_be_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(9, 3, True, quiet_seconds=0.01)
    said = ""
    while said.count("\n") < 3:
        time.sleep(0.01)
        said += capsys.readouterr().out
    progress.close()
    assert said.splitlines()[0].startswith("round     4/9  under way for ")


def test_silence_is_kept_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(9, 0, False, quiet_seconds=0.0)
    progress.note("hello")
    progress.update(line(1, eval_success=0.5, eval_return=0.1))
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_tensorboard_has_every_round_once(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that a killed run logged beyond its last checkpoint, and logs again."""
    config = tiny(checkpoint_every=5)
    with monkeypatch.context() as patch:
        crash_in_round(patch, 8)
        with pytest.raises(Crash):
            train(config, progress=False)
    resume_training(config.directory, progress=False)
    events = EventAccumulator(str(config.directory / "tensorboard")).Reload()
    lines = read_log(config.directory)
    assert set(events.Tags()["scalars"]) == {name for line in lines for name in line} - {"round"}
    for name in ("loss", "eval_success", "seconds"):
        seen = [(scalar.step, scalar.value) for scalar in events.Scalars(name)]
        logged = [(line["round"], line[name]) for line in lines if name in line]
        assert [step for step, _ in seen] == [step for step, _ in logged]
        values = [value for _, value in logged]
        assert [value for _, value in seen] == pytest.approx(values, rel=1e-6)


def test_a_finished_run_gets_no_new_files(tiny: Make) -> None:
    run_dir = train(tiny(num_episodes=8), progress=False).run_dir
    before = sorted(run_dir.rglob("*"))
    resume_training(run_dir, progress=False)
    assert sorted(run_dir.rglob("*")) == before


def test_an_event_file_is_one_tensorboard_reads(tmp_path: Path) -> None:
    for first in (1, 3):  # two files of the same second, the second from step 3 on
        events = EventFile(tmp_path / "tensorboard", first)
        for step in range(first, first + 4):
            events.add(step, {"a": step / first, "b/c": -1.0})
        events.close()
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [scalar.step for scalar in read.Scalars("a")] == [1, 2, 3, 4, 5, 6]
    values = [scalar.value for scalar in read.Scalars("a")]
    assert values == pytest.approx([1, 2, 1, 4 / 3, 5 / 3, 2])
