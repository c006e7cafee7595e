"""What a run goes on from, and whether it may: same configuration, same version, nothing lost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

import fastmaze
from fastmaze.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from fastmaze.training.checkpoint_series import CheckpointSeries
from fastmaze.training.config import TrainConfig
from fastmaze.training.logging import read_log
from fastmaze.training.run_directory import BEST_FILE

BUDGET_FIELDS: Final = ("num_episodes", "stop_after_solved", "max_minutes")
"""All of a configuration that a resumed run may change: how long it goes on."""


@dataclass(slots=True)
class Tally:
    """What a run remembers beside its learner."""

    seconds: float = 0.0
    solved_after: float | None = None
    final_success: float = 0.0
    solved_in_a_row: int = 0
    best_success: float = -1.0
    best_return: float = -float("inf")
    log_position: int = 0


@dataclass(slots=True)
class Start:
    """Where a run goes on from."""

    checkpoint: Checkpoint
    tally: Tally
    notes: list[str]
    """What differs from before, for a person to read; empty if nothing does."""


def versions() -> dict[str, str]:
    """What results depend on beside the configuration; kept in every checkpoint."""
    return {"fastmaze": fastmaze.__version__, "torch": str(torch.__version__)}


def find_start(
    config: TrainConfig, run_dir: Path, series: CheckpointSeries, *, allow_other_version: bool
) -> Start | None:
    """Reads the last checkpoint and compares it, before anything is made or written.

    Returns:
        None if the run was killed before its first checkpoint: there is nothing to lose.

    Raises:
        FileNotFoundError: there is no checkpoint of a run that had some.
        CheckpointError: it is damaged, or belongs to another configuration or version.
        ValueError: the budget is less than what has been played.
    """
    checkpoint, path = series.load(), series.paths[0]
    if checkpoint is None:
        if read_log(run_dir):
            raise FileNotFoundError(f"checkpoint: expected a file, found none at {path}")
        return None
    saved = TrainConfig.from_json(checkpoint.metadata["config"])
    different = config.differences(saved, BUDGET_FIELDS)
    if different:
        raise CheckpointError(
            f"{path}: belongs to another configuration; expected, got: " + "; ".join(different)
        )
    if "tally" not in checkpoint.metadata:
        raise CheckpointError(f"{path}: expected a checkpoint to resume from, got weights alone")
    notes = _compare_versions(path, checkpoint.metadata, allow_other_version)
    notes += _compare_budgets(config, saved, checkpoint.metadata["learner"]["round"])
    tally = Tally(**checkpoint.metadata["tally"])
    if config.hyper.num_episodes > saved.hyper.num_episodes:
        tally.solved_in_a_row = 0  # more was asked for, of a run that may have ended for being good
    _remember_best(tally, run_dir)
    return Start(checkpoint, tally, notes)


def _remember_best(tally: Tally, run_dir: Path) -> None:
    """The best weights may be newer than the checkpoint, and better than all after it."""
    try:
        best = load_checkpoint(run_dir / BEST_FILE).metadata
    except (FileNotFoundError, CheckpointError):
        return
    kept = (best.get("success", -1.0), best.get("return", -float("inf")))
    if kept > (tally.best_success, tally.best_return):
        tally.best_success, tally.best_return = kept


def _compare_versions(path: Path, metadata: dict[str, Any], allow_other: bool) -> list[str]:
    """Lines about what has changed; another FastMaze needs consent."""
    now = versions()
    then = {name: metadata.get("versions", {}).get(name, "unknown") for name in now}
    if then["fastmaze"] != now["fastmaze"] and not allow_other:
        raise CheckpointError(
            f"{path}: written by fastmaze {then['fastmaze']}, this is {now['fastmaze']}: going on "
            "may give other results than either; install that version, or consent with "
            "--allow-other-version (in Python: allow_other_version=True)"
        )
    return [
        f"{name} {then[name]} before, {now[name]} from here on: results may differ"
        for name in now
        if then[name] != now[name]
    ]


def _compare_budgets(config: TrainConfig, saved: TrainConfig, round_: int) -> list[str]:
    """Lines about what has changed; less than what has been played is refused."""
    new, old = config.hyper, saved.hyper
    played = round_ * new.num_envs
    if new.num_episodes != old.num_episodes and new.num_episodes < played:
        raise ValueError(
            f"num_episodes: expected at least the {played:,} that the run has played, got "
            f"{new.num_episodes:,}"
        )
    notes = []
    if new.num_episodes != old.num_episodes:
        notes.append(
            f"num_episodes: {old.num_episodes:,} before, {new.num_episodes:,} from here on; what "
            "falls over the budget, the learning rate and the exploration, follows the new one"
        )
    if new.stop_after_solved != old.stop_after_solved:
        notes.append(
            f"stop_after_solved: {old.stop_after_solved} before, {new.stop_after_solved} from "
            "here on"
        )
    return notes


def with_budget(config: TrainConfig, **budget: Any) -> TrainConfig:
    """The configuration of a run to go on with, its budget changed where one is given.

    The limit of minutes belongs to a process: that of the last one does not hold for the next.
    """
    given = {name: value for name, value in budget.items() if value is not None}
    return dataclasses.replace(config, **{"max_minutes": None, **given})
