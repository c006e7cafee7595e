"""Speed of attention, off by default: pytest tests/benchmarks --benchmark-enable.

The group is the pass and the length, so that pytest-benchmark's table compares the contenders. Run
plain, as in the test suite, each contender makes one call, which keeps them working.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastmaze.bench.attention_contenders import CONTENDERS, Case
from fastmaze.bench.attention_measure import can, operations_of
from fastmaze.bench.contenders import Unavailable
from fastmaze.bench.device_timing import Stopwatch, one_line
from fastmaze.bench.devices import choose_device

DEVICE = choose_device("auto")
BY_NAME = {contender.name: contender for contender in CONTENDERS}


@pytest.mark.parametrize("length", [128, 1024])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("what", ["forward", "both", "decode"])
@pytest.mark.parametrize("name", BY_NAME)
def test_attention(benchmark: Any, name: str, what: str, dropout: float, length: int) -> None:
    if not can(BY_NAME[name], what) or (what == "decode" and dropout):
        pytest.skip("there is no such thing")
    if not benchmark.enabled and length > 128:
        pytest.skip("too long for a plain test run")
    on_gpu = DEVICE.type == "cuda"
    case = Case(64 if on_gpu else 2, 2, length, 64, "bf16" if on_gpu else "fp32", dropout, DEVICE)
    stopwatch = Stopwatch(DEVICE)
    try:
        operation = operations_of(case, what)(BY_NAME[name])
        operation.run(None)
    except (Unavailable, RuntimeError, UserWarning) as reason:
        if name.startswith("fastmaze") and not isinstance(reason, Unavailable):
            raise
        pytest.skip(one_line(reason))
    benchmark.group = f"{what} T={length} dropout={dropout}"
    benchmark.extra_info["work"] = case.decode_bytes() if what == "decode" else case.flops(what)

    def call() -> None:
        operation.run(None)
        stopwatch.synchronize()

    benchmark(call)
