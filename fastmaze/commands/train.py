"""`fastmaze train`: trains an agent, or goes on with a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastmaze.results import check_json_path, write_json
from fastmaze.training import TrainConfig, closing_words, plot_curve, resume_training, train
from fastmaze.training.data_parallel import first_process
from fastmaze.training.resuming import BUDGET_FIELDS

_DESCRIPTION = """\
Train a memory agent by double Q-learning or discrete soft actor-critic.

  fastmaze train --length 50                          the passive T-maze, corridor of 50
  fastmaze train --task ActiveTMaze --length 10       the cue has to be fetched first
  fastmaze train --length 50 --model lstm             another memory
  fastmaze train --task KeyToDoor --length 20 --algorithm sac-discrete    on pixels
  fastmaze train --length 50 --preset paper           the published hyperparameters
  fastmaze train --length 50 --max-minutes 55         stop in time, with a checkpoint
  fastmaze train --resume RUN                         go on, after a kill too
  fastmaze train --resume RUN --num-episodes 8192     train a finished run on
  torchrun --nproc-per-node 4 -m fastmaze train --length 1500 --device cuda    on four GPUs
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze train` takes."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=TrainConfig
    )
    """The run."""
    resume: Path | None = None
    """A run's directory to go on with, from its last checkpoint; it knows its configuration. Only
    --num-episodes, --stop-after-solved and --max-minutes can be given with it."""
    allow_other_version: bool = False
    """Resume a run that another version of FastMaze wrote: its results may differ."""
    json: Path | None = None
    """Also write the result to this file."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(Options, args=args, prog="fastmaze train", description=_DESCRIPTION)
    check_json_path(options.json)
    if options.resume is not None:
        result = resume_training(
            options.resume,
            allow_other_version=options.allow_other_version,
            **_budget(options.config, args),
        )
    elif options.allow_other_version:
        raise ValueError("--allow-other-version: only --resume reads what another version wrote")
    else:
        result = train(options.config)
    if not first_process():  # the others have nothing to add
        return 0
    print(closing_words(result))
    if result.best_success >= 0:  # there was an evaluation to draw
        try:
            print(f"curve:     {plot_curve(result.run_dir)}")
        except ImportError as error:
            print(f"curve:     {error}")
    write_json(options.json, dataclasses.asdict(result))
    return 0


def _budget(config: TrainConfig, args: Sequence[str]) -> dict[str, Any]:
    """The options given beside --resume.

    Raises:
        ValueError: some are not of the budget.
    """
    said = {arg.split("=")[0].replace("--no-", "--", 1).replace("_", "-") for arg in args}
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    given = {n: getattr(config, n) for n in names if f"--{n.replace('_', '-')}" in said}
    others = [f"--{name.replace('_', '-')}" for name in given if name not in BUDGET_FIELDS]
    if others:
        allowed = ", ".join(f"--{name.replace('_', '-')}" for name in BUDGET_FIELDS)
        raise ValueError(
            f"--resume takes its configuration from the run; beside it expected only {allowed}, "
            f"got {', '.join(others)}"
        )
    return given
