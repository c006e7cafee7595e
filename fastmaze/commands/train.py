"""`fastmaze train`: trains an agent, or goes on with a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from fastmaze.results import check_json_path, write_json
from fastmaze.training import TrainConfig, closing_words, plot_curve, resume_training, train

_DESCRIPTION = """\
Train a memory agent by double Q-learning.

  fastmaze train --length 50                          the passive T-maze, corridor of 50
  fastmaze train --task ActiveTMaze --length 10       the cue has to be fetched first
  fastmaze train --length 50 --model lstm             another memory
  fastmaze train --length 50 --preset paper           the published hyperparameters
  fastmaze train --resume runs/PassiveTMaze-50-gpt-seed0
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze train` takes."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=TrainConfig
    )
    """The run."""
    resume: Path | None = None
    """A run's directory to go on with, from its last checkpoint; it knows its configuration."""
    json: Path | None = None
    """Also write the result to this file."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(Options, args=args, prog="fastmaze train", description=_DESCRIPTION)
    check_json_path(options.json)
    if options.resume is None:
        result = train(options.config)
    elif options.config != TrainConfig():
        raise ValueError("--resume takes its configuration from the run; leave out other options")
    else:
        result = resume_training(options.resume)
    print(closing_words(result))
    try:
        print(f"curve:     {plot_curve(result.run_dir)}")
    except ImportError as error:
        print(f"curve:     {error}")
    write_json(options.json, dataclasses.asdict(result))
    return 0
