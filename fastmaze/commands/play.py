"""`fastmaze play`: a person walks a maze, or watches a trained agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fastmaze.play import play, replay
from fastmaze.specs import dial_of

_DESCRIPTION = """\
Walk a maze in the terminal, or watch a trained agent do it.

  fastmaze play PassiveTMaze --length 10     the cue shows at the start; remember it
  fastmaze play ActiveTMaze --length 10      go left first: the oracle shows the cue
  fastmaze play --run RUN_DIR --fps 4        one greedy episode of a trained agent

Arrow keys or w a s d move, r starts a new maze, q quits. Where the input is no terminal, each line
is a row of moves, such as ddddw.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze play` takes."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")] = "PassiveTMaze"
    """PassiveTMaze, ActiveTMaze or TMaze."""
    length: int | None = None
    """Corridor length. Default: 10, or with `--run` the length that the agent was trained on."""
    task_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    """More options of the task, e.g. oracle_length 3 expose_goal True."""
    seed: int | None = None
    """Of the mazes. Default: random, or with `--run` 0."""
    run: Path | None = None
    """Watch the trained agent of this run's directory, or checkpoint file, instead."""
    fps: float = 6.0
    """Frames a second with `--run`; 0 for no pause."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(Options, args=args, prog="fastmaze play", description=_DESCRIPTION)
    if options.run is not None:
        if options.task != Options.task or options.task_options:
            raise ValueError("--run: the agent brings its task; leave out the task and its options")
        return replay(options.run, seed=options.seed or 0, length=options.length, fps=options.fps)
    task_options = dict(options.task_options)
    if options.length is not None:
        task_options[dial_of(options.task)] = options.length
    return play(options.task, seed=options.seed, **task_options)
