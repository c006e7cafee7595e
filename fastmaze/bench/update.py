"""`fastmaze bench update`: whole updates and rollouts of the learner, timed, weighed, taken apart.

Each contender has a process of its own, so that its peak of memory is its own, and takes short
turns beside the others; a figure is the median over the rounds, a ratio the median of the rounds'
ratios. The update is the learner's own, sampling included, and so is the rollout. With a checkout
of the published code (Ni et al. 2023) that runs beside ours, in the same network sizes and batch.

Batches hold episodes of random actions. Where distinct histories are computed once, an update of
episodes that walk alike is cheaper: "practised" are those of an agent that knows the corridor and
explores as the default preset does.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from fastmaze.bench import update_report
from fastmaze.bench.ceilings import measure_ceilings
from fastmaze.bench.contenders import Unavailable
from fastmaze.bench.device_timing import Stopwatch
from fastmaze.bench.devices import choose_device, describe_device
from fastmaze.bench.machine import describe
from fastmaze.bench.update_contender import Contender, ours, published
from fastmaze.bench.update_report import Case
from fastmaze.results import check_json_path, write_json
from fastmaze.specs import check_integer
from fastmaze.training.config import TrainConfig
from fastmaze.training.presets import PRESETS

MODELS: Final = ("gpt", "lstm")
PRECISIONS_HERE: Final = ("bf16", "tf32", "fp32")
"""Those of `fastmaze.bench.ceilings` that the learner can do: fp16 would need a loss scale."""
_SIZES: Final = ("width", "num_layers", "num_heads", "obs_width", "action_width", "head_widths")
"""Hyperparameters that every contender takes from the paper's preset: the same network."""


@dataclass(frozen=True)
class BenchConfig:
    """What to measure.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    lengths: tuple[int, ...] = (250, 500)
    """Steps of an episode, T. Several show what doubling T costs."""
    models: tuple[Literal["gpt", "lstm"], ...] = ("gpt",)
    """Memory models."""
    presets: tuple[Literal["default", "paper"], ...] = ("default", "paper")
    """Presets, in the paper's network and batch size; the first is what others are compared with.
    They differ in dropout, in the forward passes of an update, and in the environments."""
    precisions: tuple[Literal["bf16", "tf32", "fp32"], ...] | None = None
    """How networks compute: fp32, tf32 (on a GPU) or bf16 (by autocast). Default: tf32 and bf16 on
    a GPU, fp32 on a CPU."""
    batch: int = 64
    """Whole episodes of an update."""
    rollout_envs: int = 256
    """Environments of a rollout by the default preset; the paper has one."""
    rollouts: bool = True
    """Measure rollouts too."""
    reference: Path | None = None
    """Checkout of github.com/twni2016/Memory-RL, to run beside ours."""
    reference_python: Path | None = None
    """Python that has what the checkout needs (transformers 4.40, ml_collections). Default: this
    one."""
    threads: int = 0
    """Threads; 0 for all cores that this process may use. The published code sets one, and is
    measured so and, if there are more, with as many."""
    rounds: int = 5
    """Turns of each contender; figures are medians over them."""
    device: str = "auto"
    """auto (a GPU if there is one), cuda or cpu."""
    json: Path | None = None
    """File to write all figures to."""

    def __post_init__(self) -> None:
        for name in ("lengths", "models", "presets", "precisions"):
            values = getattr(self, name)
            if values is not None and (not isinstance(values, tuple) or not values):
                raise ValueError(f"{name}: expected a tuple of at least one, got {values!r}")
        choices: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
            ("models", self.models, MODELS),
            ("presets", self.presets, tuple(PRESETS)),
            ("precisions", self.precisions or (), PRECISIONS_HERE),
        )
        for name, given, known in choices:
            for value in given:
                if value not in known:
                    raise ValueError(f"{name}: expected of {known}, got {value!r}")
        for length in self.lengths:
            check_integer("lengths", length, 2, 2**20)
        for name in ("batch", "rollout_envs", "rounds"):
            check_integer(name, getattr(self, name), 1, 2**20)
        check_integer("threads", self.threads, 0, 4096)
        if self.reference is not None and not (self.reference / "policies/learner.py").is_file():
            raise ValueError(
                f"reference: expected a checkout of github.com/twni2016/Memory-RL, with"
                f" policies/learner.py, got {self.reference}"
            )
        if self.reference_python is not None and not self.reference_python.is_file():
            raise ValueError(f"reference_python: there is no file {self.reference_python}")


def run(config: BenchConfig) -> dict[str, Any]:
    """Measures, prints tables, and returns (and writes) all figures."""
    check_json_path(config.json)
    device = choose_device(config.device)
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    on_gpu = device.type == "cuda"
    precisions = config.precisions or (("tf32", "bf16") if on_gpu else ("fp32",))
    head = describe() | {"device": describe_device(device)}
    print(f"{head['device']['name']}, {head['cpu']}, {threads} threads, commit {head['commit']}")
    ceilings = measure_ceilings(Stopwatch(device), precisions)
    update_report.print_ceilings(ceilings)
    cases = [
        Case(length, model, precision)
        for model, precision in itertools.product(config.models, precisions)
        for length in config.lengths
    ]
    rows: list[dict[str, Any]] = []
    for case in cases:
        found = measure_case(config, case, threads, device)
        update_report.print_case(case, found, ceilings, config.batch)
        rows += found
    growth = update_report.growth(rows)
    update_report.print_growth(growth)
    figures = {
        "config": vars(config),
        "machine": head,
        "command": "fastmaze " + " ".join(sys.argv[1:]),
        "ceilings": ceilings,
        "rows": rows,
        "growth": growth,
    }
    write_json(config.json, figures)
    return figures


def measure_case(
    config: BenchConfig, case: Case, threads: int, device: torch.device
) -> list[dict[str, Any]]:
    """Rows of all contenders, the first preset first; one that cannot run says why in "skipped"."""
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        ready: list[Contender] = []
        for contender in contenders(config, case, threads, device):
            row = {**case._asdict(), "name": contender.name, "threads": contender.threads}
            rows.append(row)
            try:
                ready.append(stack.enter_context(contender))
                row |= contender.facts
            except Unavailable as reason:
                row["skipped"] = str(reason)
        by_name = {row["name"]: row for row in rows}
        _take_turns(ready, by_name, "update", config.rounds)
        _once(ready, by_name, "memory")
        mine = [contender for contender in ready if not contender.name.startswith("published")]
        _take_apart(mine, by_name, "update", config.rounds)
        _once(mine, by_name, "work")
        if config.rollouts:  # last: what they play goes into the replay
            _take_turns(ready, by_name, "rollout", config.rounds)
            _take_apart(mine, by_name, "rollout", config.rounds)
    return rows


def contenders(
    config: BenchConfig, case: Case, threads: int, device: torch.device
) -> Iterator[Contender]:
    """Their processes, started one by one."""
    task: dict[str, Any] = {
        "length": case.length - 1,  # a passive maze's corridor is a step shorter than its episodes
        "model": case.model,
        "device": str(device),
        "batch_size": config.batch,
    }
    paper = TrainConfig(**{**task, "device": "cpu"}, preset="paper").hyper
    task |= {name: getattr(paper, name) for name in _SIZES}
    for preset in config.presets:
        envs = {} if preset == "paper" else {"num_envs": config.rollout_envs}
        setting = {**task, **envs, "preset": preset}
        yield ours(f"fastmaze {preset}", setting, case.precision, threads)
        if preset == "default":
            name = "fastmaze, practised"
            yield ours(name, setting, case.precision, threads, practised=True)
    if config.reference is not None and case.precision in ("fp32", "tf32"):
        python = str(config.reference_python or sys.executable)
        theirs: dict[str, Any] = {
            "length": case.length,
            "model": case.model,
            "batch": config.batch,
            "device": device.type,
        }
        for count in sorted({1, threads} if device.type == "cpu" else {1}):
            name = "published" if count == 1 else f"published, {count} threads"
            yield published(name, python, config.reference, count, **theirs)


def _take_turns(
    ready: list[Contender], rows: dict[str, dict[str, Any]], what: str, rounds: int
) -> None:
    """Lets all take turns, after one to warm up; leaves seconds and rates in their rows."""
    turns: dict[str, list[dict[str, Any]]] = {}
    for number in range(-1, rounds):
        for contender in [c for c in ready if "skipped" not in rows[c.name]]:
            try:
                answer = contender.turn(what)
            except Unavailable as reason:
                rows[contender.name]["skipped"] = str(reason)
                turns.pop(contender.name, None)
                continue
            if number >= 0:
                turns.setdefault(contender.name, []).append(answer)
    if not turns:
        return
    wall, busy = (
        {
            # A rollout's unit is an environment step.
            name: [turn[kind] / turn.get("env_steps", 1) for turn in answers]
            for name, answers in turns.items()
        }
        for kind in ("seconds", "cpu_seconds")
    )
    first = next(iter(wall.values()))
    for name, seconds in wall.items():
        median = statistics.median(seconds)
        ratios = [theirs / mine for theirs, mine in zip(seconds, first, strict=True)]
        rows[name][what] = {
            "seconds": median,
            "cpu_seconds": statistics.median(busy[name]),
            "spread": (max(seconds) - min(seconds)) / median,
            "times_the_first": statistics.median(ratios),
            "rounds": seconds,
        }


def _once(ready: list[Contender], rows: dict[str, dict[str, Any]], what: str) -> None:
    for contender in [c for c in ready if "skipped" not in rows[c.name]]:
        try:
            rows[contender.name][what] = contender.turn(what)
        except Unavailable as reason:
            rows[contender.name]["skipped"] = str(reason)


def _take_apart(
    ready: list[Contender], rows: dict[str, dict[str, Any]], what: str, rounds: int
) -> None:
    """Leaves the median seconds of every part in the contenders' rows."""
    for contender in [c for c in ready if "skipped" not in rows[c.name]]:
        try:
            turns = [contender.turn(f"{what} parts")["parts"] for _ in range(rounds)]
        except Unavailable as reason:
            rows[contender.name]["skipped"] = str(reason)
            continue
        names = dict.fromkeys(itertools.chain.from_iterable(turns))
        rows[contender.name][f"{what} parts"] = {
            name: statistics.median(turn.get(name, 0.0) for turn in turns) for name in names
        }
