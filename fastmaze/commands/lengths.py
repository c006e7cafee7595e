"""`fastmaze lengths`: how much memory and how much credit assignment a task needs, exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastmaze.lengths.analyze import analyze, dial_of
from fastmaze.lengths.beliefs import MAX_NODES
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.pairs import MAX_PAIRS
from fastmaze.lengths.paper import Row, compare, markdown, table
from fastmaze.lengths.report import LengthReport
from fastmaze.lengths.small_tasks import SMALL_TASKS
from fastmaze.results import check_json_path, write_json

SMALL = "\n".join(
    f"  {name} ({', '.join([task.dial, *(o for o in task.options if o != task.dial)])})"
    for name, task in SMALL_TASKS.items()
)

_DESCRIPTION = f"""\
Compute a task's memory and credit-assignment lengths exactly, and say which histories prove them.

  fastmaze lengths PassiveTMaze --length 1500
  fastmaze lengths ActiveTMaze --length 100 --stories
  fastmaze lengths --table                        the paper's table, recomputed at small sizes

T-Mazes are analysed as they are, at any length. These tasks are in an abstract form (who sees what
when, what is paid when); in brackets what --length sets and what else --task-options takes:

{SMALL}

Other tasks of `fastmaze tasks` are analysed by their own rules, for which they must be small:
  fastmaze lengths PassiveVisualMatch --length 1 --task-options num_apples 0 explore_frames 3
"""

_READING = """\
How to read a history: o_1 –a_1→ o_2 –a_2→ … What comes after the bar is all that a window of one
observation less than the length shows, and it is the same in both: what differs lies before."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze lengths` takes."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")] = ""
    """Which task; none with `--table`."""
    length: int | None = None
    """The task's one dial, e.g. the corridor length. Default: the task's own."""
    task_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    """More options of the task, e.g. oracle_length 3 expose_goal True."""
    gamma: str = "1"
    """Reward discount, 0 to 1: a number such as 0.9 or 9/10."""
    last_observation: bool = True
    """Whether o_{T+1}, which nobody can act on, counts in m_transit."""
    pooled: bool = False
    """Compare windows of different times, too, as an agent without a clock must; small tasks."""
    on_path: int = 0
    """Also find l_mem on-path, trying at most this many layers of windows."""
    detail: bool = False
    """Also find the windows for each time step."""
    stories: bool = False
    """Tell for each length the histories that prove it."""
    max_nodes: int = MAX_NODES
    """Stop at more beliefs than this; lengths are then bounds."""
    max_pairs: int = MAX_PAIRS
    """Stop each search at more pairs of beliefs than this; its length is then a bound."""
    table: bool = False
    """Recompute the paper's table at small sizes instead."""
    json: Path | None = None
    """Write everything found to this file."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(Options, args=args, prog="fastmaze lengths", description=_DESCRIPTION)
    check_json_path(options.json)
    if options.table:
        if options.task or options.task_options or options.length is not None:
            raise ValueError("--table: takes no task, it has them all")
        with _progress_shown() as progress:
            rows = table(progress)
        print(markdown(rows))
        write_json(options.json, {"rows": [_row_json(row) for row in rows]})
        return 0
    if not options.task:
        raise ValueError("which task? For example: fastmaze lengths PassiveTMaze --length 100")
    with _progress_shown() as progress:
        report = _analyze(options, progress)
    print(report)
    if options.detail:
        print(_steps(report))
    lines = compare(options.task, report)
    if lines:
        print("\nThe paper's table beside it:")
        print("\n".join(f"  {line}" for line in lines))
    if options.stories:
        print(f"\n{_READING}")
        for name, story in report.stories.items():
            print(f"\n{name} = {getattr(report, name)}. {story}")
    write_json(options.json, report.to_json())
    return 0


def _analyze(options: Options, progress: Progress) -> LengthReport:
    task_options: dict[str, Any] = dict(options.task_options)
    if options.length is not None:
        task_options[dial_of(options.task)] = options.length
    return analyze(
        options.task,
        gamma=options.gamma,
        last_observation=options.last_observation,
        pooled=options.pooled,
        on_path_budget=options.on_path,
        detail=options.detail,
        max_nodes=options.max_nodes,
        max_pairs=options.max_pairs,
        progress=progress,
        **task_options,
    )


def _steps(report: LengthReport) -> str:
    names = ("t", "states", "classes", "beliefs", "m_reward", "m_transit", "l_value", "c")
    lines = ["", "  ".join(f"{name:>9}" for name in names)]
    for step in report.steps:
        cells = ["" if getattr(step, n) is None else str(getattr(step, n)) for n in names]
        lines.append("  ".join(f"{cell:>9}" for cell in cells))
    return "\n".join(lines)


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "task": row.sweep.task,
        "options": dict(row.sweep.options),
        "dial": row.sweep.dial,
        "values": row.sweep.values,
        "reports": [report.to_json() for report in row.reports],
    }


@contextmanager
def _progress_shown() -> Iterator[Progress]:
    """A bar on a terminal where tqdm is installed, a line a stage on others, else silence."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
    elif find_spec("tqdm") is None:
        yield _print_stage
    else:
        from tqdm import tqdm

        with tqdm(leave=False, dynamic_ncols=True) as bar:

            def show(what: str, done: int, total: int) -> None:
                if bar.desc != f"{what}: " or bar.total != total:
                    bar.reset(total)
                    bar.set_description(what)
                bar.update(done - bar.n)

            yield show


def _print_stage(what: str, done: int, total: int) -> None:
    if done == total:
        print(f"{what}: done", file=sys.stderr)
