"""`fastmaze bench tasks`: env steps a second of every task, beside the package that it is from.

Each task's contenders take turns, as in `fastmaze bench envs`; this table has one batch size, one
thread, and a line a task.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmaze.bench import contenders, peers
from fastmaze.bench.contenders import Step, Unavailable
from fastmaze.bench.env_turns import Row, take_turns
from fastmaze.bench.machine import describe
from fastmaze.envs.backends.validation import check_count
from fastmaze.results import check_json_path, write_json
from fastmaze.specs import TASKS, TaskSpec, check_integer, check_real, make_spec

_LENGTHS = ("length", "corridor_length")
"""The dials that `BenchConfig.length` turns; other tasks are measured as they are by default."""


@dataclass(frozen=True)
class BenchConfig:
    """What to measure, and for how long.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    tasks: tuple[str, ...] = ()
    """Tasks to step; by default every one, as `fastmaze tasks` lists them."""
    length: int = 100
    """Length of the tasks that have one: of a corridor, or of a distractor phase."""
    num_envs: int = 4096
    """Batch size."""
    rounds: int = 5
    """Turns of each contender; figures are medians over them."""
    seconds: float = 0.1
    """Length of one turn."""
    every_isa: bool = True
    """Measure the core's other instruction sets, too."""
    peers: bool = True
    """Measure the published packages, where they are installed, and the specification env."""
    json: Path | None = None
    """File to write all figures to."""

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, tuple):
            raise TypeError(f"tasks: expected a tuple of names, got {self.tasks!r}")
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(f"tasks: expected some of {tuple(TASKS)}, got {task!r}")
        check_integer("length", self.length, 1)
        check_count("num_envs", self.num_envs)
        check_integer("rounds", self.rounds, 1)
        if check_real("seconds", self.seconds) <= 0:
            raise ValueError(f"seconds: expected a number > 0, got {self.seconds}")


def _spec(task: str, length: int) -> TaskSpec:
    """The spec that is measured."""
    dial = TASKS[task].dial
    return make_spec(task, **({dial: length} if dial in _LENGTHS else {}))


def rows(task: str, config: BenchConfig) -> list[Row]:
    """The contenders of one task, the native core with the best instruction set first."""
    from fastmaze._native import isa, usable_isas

    table = [
        Row("native", contenders.backend("native"), 1),
        Row("staggered", contenders.backend("native", stagger=True), 1),
    ]
    if config.every_isa:
        others = (name for name in reversed(usable_isas()) if name != isa())
        table += [Row(name, contenders.backend("native", isa=name), 1) for name in others]
    if config.peers:
        table.append(Row("specification", contenders.specification, 1))
        if task in peers.PUBLISHED:
            name, make = peers.PUBLISHED[task]
            table.append(Row(name, make, 1))
    return table


def run(config: BenchConfig) -> dict[str, Any]:
    """Measures, prints a line for each task, and returns (and writes) all figures."""
    check_json_path(config.json)
    head = describe()
    print(f"{head['cpu']}, {head['cores']} cores, {head['isa']}, commit {head['commit']}")
    print(
        f"M env steps/s, {config.num_envs:,} envs, one thread, int64 actions, autoreset with "
        f"final observations, length {config.length}"
    )
    tasks = config.tasks or tuple(TASKS)
    results: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    columns: list[str] = []
    for task in tasks:
        spec = _spec(task, config.length)
        found = _measure(task, spec, config, missing)
        theirs = peers.PUBLISHED[task][0] if task in peers.PUBLISHED else None
        own = [row for row in found if row["name"] != theirs]
        published = [row for row in found if row["name"] == theirs]
        if not columns:
            columns = [row["name"] for row in own]
            print("".join([f"{'':20}{'bytes':>6}", *(f"{c:>14}" for c in columns), "  published"]))
        line = [f"{task:20}{contenders.bytes_per_step(spec):>6}"]
        line += [f"{row['steps_per_second'] / 1e6:>14.{_digits(row)}f}" for row in own]
        for row in published:
            line.append(
                f"  {row['name']}: {row['steps_per_second'] / 1e6:.2f}, "
                f"native is {row['native_over_this']:,.0f} times as fast"
            )
        print("".join(line), flush=True)
        options = {field: getattr(spec, field) for field in type(spec).__dataclass_fields__}  # type: ignore[attr-defined]
        results.append({"task": task, "options": options, "rows": found})
    for name, reason in missing.items():
        print(f"  {name}: skipped, {reason}")
    command = "fastmaze " + " ".join(sys.argv[1:])
    figures = {"config": vars(config), "machine": head, "command": command, "tasks": results}
    write_json(config.json, figures)
    return figures


def _digits(row: dict[str, Any]) -> int:
    """Decimals of a figure that may be 800 or 0.06."""
    return 1 if row["steps_per_second"] >= 1e6 else 3


def _measure(
    task: str, spec: TaskSpec, config: BenchConfig, missing: dict[str, str]
) -> list[dict[str, Any]]:
    """The figures of one task's contenders; whom it could not make goes to `missing`."""
    ready: list[tuple[Row, Step]] = []
    for row in rows(task, config):
        try:
            ready.append((row, row.make(spec, config.num_envs, row.threads)))
        except Unavailable as reason:
            missing[row.name] = str(reason)
    return take_turns(ready, config.num_envs, config.rounds, config.seconds)
