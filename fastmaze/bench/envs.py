"""`fastmaze bench envs`: env steps a second, every contender in turn, with ratios.

The contenders of one batch size take short turns, round after round, so that a machine whose speed
drifts treats them alike; a figure is the median over the rounds, a ratio the median of the rounds'
ratios.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastmaze.bench import contenders, peers
from fastmaze.bench.contenders import Step, Unavailable
from fastmaze.bench.env_turns import Row, take_turns
from fastmaze.bench.machine import describe
from fastmaze.envs.backends.validation import LARGEST, check_count
from fastmaze.results import check_json_path, write_json
from fastmaze.specs import TASKS, TaskSpec, TMazeSpec, check_integer, check_real, make_spec

_TASKS: Final = tuple(name for name in TASKS if name != "TMaze")
"""All but the one with options that the NumPy baseline does not cover."""


@dataclass(frozen=True)
class BenchConfig:
    """What to measure, and for how long.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    task: str = "PassiveTMaze"
    """Task to step; `fastmaze tasks` lists them, and `fastmaze bench tasks` steps all of them."""
    length: int = 1000
    """Corridor length, or what else makes the task longer: episodes end, and start anew, every
    length + 1 steps or so."""
    num_envs: tuple[int, ...] = (1, 64, 4096, 65536, 1048576)
    """Batch sizes."""
    threads: int = 0
    """Threads of the many-thread rows; 0 for all cores that this process may use."""
    rounds: int = 9
    """Turns of each contender; figures are medians over them."""
    seconds: float = 0.1
    """Length of one turn."""
    peers: bool = True
    """Measure what others have published too, where it is installed: for the T-Mazes PufferLib,
    EnvPool and gymnax, else the package that a task is from."""
    json: Path | None = None
    """File to write all figures to."""

    def __post_init__(self) -> None:
        _spec(self.task, self.length)
        if not isinstance(self.num_envs, tuple) or not self.num_envs:
            raise ValueError(
                f"num_envs: expected a tuple of at least one batch size, got {self.num_envs!r}"
            )
        for size in self.num_envs:
            check_count("num_envs", size)
        check_integer("threads", self.threads, 0, LARGEST["num_threads"])
        check_integer("rounds", self.rounds, 1)
        if check_real("seconds", self.seconds) <= 0:
            raise ValueError(f"seconds: expected a number > 0, got {self.seconds}")


def _spec(task: str, length: int) -> TaskSpec:
    """The spec of a task of this length."""
    if task not in _TASKS:
        raise ValueError(f"task: expected one of {_TASKS}, got {task!r}")
    return make_spec(task, **{TASKS[task].dial: length})


def rows(config: BenchConfig) -> list[Row]:
    """The contenders, `native` first: the others are compared with it."""
    many = config.threads or len(os.sched_getaffinity(0))
    worth = 2 * 4096  # below it the backends keep to one thread
    table = [
        Row("native", contenders.backend("native"), 1),
        Row("native, staggered", contenders.backend("native", stagger=True), 1),
        Row("envs.step (Gymnasium)", contenders.facade("step"), 1),
        Row("envs.step_into", contenders.facade("step_into"), 1),
        Row("numba", contenders.backend("numba"), 1),
        Row("floor: memcpy", contenders.floor, 1),
    ]
    if many > 1:
        table += [
            Row(f"native, {many} threads", contenders.backend("native"), many, 1, worth),
            Row(f"numba, {many} threads", contenders.backend("numba"), many, 1, worth),
            Row(f"floor: memcpy, {many} threads", contenders.floor, many, 1, worth),
        ]
    table += [
        Row("NumPy baseline", contenders.numpy_baseline, 1),
        Row("specification env", contenders.specification, 1, most_envs=4096),
    ]
    if config.peers and TASKS[config.task].spec is TMazeSpec:
        table += [
            Row("PufferLib tmaze", peers.pufferlib_tmaze, 1),
            Row("EnvPool Catch", peers.envpool_catch, 1, most_envs=65536),
            Row("gymnax MemoryChain", peers.gymnax_memory_chain, 0, peers.GYMNAX_STEPS),
        ]
        if many > 1:
            table.append(
                Row(f"EnvPool Catch, {many} threads", peers.envpool_catch, many, most_envs=65536)
            )
    if config.peers and config.task in peers.PUBLISHED:
        name, make = peers.PUBLISHED[config.task]
        table.append(Row(name, make, 1, most_envs=4096))
    return table


def run(config: BenchConfig) -> dict[str, Any]:
    """Measures, prints a table for each batch size, and returns (and writes) all figures."""
    check_json_path(config.json)
    spec = _spec(config.task, config.length)
    head = describe()
    print(f"{head['cpu']}, {head['cores']} cores, {head['isa']}, commit {head['commit']}")
    print(
        f"{config.task}(length={config.length}), int64 actions, {spec.obs_dtype} observations, "
        f"autoreset with final observations; {contenders.bytes_per_step(spec)} bytes a step"
    )
    results: list[dict[str, Any]] = []
    said: set[str] = set()
    for num_envs in config.num_envs:
        results += _measure(config, spec, num_envs, said)
    command = "fastmaze " + " ".join(sys.argv[1:])
    figures = {"config": vars(config), "machine": head, "command": command, "rows": results}
    write_json(config.json, figures)
    return figures


def _measure(
    config: BenchConfig, spec: TaskSpec, num_envs: int, said: set[str]
) -> list[dict[str, Any]]:
    """The table of one batch size."""
    ready: list[tuple[Row, Step]] = []
    for row in rows(config):
        if not row.least_envs <= num_envs <= row.most_envs:
            continue
        try:
            ready.append((row, row.make(spec, num_envs, row.threads)))
        except Unavailable as reason:
            if row.name not in said:
                said.add(row.name)
                print(f"  {row.name}: skipped, {reason}")
    results = take_turns(ready, num_envs, config.rounds, config.seconds)
    print(f"\nnum_envs = {num_envs:,}\n  {'':30}{'M steps/s':>10}  {'spread':>8}{'µs/call':>12}"
          f"{'native /':>10}")  # fmt: skip
    for found in results:
        print(
            f"  {found['name']:30}{found['steps_per_second'] / 1e6:>10.3f}"
            f"  {found['spread']:>8.0%}{found['microseconds_per_call']:>12.2f}"
            f"{found['native_over_this']:>10.2f}"
        )
    return results
