"""Small configurations that train in a second or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.training import TrainConfig

TINY: dict[str, Any] = {
    "length": 5,
    "num_threads": 1,
    "width": 16,
    "obs_width": 8,
    "action_width": 8,
    "head_widths": (16,),
    "num_envs": 4,
    "batch_size": 4,
    "updates_per_round": 3,
    "random_episodes": 8,
    "num_episodes": 48,
    "eval_every": 8,
    "eval_episodes": 16,
    "checkpoint_every": 1,
    "stop_after_solved": 0,
}
"""Twelve rounds; a checkpoint after each of them."""


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., TrainConfig]:
    """Makes small configurations, each in its own directory unless told otherwise."""

    def make(name: str = "run", **changes: Any) -> TrainConfig:
        return TrainConfig(**{**TINY, "run_dir": tmp_path / name, **changes})

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
