"""Protects runs from `kill -9`: at any moment, as often as one likes, nothing is lost or mixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastmaze.training import TrainConfig
from tests.training import killing
from tests.training.runs import assert_same_run

Make = Callable[..., TrainConfig]

KILLS = 50


def kill(how: str, config: TrainConfig, where: Path, count: int) -> dict[str, Any]:
    """What killing.py has done, in a process of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # what knows a GPU cannot be forked
    }
    done = subprocess.run(
        [sys.executable, killing.__file__, how, json.dumps(config.to_json()), where, str(count)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_fifty_kills_at_random_moments_change_nothing(tiny: Make, tmp_path: Path) -> None:
    """The same run is resumed until it has been killed so often, then compared, bit for bit."""
    config = tiny(num_episodes=4 * 100, eval_every=40, eval_episodes=4)
    report = kill("random", config, tmp_path, KILLS)
    ages = report["rounds_when_killed"]
    assert len(ages) == KILLS, report
    assert len(set(ages)) > KILLS // 5, f"killed in different rounds: {report}"
    for name in report["runs"]:
        assert_same_run(tmp_path / "whole", tmp_path / name)
        left = {path.name for path in (tmp_path / name).iterdir()}
        assert left == {path.name for path in (tmp_path / "whole").iterdir()}, "nothing is left"


def test_a_kill_between_any_two_calls_to_the_disk_changes_nothing(
    tiny: Make, tmp_path: Path
) -> None:
    """From the first file of a run to its fifth checkpoint and beyond."""
    report = kill("every-call", tiny(eval_every=16, eval_episodes=4), tmp_path, 30)
    assert report["died"] >= 30, report
    for name in report["runs"]:
        assert_same_run(tmp_path / "whole", tmp_path / name)
