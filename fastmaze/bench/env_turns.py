"""Contenders of one batch size in turn, round after round: see `fastmaze.bench.envs`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastmaze.bench.contenders import Make, Step


class Row(NamedTuple):
    """One line of the table for one batch size."""

    name: str
    make: Make
    threads: int
    """0 where the library decides by itself."""
    steps_per_call: int = 1
    least_envs: int = 1
    most_envs: int = 1 << 62


def take_turns(
    ready: Sequence[tuple[Row, Step]], num_envs: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Figures of each contender, the first being what the others are compared with.

    Args:
        ready: the contenders, made for `num_envs` envs.
        num_envs: batch size.
        rounds: turns of each that count; one before them warms up.
        seconds: length of a turn.

    Returns:
        A dict for each: medians over the rounds, and the rounds' rates.
    """
    rates: list[list[float]] = [[] for _ in ready]
    for number in range(-1, rounds):
        for (row, step), values in zip(ready, rates, strict=True):
            rate = num_envs * row.steps_per_call * _calls_per_second(step, seconds)
            if number >= 0:
                values.append(rate)
    results = []
    for (row, _), values in zip(ready, rates, strict=True):
        median = statistics.median(values)
        results.append(
            {
                "num_envs": num_envs,
                "name": row.name,
                "threads": row.threads,
                "steps_per_second": median,
                "spread": (max(values) - min(values)) / median,
                "microseconds_per_call": 1e6 * num_envs * row.steps_per_call / median,
                "native_over_this": statistics.median(
                    native / other for native, other in zip(rates[0], values, strict=True)
                ),
                "rounds": values,
            }
        )
    return results


def _calls_per_second(step: Step, seconds: float) -> float:
    """Calls a second over about `seconds`, at least one call; the clock is read seldom."""
    calls, batch = 0, 1
    start = time.perf_counter()
    while True:
        for _ in range(batch):
            step()
        calls += batch
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return calls / elapsed
        # Aim the next batch at a quarter of the time that is left.
        batch = max(1, int((seconds - elapsed) / 4 * calls / elapsed))
