"""A memory model of one's own trains, is evaluated and goes on like the ones that are here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastmaze.training import TrainConfig, evaluate, resume_training, train
from fastmaze.training.checkpoint import load_checkpoint
from fastmaze.training.memory import plan_memory
from tests.models.test_own_model import MODEL

Make = Callable[..., TrainConfig]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mine.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return "mine.py:Mean"


def test_a_run_goes_on_and_is_evaluated_from_anywhere(
    tiny: Make, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = train(tiny("run", model=model, num_episodes=24), progress=False).run_dir
    before = load_checkpoint(run / "checkpoint.safetensors").tensors
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume_training(run, num_episodes=48, progress=False)
    after = load_checkpoint(run / "checkpoint.safetensors").tensors
    weights = [name for name in after if name.startswith("online/encoder")]
    assert len(weights) == 2
    assert not any(torch.equal(before[name], after[name]) for name in weights), "they are trained"
    assert evaluate(run).num_episodes > 0


def test_what_else_knows_of_models(tiny: Make, model: str, tmp_path: Path) -> None:
    config = tiny(model=model, run_dir=None)
    assert config.directory.name == "PassiveTMaze-5-Mean-seed0"
    assert TrainConfig.from_json(config.to_json()) == config
    assert config.model == f"{tmp_path / 'mine.py'}:Mean"
    assert plan_memory(config).total("cpu") > 0
    assert TrainConfig(length=5, model=model, preset="paper").hyper.dropout == 0.0
    soft = tiny("soft", model=model, algorithm="sac-discrete", last_step_epsilon=0.0)
    assert evaluate(train(soft, progress=False).run_dir).num_episodes > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gru", "model: expected gpt, lstm, or one of your own .*got 'gru'"),
        ("mine.py:Median", r"model: expected a class 'Median' .*\['Mean'\]"),
        ("nowhere.py:Mean", "model: expected a file"),
        (torch.nn.GRU, "model: expected gpt, lstm, or as text"),
    ],
)
@pytest.mark.usefixtures("model")
def test_what_is_no_model_is_refused(tiny: Make, given: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tiny(model=given)


def test_a_model_that_looks_ahead_is_refused_before_anything_is_written(
    tiny: Make, model: str, tmp_path: Path
) -> None:
    Path("mine.py").write_text(MODEL.replace("x.cumsum(1) /", "x.flip(1).cumsum(1) /"))
    with pytest.raises(ValueError, match="to be causal"):
        train(tiny("run", model=model), progress=False)
    assert not (tmp_path / "run").exists()
