"""`fastmaze bench lengths`: how the analysis of lengths grows with the corridor."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmaze.bench.machine import describe
from fastmaze.lengths import analyze
from fastmaze.results import check_json_path, write_json


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What to measure. Each analysis runs in a process of its own, for its peak memory."""

    passive: tuple[int, ...] = (100, 200, 500, 1000, 1500)
    """Corridor lengths of PassiveTMaze."""
    active: tuple[int, ...] = (100, 200, 500)
    """Corridor lengths of ActiveTMaze."""
    json: Path | None = None
    """Write the figures to this file."""


def run(config: BenchConfig) -> dict[str, Any]:
    """Measures and prints; returns the figures."""
    check_json_path(config.json)
    rows = []
    print(f"{'task':14}{'L':>7}{'beliefs':>10}{'seconds':>9}{'MiB':>7}")
    for task, lengths in (("PassiveTMaze", config.passive), ("ActiveTMaze", config.active)):
        for length in lengths:
            row = _measure_apart(task, length)
            rows.append(row)
            print(
                f"{task:14}{length:>7,}{row['beliefs']:>10,}{row['seconds']:>9.1f}"
                f"{row['peak_mib']:>7.0f}",
                flush=True,
            )
    figures = {"machine": describe(), "rows": rows}
    write_json(config.json, figures)
    return figures


def measure(task: str, length: int) -> dict[str, Any]:
    """One analysis in this process: seconds, peak memory of the process, beliefs, and lengths."""
    began = time.perf_counter()
    report = analyze(task, length=length)
    return {
        "task": task,
        "length": length,
        "seconds": time.perf_counter() - began,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "beliefs": sum(step.beliefs for step in report.steps),
        "lengths": {name: str(value) for name, value in report.lengths().items()},
    }


def _measure_apart(task: str, length: int) -> dict[str, Any]:
    code = (
        "import json; from fastmaze.bench.lengths import measure; "
        f"print(json.dumps(measure({task!r}, {length})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{task} of {length}: {done.stderr.strip().splitlines()[-1]}")
    row: dict[str, Any] = json.loads(done.stdout)
    return row
