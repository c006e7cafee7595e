"""`fastmaze tasks`: every task, with the paper's numbers, its spaces and its backends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from fastmaze.envs.registration import env_id
from fastmaze.results import check_json_path, write_json
from fastmaze.specs import TASKS, Paper, make_spec

_LEGEND = """\
T: steps of an episode. l_mem: how far back an optimal agent must look. m: how far back rewards and
observations depend. c: how far ahead the benefit of an action can lie. Numbers as Ni et al. 2023
give them for each task's source; "T" means the whole episode, "-" that their table has no such
row."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze tasks` takes."""

    json: Path | None = None
    """Also write the table to this file."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(
        Options,
        args=args,
        prog="fastmaze tasks",
        description="List every task: what it asks for, memory lengths, spaces, backends.",
    )
    check_json_path(options.json)
    rows = table()
    print(report(rows))
    write_json(options.json, {"tasks": rows})
    return 0


def table() -> list[dict[str, Any]]:
    """A row for each task; spaces and length are those of its default options."""
    rows = []
    for name, task in TASKS.items():
        spec = make_spec(name)
        rows.append(
            {
                "task": name,
                "id": env_id(name),
                "summary": task.summary,
                "paper": asdict(task.paper or Paper("-", "-", "-", "-")),
                "observation": f"{spec.obs_dtype} {list(spec.obs_shape)}",
                "actions": list(spec.action_names),
                "backends": list(task.family.backends),
                "options": sorted(task.options),
                "default_length": spec.episode_length,
            }
        )
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """The rows as text for people, in columns."""
    head = ["task", "T", "l_mem", "m", "c", "observation", "actions", "backends"]
    cells = [
        [
            row["task"],
            *(row["paper"][name] for name in ("T", "l_mem", "m", "c")),
            row["observation"],
            str(len(row["actions"])),
            " ".join(row["backends"]),
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *cells]
    ]
    width = widths[0]
    return "\n".join(
        [*lines, "", _LEGEND, "", *(f"{row['task']:{width}}  {row['summary']}" for row in rows)]
    )
