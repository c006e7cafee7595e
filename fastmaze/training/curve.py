"""The learning curve of a run as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from fastmaze.requirements import require_matplotlib
from fastmaze.training.evaluation import SOLVED
from fastmaze.training.logging import read_log
from fastmaze.training.run_directory import read_config

_SHARES: Final = {
    "eval_junction": "at the junction in time, greedy",
    "eval_key_taken": "took the key, greedy",
}


def plot_curve(run_dir: Path | str, path: Path | str | None = None) -> Path:
    """Draws success over environment steps, from a run's log, and what it depends on.

    Args:
        run_dir: the run's directory.
        path: the PNG to write; by default learning_curve.png in the run's directory.

    Returns:
        The path written.

    Raises:
        ImportError: matplotlib is missing; the message says what to install.
        ValueError: the run has no evaluation yet.
    """
    require_matplotlib("the learning curve")
    from matplotlib.figure import Figure

    run_dir = Path(run_dir)
    path = run_dir / "learning_curve.png" if path is None else Path(path)
    lines = read_log(run_dir)
    evaluated = [line for line in lines if "eval_success" in line]
    if not evaluated:
        raise ValueError(f"run_dir: expected a run with evaluations, found none in {run_dir}")

    # A Figure of its own, not pyplot's: no display is needed and no global state is touched.
    figure = Figure(figsize=(7.0, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    thousands = [line["env_steps"] / 1_000 for line in lines]
    axes.plot(
        thousands,
        [line["train_success"] for line in lines],
        color="0.75",
        linewidth=1.0,
        label="success while exploring",
    )
    axes.plot(
        [line["env_steps"] / 1_000 for line in evaluated],
        [line["eval_success"] for line in evaluated],
        color="tab:blue",
        marker="o",
        markersize=3,
        label="success, greedy",
    )
    for name, label in _SHARES.items():
        if name in evaluated[0]:
            axes.plot(
                [line["env_steps"] / 1_000 for line in evaluated],
                [line.get(name, math.nan) for line in evaluated],
                color="tab:orange",
                linewidth=0.8,
                label=label,
            )
    axes.axhline(SOLVED, color="tab:green", linestyle=":", linewidth=1.0, label="solved")
    chance = read_config(run_dir).spec.chance
    if chance is not None:
        axes.axhline(chance, color="tab:red", linestyle=":", linewidth=1.0, label="without memory")
    solved = next((line for line in evaluated if line["eval_success"] >= SOLVED), None)
    when = "not solved" if solved is None else f"solved after {solved['seconds']:.0f} s"
    axes.set(
        xlabel="environment steps (thousands)",
        ylabel="share of episodes",
        ylim=(-0.03, 1.05),
        title=f"{run_dir.name}: {when}",
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path)
    return path
