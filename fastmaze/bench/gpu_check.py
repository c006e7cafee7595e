"""`fastmaze bench gpu-check`: everything that a machine with a GPU can show, in minutes.

On a CPU the same parts run in a reduced form, to show that they will work where there is a GPU;
figures taken there mean nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmaze.bench.devices import choose_device
from fastmaze.bench.gpu_check_parts import (
    PARTS,
    Part,
    read_results,
    result_path,
    write_atomically,
)
from fastmaze.bench.gpu_check_summary import summarize
from fastmaze.specs import check_real

_GRACE_SECONDS = 15.0
"""How long after its deadline a part is killed."""


@dataclass(frozen=True)
class BenchConfig:
    """What to check, and in how much time.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    out: Path
    """Directory for the results: a JSON file for each part, tiles.json, attention.png and
    summary.md; made if it is not there."""
    minutes: float | None = None
    """Time for everything. Default: 8, on a CPU 2."""
    parts: tuple[str, ...] | None = None
    """Only these: machine, correctness, sanitizer, envs, tuning, attention, update, fusions."""
    device: str = "auto"
    """auto (a GPU if there is one), cuda or cpu."""

    def __post_init__(self) -> None:
        if self.minutes is not None and check_real("minutes", self.minutes) <= 0:
            raise ValueError(f"minutes: expected a number > 0, got {self.minutes}")
        known = tuple(part.name for part in PARTS)
        for name in self.parts or ():
            if name not in known:
                raise ValueError(f"parts: expected of {known}, got {name!r}")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out: expected a directory, got the file {self.out}")


def run(config: BenchConfig) -> dict[str, Any]:
    """Runs the parts one after the other.

    Returns:
        "parts" (name to results), and "failed", the names of checks that failed.
    """
    device = choose_device(config.device)
    config.out.mkdir(parents=True, exist_ok=True)
    on_gpu = device.type == "cuda"
    minutes = config.minutes or (8.0 if on_gpu else 2.0)
    if not on_gpu:
        print("on a CPU: a reduced form, which shows that the parts work; figures mean nothing")
    chosen = [part for part in PARTS if config.parts is None or part.name in config.parts]
    for part in chosen:
        result_path(config.out, part.name).unlink(missing_ok=True)  # never mistaken for new ones
    command = "fastmaze " + " ".join(sys.argv[1:])
    results: dict[str, dict[str, Any]] = {}
    end = time.time() + 60 * minutes
    for i, part in enumerate(chosen):
        share = part.share / sum(later.share for later in chosen[i:])
        seconds = max(1.0, (end - time.time()) * share)
        print(f"\n== {part.name} (at most {seconds:.0f} s)", flush=True)
        results[part.name] = _run_apart(part, config.out, str(device), seconds)
        print(_outcome(results[part.name]), flush=True)
        write_atomically(config.out / "summary.md", summarize(config.out, command))
    failed = [part.name for part in chosen if part.checks and _has_failed(results[part.name])]
    print(f"\nwritten: {config.out / 'summary.md'}")
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed")
    return {"parts": results, "failed": failed}


def _run_apart(part: Part, out: Path, device: str, seconds: float) -> dict[str, Any]:
    """Runs a part in its own process, and kills it and its children if it hangs."""
    arguments = [part.name, part.module, str(out), device, str(seconds)]
    environment = dict(os.environ)
    if part.interprets and device == "cpu":
        environment["TRITON_INTERPRET"] = "1"
    child = subprocess.Popen(
        [sys.executable, "-m", "fastmaze.bench.gpu_check_parts", *arguments],
        env=environment,
        start_new_session=True,  # its children can then be killed with it
    )
    end = None
    try:
        status = child.wait(seconds + _GRACE_SECONDS)
        if status:
            end = f"its process ended with status {status}"
    except subprocess.TimeoutExpired:
        end = f"killed: not done after {seconds + _GRACE_SECONDS:.0f} s"
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    results = read_results(out, part.name) or {"part": part.name, "complete": False}
    if end is not None:
        results["error"] = end
        write_atomically(result_path(out, part.name), results)
    return results


def _has_failed(results: dict[str, Any]) -> bool:
    return bool(results.get("failures") or results.get("error"))


def _outcome(results: dict[str, Any]) -> str:
    """One line, or some."""
    lines = [f"  FAILED: {line}" for line in results.get("failures", [])[:10]]
    if "error" in results:
        lines.append(f"  ERROR: {results['error'].strip().splitlines()[-1]}")
    if "stopped" in results:
        lines.append(f"  {results['stopped']}")
    if not lines:
        lines.append("  done" if results.get("complete") else "  not complete")
    return "\n".join([*lines, f"  {results.get('seconds', '?')} s"])
