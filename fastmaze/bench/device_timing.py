"""Times of short operations on a device, each contender in turn, round after round.

On a GPU a time lies between two CUDA events. Before each call a buffer larger than the L2 cache is
overwritten, as often as it takes for the CPU to enqueue the call meanwhile: what is timed starts
with a cold cache and does not wait for the CPU. On a CPU it is the clock's, with warm caches.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch

_FLUSH_BYTES: Final = 256 << 20
"""At least this much is overwritten, and at least twice the L2 cache."""
_MOST_FLUSHES: Final = 24
"""How often the buffer is overwritten at most before one call."""
_MOST_CALLS: Final = 100
"""Calls of one turn at most."""


class Operation(NamedTuple):
    """What is timed: `run`, given what `prepare` returned, which is not timed."""

    run: Callable[[Any], object]
    prepare: Callable[[], Any] | None = None


@dataclass(slots=True)
class Times:
    """What was measured of one operation."""

    rounds: list[float] = field(default_factory=list)
    """Seconds a call, the median of each turn."""
    host_seconds: float = 0.0
    """Seconds that the CPU needs to enqueue one call, or, on a CPU, to make it."""
    peak_bytes: int | None = None
    """Device memory that one call takes beyond what was there before; None on a CPU."""

    @property
    def median(self) -> float:
        """Seconds a call."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Slowest minus fastest turn, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.median


def one_line(error: BaseException, notes: list[str] | None = None) -> str:
    """An error as the reason of a skip: the first lines that say something, shortened."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "out of memory"
    text = " ".join(str(error).split()) or type(error).__name__
    said = [note.split(" (Triggered")[0] for note in notes or []]
    text = " ".join([text, *(note for note in said if not note.endswith("because:"))])
    return text if len(text) <= 180 else text[:177] + "..."


def record_event() -> torch.cuda.Event:
    """A mark in the work of the current GPU that knows when it was reached."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


class Stopwatch:
    """Measures operations on one device.

    Args:
        device: where the operations run.
        rounds: turns of each operation.
        seconds: length of one turn, in time of the device.
        limit: an operation stops taking turns once its calls took so many seconds.
    """

    def __init__(
        self, device: torch.device, *, rounds: int = 5, seconds: float = 0.02, limit: float = 3.0
    ) -> None:
        self.device, self.rounds, self.seconds, self.limit = device, rounds, seconds, limit
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
            size = max(_FLUSH_BYTES, 2 * cache)
            self._buffer = torch.empty(size // 4, dtype=torch.int32, device=device)
            self._flush_seconds = min(self._turn(Operation(lambda _: self._flush(1)), 1, 5))

    def measure(
        self, operations: Mapping[str, Operation]
    ) -> tuple[dict[str, Times], dict[str, str]]:
        """Measures all operations in interleaved turns.

        Returns:
            The times of those that ran, and why the others did not.
        """
        times: dict[str, Times] = {}
        skipped: dict[str, str] = {}
        calls: dict[str, int] = {}
        spent = dict.fromkeys(operations, 0.0)
        for name, operation in operations.items():
            # Why torch refuses a backend stands in warnings, not in the error.
            with warnings.catch_warnings(record=True) as notes:
                warnings.simplefilter("always")
                try:
                    times[name], once = self._try(operation)
                    calls[name] = max(1, min(_MOST_CALLS, round(self.seconds / max(once, 1e-9))))
                except Exception as error:  # one that fails is skipped, whatever it is
                    skipped[name] = one_line(error, [str(note.message) for note in notes])
                    self.clean_up()
        for _ in range(self.rounds):
            for name in [name for name in times if spent[name] < self.limit]:
                flushes = self._flushes(times[name])
                try:
                    turn = self._turn(operations[name], flushes, calls[name])
                except Exception as error:
                    skipped[name] = one_line(error)
                    del times[name]
                    self.clean_up()
                    continue
                times[name].rounds.append(statistics.median(turn))
                spent[name] += sum(turn)
        return times, skipped

    def _try(self, operation: Operation) -> tuple[Times, float]:
        """Calls an operation until it is warm; returns first figures and seconds a call."""
        self._turn(operation, 0, 1)  # compiles
        times = Times()
        if self._on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        prepared = operation.prepare() if operation.prepare else None
        self.synchronize()
        start = time.perf_counter()
        operation.run(prepared)
        times.host_seconds = time.perf_counter() - start
        del prepared
        self.synchronize()
        if self._on_gpu:
            times.peak_bytes = torch.cuda.max_memory_allocated(self.device) - before
        if not self._on_gpu:
            return times, times.host_seconds
        return times, statistics.median(self._turn(operation, self._flushes(times), 2))

    def _turn(self, operation: Operation, flushes: int, calls: int) -> list[float]:
        """Seconds of each of some calls."""
        if not self._on_gpu:
            seconds = []
            for _ in range(calls):
                prepared = operation.prepare() if operation.prepare else None
                start = time.perf_counter()
                operation.run(prepared)
                seconds.append(time.perf_counter() - start)
            return seconds
        events = []
        for _ in range(calls):
            prepared = operation.prepare() if operation.prepare else None
            self._flush(flushes)
            start_event = record_event()
            operation.run(prepared)
            events.append((start_event, record_event()))
            del prepared
        torch.cuda.synchronize(self.device)
        return [start.elapsed_time(end) / 1e3 for start, end in events]

    def _flushes(self, times: Times) -> int:
        if not self._on_gpu:
            return 0
        wanted = math.ceil(1.2 * times.host_seconds / self._flush_seconds)
        return max(1, min(_MOST_FLUSHES, wanted))

    def _flush(self, times: int) -> None:
        for _ in range(times):
            self._buffer.zero_()

    def synchronize(self) -> None:
        """Waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize(self.device)

    def clean_up(self) -> None:
        """Gives the memory of what failed back to the device."""
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
