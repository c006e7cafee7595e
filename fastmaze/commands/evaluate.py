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
            print(_header(result))
        print(_row(config.length, result), flush=True)
        rows.append({"length": config.length, **_values(result)})
    meanings = [text for name, text in _MEANINGS.items() if name in result.shares]
    print("; ".join([f"{options.episodes:,} greedy episodes each", *meanings, "±: standard error"]))
    if options.attention is not None:
        print(f"\n{describe(looks)}\npicture: {plot_attention(looks, options.attention)}")
    write_json(options.json, {"lengths": rows} if options.lengths else rows[0])
    return 0


_MEANINGS = {
    "junction": "junction: at it when the last action is due; recall: correct turns of those"
}


def _header(result: EvalResult) -> str:
    shares = "".join(f"  {name.replace('_', ' '):>9}" for name in _shares(result))
    return f"length  success      95 % range{shares}           return"


def _row(length: int, result: EvalResult) -> str:
    low, high = result.success_interval
    earned = f"{result.mean_return:.3f} ± {result.return_stderr:.3f}"
    shares = "".join(
        f"  {'-' if share is None else f'{share:.3f}':>9}" for share in _shares(result).values()
    )
    return f"{length:>6}  {result.success:>7.3f}  {low:>6.4f}-{high:.4f}{shares}  {earned:>15}"


def _shares(result: EvalResult) -> dict[str, float | None]:
    """What else is told of the episodes, by name."""
    shares: dict[str, float | None] = dict(result.shares)
    return shares | {"recall": result.recall} if "junction" in shares else shares


def _values(result: EvalResult) -> dict[str, Any]:
    values = dataclasses.asdict(result)
    del values["shares"]
    return {**values, **_shares(result), "success_interval": result.success_interval}


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
