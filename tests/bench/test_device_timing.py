"""What the stopwatch says is what was timed, and no contender takes another down."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from fastmaze.bench.ceilings import float32_precision, measure_ceilings
from fastmaze.bench.device_timing import Operation, Stopwatch, one_line
from fastmaze.bench.devices import choose_device, describe_device

CPU = torch.device("cpu")


class Clock:
    """A clock that moves only when an operation says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def takes(self, seconds: float) -> Any:
        def run(*_: Any) -> None:
            self.now += seconds

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_times_the_run_and_not_its_preparation(clock: Clock) -> None:
    stopwatch = Stopwatch(CPU, rounds=3, seconds=1.0)
    times, skipped = stopwatch.measure(
        {
            "quick": Operation(clock.takes(0.25)),
            "prepared": Operation(clock.takes(0.5), prepare=clock.takes(100.0)),
        }
    )
    assert not skipped
    assert times["quick"].rounds == [0.25] * 3
    assert times["prepared"].median == 0.5
    assert times["prepared"].spread == 0
    assert times["quick"].peak_bytes is None


def test_contenders_take_turns(clock: Clock) -> None:
    """A machine that slows down must not slow one contender alone."""
    order: list[str] = []

    def operation(name: str) -> Operation:
        def run(_: Any) -> None:
            order.append(name)
            clock.now += 1.0

        return Operation(run)

    Stopwatch(CPU, rounds=3, seconds=0.1).measure({name: operation(name) for name in "ab"})
    assert "".join(order[-6:]) == "ababab"


def test_a_slow_contender_stops_early(clock: Clock) -> None:
    """Beyond the limit it takes no more turns; its first figures stay."""
    stopwatch = Stopwatch(CPU, rounds=10, seconds=0.1, limit=2.5)
    times, _ = stopwatch.measure({"slow": Operation(clock.takes(1.0))})
    assert times["slow"].rounds == [1.0] * 3


def test_what_prepare_returns_is_what_run_gets(clock: Clock) -> None:
    seen: list[object] = []

    def run(prepared: object) -> None:
        seen.append(prepared)
        clock.now += 1.0

    Stopwatch(CPU, rounds=1).measure({"x": Operation(run, prepare=lambda: "prepared")})
    assert set(seen) == {"prepared"}


@pytest.mark.parametrize("calls_before", [0, 2])
def test_one_that_fails_is_skipped_with_its_reason(clock: Clock, calls_before: int) -> None:
    """At its first call, or in the middle of its turns; the other is measured all the same."""
    calls = [0]

    def fails(_: Any) -> None:
        clock.now += 1.0
        calls[0] += 1
        if calls[0] > calls_before:
            raise RuntimeError("no\n   kernel")

    times, skipped = Stopwatch(CPU, rounds=2, seconds=0.1).measure(
        {"fails": Operation(fails), "works": Operation(clock.takes(1.0))}
    )
    assert skipped == {"fails": "no kernel"}
    assert list(times) == ["works"]
    assert len(times["works"].rounds) == 2


def test_reasons_are_short_and_one_line() -> None:
    assert one_line(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried ...")) == "out of memory"
    assert one_line(KeyError()) == "KeyError"
    long = one_line(ValueError("x" * 500))
    assert len(long) == 180
    notes = ["Flash not used because: (Triggered internally at a.cpp:1.)", "No dropout. (Triggered"]
    assert one_line(RuntimeError("No kernel."), notes) == "No kernel. No dropout."


def test_ceilings_are_there_and_leave_the_precision_alone() -> None:
    before = torch.get_float32_matmul_precision()
    with float32_precision("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    found = measure_ceilings(Stopwatch(CPU, rounds=1, seconds=0.001), ("fp32", "bf16"))
    assert torch.get_float32_matmul_precision() == before
    assert set(found["matmul_tflops"]) == {"fp32", "bf16"}
    assert all(rate > 0 for rate in found["matmul_tflops"].values())
    assert found["copy_gbps"] > 0
    assert found["skipped"] == {}


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    assert describe_device(CPU)["torch"] == torch.__version__
    for bad in ("gpu", "meta", "cuda"):
        if bad == "cuda" and torch.cuda.is_available():
            continue
        with pytest.raises(ValueError, match=r"^device: expected"):
            choose_device(bad)
