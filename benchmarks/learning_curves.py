"""From run directories to the committed record of what they learned: figures, table, picture.

```
python benchmarks/learning_curves.py runs/* --out benchmarks/results/learning-2-core
```

writes OUT.json (every evaluation of every run) and OUT.png, and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fastmaze.training.evaluation import SOLVED
from fastmaze.training.logging import read_log
from fastmaze.training.run_directory import read_config

KEPT = ("round", "env_steps", "updates", "seconds", "eval_episodes", "eval_success",
        "eval_return", "eval_junction", "eval_recall", "eval_key_taken")  # fmt: skip
"""Entries of an evaluation's line that are kept."""


WHICH = ("task", "length", "algorithm", "model", "seed", "num_threads")
"""What tells runs apart."""


def panel_of(run: dict[str, Any]) -> tuple[str, ...]:
    """What one panel of the picture shows."""
    learner = run["model"] if run["algorithm"] == "ddqn" else f"{run['algorithm']} {run['model']}"
    return run["task"], learner


def read_run(run_dir: Path) -> dict[str, Any]:
    """What a run was, and its evaluations."""
    config = read_config(run_dir)
    lines = read_log(run_dir)
    evaluations = [
        {name: line[name] for name in KEPT if name in line}
        for line in lines
        if "eval_success" in line
    ]
    return {
        **{name: getattr(config, name) for name in WHICH},
        "chance": config.spec.chance,
        "last": {name: lines[-1][name] for name in ("env_steps", "updates", "seconds")},
        "evaluations": evaluations,
    }


def row(run: dict[str, Any]) -> str:
    """A run as a row of the table."""
    done = [e for e in run["evaluations"] if e["eval_success"] >= SOLVED]
    first = done[0] if done else None
    late = run["evaluations"][-max(1, len(run["evaluations"]) // 3) :]
    lost = sum(
        e["eval_success"] < SOLVED
        for e in run["evaluations"]
        if first is not None and e["round"] > first["round"]
    )
    cells = [
        f"`{run['task']}(length={run['length']})`",
        panel_of(run)[1],
        str(run["seed"]),
        str(run["num_threads"] or "all"),
        f"{first['updates']:,}" if first else "-",
        f"{first['env_steps']:,}" if first else "-",
        f"{first['seconds']:,.0f}" if first else "not solved",
        f"{run['last']['seconds']:,.0f}",
        f"{lost} of {len(done) + lost - 1}" if first else "-",
        f"{statistics.mean(e['eval_success'] for e in late):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Success over updates, a panel for each task and model, a colour for each length."""
    panels = list(dict.fromkeys(map(panel_of, runs)))
    figure = Figure(figsize=(4.6 * len(panels), 3.4), dpi=130, layout="constrained")
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        lengths = sorted({run["length"] for run in runs if panel_of(run) == panel})
        for run in runs:
            if panel_of(run) != panel:
                continue
            if run["chance"] is not None:
                axes.axhline(run["chance"], color="0.7", linestyle=":", linewidth=1.0)
            which = lengths.index(run["length"])
            axes.plot(
                [e["updates"] for e in run["evaluations"]],
                [e["eval_success"] for e in run["evaluations"]],
                color=f"C{which}",
                alpha=0.75,
                linewidth=1.2,
                label=f"L = {run['length']:,}",
            )
        named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend([named[f"L = {n:,}"] for n in lengths], [f"L = {n:,}" for n in lengths])
        axes.set(title=", ".join(panel), xlabel="updates", ylim=(-0.03, 1.03))
        axes.set_ylabel("success of greedy episodes" if place == 1 else "")
    figure.savefig(path)


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--out", required=True, type=Path, help="path without its suffix")
    options = parser.parse_args()
    runs = [read_run(path) for path in options.runs]
    runs.sort(key=lambda run: (*panel_of(run), run["length"], run["seed"]))
    options.out.with_suffix(".json").write_text(json.dumps(runs) + "\n")
    draw(runs, options.out.with_suffix(".png"))
    heads = ["task", "model", "seed", "threads", "updates until solved", "env steps", "seconds",
             "run over after, s", "lost again", "success, last third"]  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for run in runs:
        print(row(run))


if __name__ == "__main__":
    main()
