"""Which of the default settings matter: each taken back alone, three seeds, on two short mazes.

```
python benchmarks/ablations/leave_one_out.py --runs runs/ablation --out leave_one_out
```

makes every run that is not there yet (one thread each, one after the other; give it a night or two
cores and `--part 0 2`, `--part 1 2`), then writes OUT.json and OUT.md from those that are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from fastmaze.training.evaluation import SOLVED
from fastmaze.training.logging import read_log

SEEDS: Final = (0, 1, 2)
MAZES: Final[dict[str, list[str]]] = {
    "passive": ["--task", "PassiveTMaze", "--length", "250", "--num-episodes", "2560"],
    "active": ["--task", "ActiveTMaze", "--length", "20", "--num-episodes", "5120"],
}
SHARED: Final[dict[str, list[str]]] = {
    "the default": [],
    "queries and keys of std 0.02": ["--query-std", "0.02"],
    "queries and keys of std 0.16": ["--query-std", "0.16"],
    "values and output of std 0.02": ["--attention-std", "0.02"],
    "one head": ["--num-heads", "1"],
    "four heads": ["--num-heads", "4"],
    "embedding of PyTorch's size": ["--embedding-scale", "1"],
    "linear values": ["--value-scale", "linear"],
    "every step of one weight": ["--edge-share", "0"],
    "rewards × L/10": ["--reward-scale", "SHORT"],
    "sinusoidal positions": ["--positions", "sinusoidal"],
    "rotary positions": ["--positions", "rotary"],
    "dropout 0.1": ["--dropout", "0.1"],
    "Adam's β2 0.999": ["--adam-beta2", "0.999"],
    "no clipping": ["--grad-clip", "0"],
    "no warm-up": ["--warmup-updates", "0"],
    "learning rate 3e-4": ["--learning-rate", "3e-4"],
    "batches of 8": ["--batch-size", "8"],
    "ε of 0.1, the same everywhere": ["--epsilon", "0.1", "--epsilon-spread", "False"],
    "last step's ε 0.1": ["--last-step-epsilon", "0.1"],
    "no ε of the first step": ["--first-step-epsilon", "0"],
    "online network acts": ["--act-with-target", "False"],
}
CREDIT: Final[dict[str, dict[str, list[str]]]] = {
    "passive": {
        "discount 0.9": ["--discount", "0.9"],
        "discount 0.99": ["--discount", "0.99"],
        "discount 0.99, λ 0.9": ["--discount", "0.99", "--trace", "0.9"],
        "discount 1, λ 1": ["--discount", "1", "--trace", "1"],
    },
    "active": {
        "discount 0.99, λ 1": ["--discount", "0.99"],
        "discount 0.99, one step": ["--discount", "0.99", "--trace", "0"],
        "discount 1, one step": ["--trace", "0"],
        "discount 1, λ 0.9": ["--trace", "0.9"],
        "discount 1, 5 steps": ["--trace", "0", "--n-step", "5"],
    },
}
"""How far returns are followed: what one task needs the other does not."""


def settings(maze: str) -> dict[str, list[str]]:
    """Name to options."""
    short = str(float(MAZES[maze][3]) / 10)
    named = {**SHARED, **CREDIT[maze]}
    return {name: [short if o == "SHORT" else o for o in opts] for name, opts in named.items()}


def run(maze: str, number: int, options: list[str], seed: int, runs: Path) -> Path:
    """Makes a run, unless it is there; returns its directory."""
    run_dir = runs / f"{maze}-{number:02}-{seed}"
    if not (run_dir / "done").exists():
        command = [sys.executable, "-m", "fastmaze", "train", *MAZES[maze], *options]
        command += ["--seed", str(seed), "--num-threads", "1", "--run-dir", str(run_dir)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (run_dir / "done").touch()
    return run_dir


def read(run_dir: Path) -> dict[str, Any]:
    """What a run came to."""
    evaluations = [line for line in read_log(run_dir) if "eval_success" in line]

    def first(key: str) -> int | None:
        return next((e["updates"] for e in evaluations if e.get(key, 0.0) >= SOLVED), None)

    solved = first("eval_success")
    after = [e["eval_success"] for e in evaluations if solved and e["updates"] > solved]
    return {
        "junction": first("eval_junction"),
        "solved": solved,
        "updates": evaluations[-1]["updates"],
        "lost_again": sum(success < SOLVED for success in after),
        "evaluations_after": len(after),
        "best": max(e["eval_success"] for e in evaluations),
    }


def table(maze: str, rows: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a line for each setting."""
    lines = [
        "| | junction reached after | solved after | of 3 | lost again |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in rows.items():
        solved = [run["solved"] for run in found if run["solved"] is not None]
        cells = [_updates([run["junction"] for run in found])]
        cells += [_updates([run["solved"] for run in found])]
        cells += [
            f"{len(solved)}" if len(found) == len(SEEDS) else f"{len(solved)} of {len(found)}"
        ]
        lost = sum(run["lost_again"] for run in found)
        cells += [f"{lost} of {sum(run['evaluations_after'] for run in found)}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    title = f"`{' '.join(MAZES[maze])}`"
    return f"{title}\n\n" + "\n".join(lines) + "\n"


def _updates(values: list[int | None]) -> str:
    """All runs' updates, and their median where all of them are there."""
    told = ", ".join("-" if value is None else f"{value}" for value in values)
    there = [value for value in values if value is not None]
    return f"**{statistics.median(there):g}** ({told})" if len(there) == len(values) else told


def main() -> None:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--out", type=Path, required=True, help="file to write, without its ending")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"),
                        help="make the Ith of every N runs only")  # fmt: skip
    options = parser.parse_args()
    part, parts = options.part
    jobs = [
        (maze, number, changes, seed)
        for maze in MAZES
        for number, changes in enumerate(settings(maze).values())
        for seed in SEEDS
    ]
    for maze, number, changes, seed in jobs[part::parts]:
        run(maze, number, changes, seed, options.runs)
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for maze in MAZES:
        figures[maze] = {}
        for number, name in enumerate(settings(maze)):
            dirs = [options.runs / f"{maze}-{number:02}-{seed}" for seed in SEEDS]
            if there := [run_dir for run_dir in dirs if (run_dir / "done").exists()]:
                figures[maze][name] = [read(run_dir) for run_dir in there]
    options.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    tables = [table(maze, rows) for maze, rows in figures.items()]
    options.out.with_suffix(".md").write_text("\n".join(tables))
    print("\n".join(tables))


if __name__ == "__main__":
    main()
