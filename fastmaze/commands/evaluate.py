"""`fastmaze evaluate`: how good a trained agent is, and where it looks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastmaze.requirements import require_matplotlib
from fastmaze.results import check_json_path, write_json
from fastmaze.training import EvalResult, load_agent
from fastmaze.training.attention_picture import (
    describe,
    looks_of,
    plot_attention,
)
from fastmaze.training.evaluation import EVALUATE_EPISODES, evaluate_agent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze evaluate` takes."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A run's directory, whose best agent is taken, or a checkpoint file."""
    episodes: int = EVALUATE_EPISODES
    """Greedy episodes to play at each length, on mazes that the agent has not seen."""
    seed: int = 0
    """Of the mazes."""
    length: int | None = None
    """Another corridor length than the agent was trained on."""
    lengths: tuple[int, ...] = ()
    """Several corridor lengths, each evaluated: a line of the table each."""
    device: str | None = None
    """cpu, cuda or e.g. cuda:1. Default: where the agent was trained, or the cpu if that is not
    here."""
    attention: Path | None = None
    """Also draw where the last step of a transformer looks, for each cue: a PNG to write."""
    json: Path | None = None
    """Also write the result to this file; with `--lengths`, one for each under "lengths"."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(
        Options,
        args=args,
        prog="fastmaze evaluate",
        description="Play greedy episodes with a trained agent and count its successes.",
    )
    check_json_path(options.json)
    if options.length is not None and options.lengths:
        raise ValueError("--lengths: expected it or --length, got both")
    lengths: tuple[int | None, ...] = options.lengths or (options.length,)
    if options.attention is not None:
        _check_picture(options.attention, len(lengths))
    # All are known to be in order before the first is played.
    agents = [load_agent(options.run, length=length, device=options.device) for length in lengths]
    looks = []
    if options.attention is not None:
        # First, as it is refused where the agent has no attention.
        looks = looks_of(*agents[0], seed=options.seed)
    rows: list[dict[str, Any]] = []
    for config, network in agents:
        result = evaluate_agent(config, network, num_episodes=options.episodes, seed=options.seed)
        if not rows:
            print(HEADER)
        print(_row(config.length, result), flush=True)
        rows.append({"length": config.length, **_values(result)})
    print(
        f"{options.episodes:,} greedy episodes each; junction: at it when the last action is due;"
    )
    print("recall: correct turns of those; ±: standard error")
    if options.attention is not None:
        print(f"\n{describe(looks)}\npicture: {plot_attention(looks, options.attention)}")
    write_json(options.json, {"lengths": rows} if options.lengths else rows[0])
    return 0


HEADER = "length  success      95 % range  junction  recall  cue seen           return"


def _row(length: int, result: EvalResult) -> str:
    low, high = result.success_interval
    recall = "-" if result.recall is None else f"{result.recall:.3f}"
    earned = f"{result.mean_return:.3f} ± {result.return_stderr:.3f}"
    return (
        f"{length:>6}  {result.success:>7.3f}  {low:>6.4f}-{high:.4f}  {result.junction:>8.3f}  "
        f"{recall:>6}  {result.cue_seen:>8.3f}  {earned:>15}"
    )


def _values(result: EvalResult) -> dict[str, Any]:
    return {
        **dataclasses.asdict(result),
        "success_interval": result.success_interval,
        "recall": result.recall,
    }


def _check_picture(path: Path, num_lengths: int) -> None:
    """Refuses what cannot be drawn or written, before any episode is played."""
    if num_lengths > 1:
        raise ValueError(f"--attention: expected one length, got {num_lengths}")
    if path.suffix.lower() != ".png":
        raise ValueError(f"--attention: expected a file that ends in .png, got {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--attention: expected a file in a directory that exists, got {path}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"--attention: {path} may not be written")
    require_matplotlib("the attention picture")
