"""Env steps/s of contenders that take turns, printed and written as JSON."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastmaze.bench.machine import describe
from fastmaze.results import write_json

NUM_ENVS = 1024
LENGTH = 100
RESULTS = Path(__file__).parents[1] / "results"

Collect = Callable[[], int]
"""Collects a batch in the trainer's own way, and returns how many env steps it took."""


def take_turns(
    trainer: str,
    contenders: dict[str, Callable[[], Collect]],
    against: Mapping[str, str] | None = None,
) -> None:
    """Measures, prints a table, and writes benchmarks/results/plug-ins-TRAINER.json.

    Args:
        trainer: its name.
        contenders: what makes each; the first is FastMaze's way, with which the others are
            compared. "no env" is one whose step costs nothing: what is left is the trainer's own.
        against: FastMaze's way with which a contender is compared, where it is not the first.
    """
    parser = argparse.ArgumentParser(description=f"Env steps/s inside {trainer}.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--seconds", type=float, default=3.0, help="least length of a turn")
    default = RESULTS / f"plug-ins-{trainer}.json"
    parser.add_argument("--json", type=Path, default=default, help="where the figures go")
    args = parser.parse_args()
    machine = describe()
    ready = {name: make() for name, make in contenders.items()}
    rates: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(-1, args.rounds):  # one round before those that count warms up
        for name, collect in ready.items():
            rate = _rate(collect, args.seconds)
            if number >= 0:
                rates[name].append(rate)
    first, against = next(iter(rates)), against or {}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "steps_per_second": statistics.median(values),
            "fastmaze_over_this": statistics.median(
                ours / theirs
                for ours, theirs in zip(rates[against.get(name, first)], values, strict=True)
            ),
            "rounds": values,
        }
        for name, values in rates.items()
    ]
    print(f"{trainer}: PassiveTMaze(length={LENGTH}), {NUM_ENVS} envs, random actions")
    for row in rows:
        rate, ratio = row["steps_per_second"], row["fastmaze_over_this"]
        print(f"  {row['name']:40} {rate:14,.0f} env steps/s   FastMaze is {ratio:8.2f} x")
    result = {"machine": machine, "num_envs": NUM_ENVS, "length": LENGTH, "rows": rows}
    write_json(args.json, result)


def _rate(collect: Collect, seconds: float) -> float:
    steps, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds or not steps:
        steps += collect()
    return steps / passed
