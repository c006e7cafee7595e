"""`fastmaze doctor`: what is installed, what works, and what to install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fastmaze.doctor import examine, report
from fastmaze.results import check_json_path, write_json


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `fastmaze doctor` takes."""

    json: Path | None = None
    """Also write the findings to this file."""


def run(args: Sequence[str]) -> int:
    """Runs the command."""
    options = tyro.cli(
        Options,
        args=args,
        prog="fastmaze doctor",
        description="Show versions, backends, CPU, GPU, and what to install for what is missing.",
    )
    check_json_path(options.json)
    findings = examine()
    print(report(findings))
    write_json(options.json, findings)
    return 0
