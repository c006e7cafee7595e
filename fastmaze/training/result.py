"""What came of a run, and what to tell a person about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastmaze.training.logging import Line


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of a run."""

    run_dir: Path
    """Where it is kept."""
    finished: bool
    """Whether its budget is spent, or it solved the task often enough; False after max_minutes."""
    solved: bool
    """Whether an evaluation reached a success of 0.99."""
    solved_after: float | None
    """Seconds of training until it did, or None."""
    final_success: float
    """Success of the last evaluation."""
    best_success: float
    """Best success of all; its weights are in best.safetensors. -1 before the first."""
    env_steps: int
    """Environment steps taken."""
    updates: int
    """Gradient updates done."""
    seconds: float
    """Wall-clock time, over all resumptions; evaluation and files included."""
    history: list[Line]
    """The lines of log.jsonl."""


def closing_words(result: TrainResult) -> str:
    """What to tell a person at a run's end: how it went, and how to watch and use it."""
    run = result.run_dir
    if result.best_success < 0:
        how = "not evaluated yet"
    elif result.solved_after is not None:
        how = f"solved after {result.solved_after:.0f} s"
    else:
        how = f"not solved: best success {result.best_success:.3f}"
    if result.best_success >= 0:
        how += f"; success at the end {result.final_success:.3f}"
    go_on = (
        f"train on:  fastmaze train --resume {run} --num-episodes MORE"
        if result.finished
        else f"go on:     fastmaze train --resume {run}"
    )
    return (
        f"{how}; {result.env_steps:,} steps, {result.updates:,} updates, {result.seconds:.0f} s\n"
        f"run:       {run}\n"
        f"watch:     tensorboard --logdir {run / 'tensorboard'}\n"
        f"evaluate:  fastmaze evaluate {run}\n"
        f"{go_on}"
    )
