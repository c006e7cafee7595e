"""`fastmaze bench attention`: our attention beside every other that runs here.

The contenders of one case take short turns, round after round; a figure is the median over the
rounds, a ratio the median of the rounds' ratios. Rates are shares of what a large matrix product,
or for decoding a copy, reached on the same device in the same run.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from fastmaze.bench.attention_contenders import CONTENDERS, Case, Contender
from fastmaze.bench.attention_measure import (
    LAYOUTS,
    PASSES,
    Figures,
    measure_case,
    measure_drop_rates,
)
from fastmaze.bench.ceilings import PRECISIONS, measure_ceilings
from fastmaze.bench.device_timing import Stopwatch
from fastmaze.bench.devices import choose_device, describe_device
from fastmaze.bench.machine import describe
from fastmaze.results import check_json_path, write_json
from fastmaze.specs import check_integer, check_real

_GPU_LENGTHS: Final = tuple(2**n for n in range(7, 15))
_CPU_LENGTHS: Final = tuple(2**n for n in range(7, 11))


@dataclass(frozen=True)
class BenchConfig:
    """What to measure, and for how long; what is left open depends on the device.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    lengths: tuple[int, ...] | None = None
    """Sequence lengths T. Default: powers of two, 128 to 16,384 on a GPU, to 1,024 on a CPU."""
    head_dims: tuple[int, ...] = (64, 128)
    """Head widths D; there are width / D heads."""
    width: int = 128
    """Width of a token."""
    batch: int | None = None
    """Sequences. Default: 64 on a GPU, 2 on a CPU."""
    decode_batch: int | None = None
    """Sequences of a decoding step. Default: 1,024 on a GPU, 8 on a CPU."""
    precisions: tuple[Literal["bf16", "fp16", "tf32", "fp32"], ...] | None = None
    """Default: all on a GPU, fp32 and bf16 on a CPU. tf32 and fp32 both store float32; tf32 rounds
    what it multiplies where the contender can."""
    dropouts: tuple[float, ...] = (0.0, 0.1)
    """Chances of dropping an attention weight; decoding has none."""
    passes: tuple[Literal["forward", "backward", "both", "decode"], ...] = PASSES
    """Forward without gradients, backward alone, both as in training, and one decoding step."""
    contenders: tuple[str, ...] | None = None
    """Only these, by the names of the table. Default: all."""
    layout: Literal["fused", "separate"] = "fused"
    """How q, k and v lie: as views of one projection, or each by itself."""
    rounds: int | None = None
    """Turns of each contender; figures are medians over them. Default: 5, on a CPU 3."""
    seconds: float = 0.02
    """Length of one turn."""
    minutes: float | None = None
    """Stop after so long, with what is measured by then. Default: never, on a CPU after 1."""
    device: str = "auto"
    """auto (a GPU if there is one), cuda or cpu."""
    json: Path | None = None
    """File to write all figures to."""
    plot: Path | None = None
    """PNG to draw the rates of training steps to, in the first of the precisions."""

    def __post_init__(self) -> None:
        for name in ("lengths", "head_dims", "precisions", "dropouts", "passes", "contenders"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, tuple) or not value):
                raise ValueError(f"{name}: expected a tuple of at least one, got {value!r}")
        for length in self.lengths or ():
            check_integer("lengths", length, 1, 2**20)
        check_integer("width", self.width, 1, 2**16)
        for head_dim in self.head_dims:
            check_integer("head_dims", head_dim, 1, 2**16)
            if self.width % head_dim:
                raise ValueError(
                    f"head_dims: expected divisors of width {self.width}, got {head_dim}"
                )
        for name in ("batch", "decode_batch", "rounds"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1, 2**20)
        for dropout in self.dropouts:
            if not 0 <= check_real("dropouts", dropout) < 1:
                raise ValueError(f"dropouts: expected numbers in [0, 1), got {dropout}")
        if check_real("seconds", self.seconds) <= 0:
            raise ValueError(f"seconds: expected a number > 0, got {self.seconds}")
        if self.minutes is not None and check_real("minutes", self.minutes) <= 0:
            raise ValueError(f"minutes: expected a number > 0, got {self.minutes}")
        known = tuple(contender.name for contender in CONTENDERS)
        for name, values, choices in (
            ("precisions", self.precisions or (), tuple(PRECISIONS)),
            ("passes", self.passes, PASSES),
            ("contenders", self.contenders or (), known),
            ("layout", (self.layout,), LAYOUTS),
        ):
            for value in values:
                if value not in choices:
                    raise ValueError(f"{name}: expected of {choices}, got {value!r}")


def run(config: BenchConfig) -> dict[str, Any]:
    """Measures, prints tables, and returns (and writes, and draws) all figures."""
    check_json_path(config.json)
    if config.plot is not None:
        from fastmaze.bench.attention_plot import check_plot_path

        check_plot_path(config.plot)
    device = choose_device(config.device)
    head = describe()
    facts = describe_device(device)
    print(f"{facts['name']}, {head['cpu']}, torch {facts['torch']}, commit {head['commit']}")
    if device.type == "cpu":
        print("on a CPU: small sizes and the backends that CPUs have; a GPU's figures need a GPU")
    figures: dict[str, Any] = {
        "config": vars(config),
        "machine": head | {"device": facts},
        "command": "fastmaze " + " ".join(sys.argv[1:]),
        **measure(config, device),
    }
    write_json(config.json, figures)
    if config.plot is not None:
        from fastmaze.bench.attention_plot import plot_attention

        plot_attention(figures["rows"], config.plot, figures["ceilings"])
    return figures


def measure(
    config: BenchConfig,
    device: torch.device,
    after_case: Callable[[dict[str, Any]], bool] = lambda figures: True,
) -> dict[str, Any]:
    """The figures themselves: "ceilings", "drop_rates" and "rows".

    Args:
        config: what to measure.
        device: where.
        after_case: is shown the figures so far after each case; says whether to go on.
    """
    on_gpu = device.type == "cuda"
    minutes = config.minutes or (math.inf if on_gpu else 1.0)
    end = time.monotonic() + 60 * minutes
    stopwatch = Stopwatch(
        device,
        rounds=config.rounds or (5 if on_gpu else 3),
        seconds=config.seconds,
        limit=2.0 if on_gpu else 0.1,
    )
    ceilings = measure_ceilings(stopwatch, _precisions(config, on_gpu))
    print_ceilings(ceilings)
    contenders = [c for c in CONTENDERS if config.contenders is None or c.name in config.contenders]
    rows: list[Figures] = []
    drop_rates = _drop_rates(config, device, contenders)
    figures: dict[str, Any] = {"ceilings": ceilings, "drop_rates": drop_rates, "rows": rows}
    table = Table(on_gpu)
    print("max: share of the ceiling; ours: how many times as long as fastmaze's it takes")
    planned = list(cases(config, device))
    for number, (case, passes) in enumerate(planned):
        if time.monotonic() > end:
            figures["stopped"] = f"{len(planned) - number} of {len(planned)} cases not measured"
            print(f"\nstopped after {minutes:g} minutes: {figures['stopped']}")
            break
        found = measure_case(case, contenders, passes, stopwatch, ceilings, config.layout)
        table.add(case, found)
        rows += found
        if not after_case(figures):
            break
    return figures


def cases(config: BenchConfig, device: torch.device) -> Iterator[tuple[Case, list[str]]]:
    """What is measured, in this order, and the passes of each."""
    on_gpu = device.type == "cuda"
    lengths = config.lengths or (_GPU_LENGTHS if on_gpu else _CPU_LENGTHS)
    attending: list[str] = [name for name in config.passes if name != "decode"]
    for precision in _precisions(config, on_gpu):
        for head_dim in config.head_dims:
            heads = config.width // head_dim
            for dropout in config.dropouts if attending else ():
                for length in lengths:
                    batch = config.batch or (64 if on_gpu else 2)
                    yield (
                        Case(batch, heads, length, head_dim, precision, dropout, device),
                        attending,
                    )
            for length in lengths if "decode" in config.passes else ():
                batch = config.decode_batch or (1024 if on_gpu else 8)
                yield Case(batch, heads, length, head_dim, precision, 0.0, device), ["decode"]


def _precisions(config: BenchConfig, on_gpu: bool) -> tuple[str, ...]:
    return config.precisions or (tuple(PRECISIONS) if on_gpu else ("fp32", "bf16"))


def _drop_rates(
    config: BenchConfig, device: torch.device, contenders: list[Contender]
) -> list[Figures]:
    """Measures and prints what the contenders' dropout really does."""
    rows: list[Figures] = []
    for dropout in [p for p in config.dropouts if p > 0]:
        for precision in _precisions(config, device.type == "cuda"):
            batch, length = (16, 1024) if device.type == "cuda" else (2, 512)
            case = Case(batch, 2, length, 64, precision, dropout, device)
            found = measure_drop_rates(case, contenders)
            rows += found
            applied = [
                f"{row['name']} {row['rate']:.4f} (× {row['scale']:.4f})"
                for row in found
                if "rate" in row
            ]
            print(f"dropout {dropout} really is, in {precision}: {'; '.join(applied) or '-'}")
    return rows


def print_ceilings(ceilings: Figures) -> None:
    """One line."""
    rates = [f"{name} {rate:,.3g}" for name, rate in ceilings["matmul_tflops"].items()]
    copy = ceilings["copy_gbps"]
    said = f"{copy:,.4g} GB/s" if copy else "not measured"
    print(f"ceilings: matrix product, TFLOP/s: {', '.join(rates)}; copy: {said}")


class Table:
    """Prints cases as they are measured: one heading for all lengths of a kind."""

    def __init__(self, on_gpu: bool) -> None:
        self._unit, self._factor = ("TFLOP/s", 1.0) if on_gpu else ("GFLOP/s", 1e3)
        self._heading: tuple[object, ...] = ()
        self._said: set[tuple[str, str]] = set()

    def add(self, case: Case, rows: list[Figures]) -> None:
        """Prints one case; reasons of skips are told once."""
        for row in rows:
            if "skipped" in row and (row["name"], row["skipped"]) not in self._said:
                self._said.add((row["name"], row["skipped"]))
                print(f"  {row['name']}: skipped at T = {case.length:,} ({row['pass']}), "
                      f"{row['skipped']}")  # fmt: skip
        measured = [row for row in rows if "skipped" not in row]
        if not measured:
            return
        passes = list(dict.fromkeys(row["pass"] for row in measured))
        heading = (case.precision, case.batch, case.heads, case.head_dim, case.dropout, *passes)
        if heading != self._heading:
            self._heading = heading
            self._print_heading(case, passes)
        for i, name in enumerate(dict.fromkeys(row["name"] for row in measured)):
            cells = {row["pass"]: row for row in measured if row["name"] == name}
            peaks = [row["peak_mib"] for row in cells.values() if row["peak_mib"] is not None]
            length = "" if i else f"{case.length:,}"
            line = "".join(f" | {self._cell(cells.get(what)):33}" for what in passes)
            memory = f" |{max(peaks):>8,.0f}" if peaks else ""
            print(f"{length:>7} {name:18}{line}{memory}", flush=True)

    def _print_heading(self, case: Case, passes: list[str]) -> None:
        dropout = f", dropout {case.dropout}" if case.dropout else ""
        sizes = f"B = {case.batch:,}, H = {case.heads}, D = {case.head_dim}"
        print(f"\n{case.precision}, {sizes}{dropout}")
        titles = {"forward": "forward", "backward": "backward", "both": "forward + backward",
                  "decode": "decoding step"}  # fmt: skip
        memory = " |     MiB" if case.device.type == "cuda" else ""
        print(" " * 26 + "".join(f" | {titles[what]:33}" for what in passes) + memory[:2])
        units = [f"{'GB/s' if what == 'decode' else self._unit:>8}" for what in passes]
        columns = "".join(f" | {'ms':>9}{'':6}{unit}{'max':>5}{'ours':>5}" for unit in units)
        print(f"{'T':>7} {'':18}{columns}{memory}")

    def _cell(self, row: Figures | None) -> str:
        """Milliseconds and half their spread, rate and share, and how many times ours it takes."""
        if row is None:
            return ""
        rate = row["tflops"] * self._factor if "tflops" in row else row["gbps"]
        share = "" if row["of_ceiling"] is None else f"{row['of_ceiling']:.0%}"
        ratio = "" if row["fastmaze_faster"] is None else _short(row["fastmaze_faster"])
        spread = f"±{min(row['spread'] / 2, 9.99):.0%}"
        return f"{row['milliseconds']:>9.3f} {spread:5}{_short(rate):>8}{share:>5}{ratio:>5}"


def _short(rate: float) -> str:
    if rate >= 9.95:
        return f"{rate:,.0f}"
    return f"{rate:.2f}" if rate < 0.995 else f"{rate:.1f}"
