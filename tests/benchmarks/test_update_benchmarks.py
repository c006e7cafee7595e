"""Speed of whole updates, off by default: pytest tests/benchmarks --benchmark-enable.

The group is the model, so that pytest-benchmark's table shows what each doubling of the length
costs. Run plain, as in the test suite, the shortest makes one update.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.bench.devices import choose_device
from fastmaze.bench.update_ours import fill_replay
from fastmaze.training.config import TrainConfig
from fastmaze.training.learner import Learner

DEVICE = choose_device("auto")
LENGTHS = (64, 128, 256, 512, 1024, 2048)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_update(benchmark: Any, model: str, dropout: float, length: int, tmp_path: Path) -> None:
    if model == "lstm" and dropout:
        pytest.skip("there is no such thing")
    if not benchmark.enabled and length > LENGTHS[0]:
        pytest.skip("too long for a plain test run")
    config = TrainConfig(
        length=length - 1,
        model=model,  # type: ignore[arg-type]
        dropout=dropout,
        batch_size=64 if DEVICE.type == "cuda" else 8,
        updates_per_round=1,
        device=str(DEVICE),
        run_dir=tmp_path,
    )
    learner = Learner(config)
    fill_replay(learner)
    benchmark.group = f"update, {model}, dropout {dropout}"
    benchmark.extra_info["tokens"] = config.hyper.batch_size * (length + 1)

    def update() -> None:
        learner.learn()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark(update)
    learner.close()
