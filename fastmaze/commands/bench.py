"""`fastmaze bench`: measures speed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Final

import tyro

BENCHMARKS: Final = {
    "envs": "environment steps a second of every backend, of a memory copy, and of peers",
    "tasks": "environment steps a second of every task, beside the package that it is from",
    "attention": "causal attention beside every other that runs here: forward, backward, decoding",
    "update": "the learner's updates and rollouts in parts, beside the published code's",
    "compile": "the kernels' machine code, without a GPU: registers, spills, instructions",
    "lengths": "how the analysis of memory and credit-assignment lengths grows with the corridor",
    "gpu-check": "a GPU machine in minutes: correctness, tuning, attention, one update, fusions",
}
"""Benchmark to what it measures; each is a module of `fastmaze.bench`, with "_" for "-".

Its `run(config)` returns figures; if they hold something under "failed", the exit status is 1.
"""

_HELP = """\
usage: fastmaze bench NAME [OPTIONS]

Measure speed. `fastmaze bench NAME --help` explains the options.

benchmarks:
"""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    if not args or args[0] in ("-h", "--help"):
        width = max(map(len, BENCHMARKS))
        lines = (f"  {name:{width}}  {what}" for name, what in BENCHMARKS.items())
        print(_HELP + "\n".join(lines))
        return 0
    name = args[0]
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}; there is {', '.join(BENCHMARKS)}")
    bench: Any = importlib.import_module(f"fastmaze.bench.{name.replace('-', '_')}")
    config = tyro.cli(
        bench.BenchConfig,
        args=args[1:],
        prog=f"fastmaze bench {name}",
        description=f"Measure {BENCHMARKS[name]}.",
    )
    figures = bench.run(config)
    return int(bool(figures.get("failed")))
