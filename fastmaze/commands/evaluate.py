"""`fastmaze evaluate`: how good a trained agent is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from fastmaze.results import check_json_path, write_json
from fastmaze.training import evaluate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze evaluate` takes."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A run's directory, whose best agent is taken, or a checkpoint file."""
    episodes: int = 256
    """Greedy episodes to play, on mazes that the agent has not seen."""
    seed: int = 0
    """Of the mazes."""
    length: int | None = None
    """Another corridor length than the agent was trained on."""
    json: Path | None = None
    """Also write the result to this file."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(
        Options,
        args=args,
        prog="fastmaze evaluate",
        description="Play greedy episodes with a trained agent and count its successes.",
    )
    check_json_path(options.json)
    result = evaluate(
        options.run, num_episodes=options.episodes, seed=options.seed, length=options.length
    )
    print(f"success   {result.success:.3f} ± {result.success_stderr:.3f}")
    print(f"return    {result.mean_return:.3f} ± {result.return_stderr:.3f}")
    print(f"cue seen  {result.cue_seen:.3f}")
    print(f"episodes  {result.num_episodes}")
    write_json(options.json, dataclasses.asdict(result))
    return 0
