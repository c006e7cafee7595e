"""One case of `fastmaze bench attention`, measured: every contender, every pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor

from fastmaze.bench.attention_contenders import (
    OURS,
    Attend,
    Cache,
    Case,
    Contender,
    measure_drop_rate,
)
from fastmaze.bench.ceilings import PRECISIONS, float32_precision
from fastmaze.bench.contenders import Unavailable
from fastmaze.bench.device_timing import Operation, Stopwatch, Times, one_line

PASSES: Final = ("forward", "backward", "both", "decode")
"""What is timed: the forward without gradients, the backward alone, the two of a training step, and
one decoding step."""

LAYOUTS: Final = ("fused", "separate")
"""How q, k and v lie in memory: views of one projection [B, T, 3, H, D], or three [B, H, T, D]."""

Figures = dict[str, Any]
"""One row of the results."""


def measure_case(
    case: Case,
    contenders: Iterable[Contender],
    passes: Iterable[str],
    stopwatch: Stopwatch,
    ceilings: Figures,
    layout: str = "fused",
) -> list[Figures]:
    """Rows of all contenders; one that cannot run has a reason, "skipped", in place of figures."""
    rows: list[Figures] = []
    with float32_precision(PRECISIONS[case.precision].float32):
        for what in passes:
            make = operations_of(case, what, layout)
            ready: dict[str, Operation] = {}
            skipped: dict[str, str] = {}
            for contender in contenders:
                if not can(contender, what):
                    continue
                try:
                    ready[contender.name] = make(contender)
                except Unavailable as reason:
                    skipped[contender.name] = str(reason)
                except Exception as error:  # one that fails is skipped, whatever it is
                    skipped[contender.name] = one_line(error)
            times, failed = stopwatch.measure(ready)
            ours = times.get(OURS)
            rows += [
                _row(case, what, name, values, ours, ceilings) for name, values in times.items()
            ]
            rows += [
                {**_head(case, what, name), "skipped": reason}
                for name, reason in {**skipped, **failed}.items()
            ]
    return rows


def can(contender: Contender, what: str) -> bool:
    """Whether it has that pass at all."""
    return (contender.decode if what == "decode" else contender.attend) is not None


def operations_of(case: Case, what: str, layout: str = "fused") -> Callable[[Contender], Operation]:
    """Makes one pass of one contender after the other, all over the same random inputs.

    What it returns raises Unavailable for a contender that cannot run.
    """
    return _decoding(case) if what == "decode" else _attending(case, what, layout)


def _attending(case: Case, what: str, layout: str) -> Callable[[Contender], Operation]:
    """Makes operations over the same random q, k, v for each contender."""
    shape = (case.batch, case.length, 3, case.heads, case.head_dim)
    qkv = _random(shape, case).permute(2, 0, 3, 1, 4)  # [3, B, H, T, D]
    parts = [x if layout == "fused" else x.contiguous() for x in qkv.unbind(0)]
    q, k, v = (x.detach().requires_grad_(what != "forward") for x in parts)
    grad = _random((case.batch, case.length, case.heads, case.head_dim), case).transpose(1, 2)
    made: dict[str, Attend] = {}

    def make(contender: Contender) -> Operation:
        assert contender.attend is not None
        attend = made[contender.name] = contender.attend(case)

        def forward(_: Any) -> Tensor:
            with torch.no_grad():
                return attend(q, k, v)

        def backward(out: Tensor) -> object:
            return torch.autograd.grad(out, (q, k, v), grad)

        if what == "forward":
            return Operation(forward)
        if what == "backward":
            return Operation(backward, prepare=lambda: attend(q, k, v))
        return Operation(lambda _: backward(attend(q, k, v)))

    return make


def _decoding(case: Case) -> Callable[[Contender], Operation]:
    """Makes operations over the same random cache for each contender."""
    tokens = _random((3, case.batch, case.heads, case.head_dim), case).unbind(0)
    caches = _random((2, case.batch, case.heads, case.length, case.head_dim), case).unbind(0)
    cache = Cache(*tokens, *caches)

    def make(contender: Contender) -> Operation:
        assert contender.decode is not None
        decode = contender.decode(case)

        def step(_: Any) -> Tensor:
            with torch.no_grad():
                return decode(cache)

        return Operation(step)

    return make


def _random(shape: tuple[int, ...], case: Case) -> Tensor:
    generator = torch.Generator(case.device).manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=case.dtype, device=case.device)


def _head(case: Case, what: str, name: str) -> Figures:
    return {
        "pass": what,
        "name": name,
        "precision": case.precision,
        "dropout": case.dropout,
        "batch": case.batch,
        "heads": case.heads,
        "length": case.length,
        "head_dim": case.head_dim,
    }


def _row(
    case: Case, what: str, name: str, times: Times, ours: Times | None, ceilings: Figures
) -> Figures:
    """All figures of one contender."""
    row = _head(case, what, name)
    if what == "decode":
        rate = case.decode_bytes() / times.median / 1e9
        row["gbps"], ceiling = rate, ceilings["copy_gbps"]
    else:
        rate = case.flops(what) / times.median / 1e12
        row["tflops"], ceiling = rate, ceilings["matmul_tflops"].get(case.precision)
    shared = zip(times.rounds, ours.rounds, strict=False) if ours else []
    ratios = sorted(theirs / mine for theirs, mine in shared)
    return row | {
        "milliseconds": 1e3 * times.median,
        "spread": times.spread,
        "of_ceiling": rate / ceiling if ceiling else None,
        "fastmaze_faster": ratios[len(ratios) // 2] if ratios else None,
        "peak_mib": None if times.peak_bytes is None else times.peak_bytes / 2**20,
        "host_milliseconds": 1e3 * times.host_seconds,
        "rounds": [1e3 * seconds for seconds in times.rounds],
    }


def measure_drop_rates(case: Case, contenders: Iterable[Contender]) -> list[Figures]:
    """The drop rate that each contender really applies."""
    rows: list[Figures] = []
    with float32_precision(PRECISIONS[case.precision].float32):
        for contender in contenders:
            if contender.attend is None:
                continue
            row = {"name": contender.name, "precision": case.precision, "asked": case.dropout}
            try:
                with warnings.catch_warnings():  # with which torch refuses a backend
                    warnings.simplefilter("ignore")
                    found = measure_drop_rate(contender.attend(case), case)
                rows.append(row | found._asdict())
            except Unavailable as reason:
                rows.append(row | {"skipped": str(reason)})
            except Exception as error:
                rows.append(row | {"skipped": one_line(error)})
    return rows
