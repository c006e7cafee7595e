"""What a measurement was made on: machine, versions, commit."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Machine, versions and commit, for the head of a result file."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "isa": _isa(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: _version(name)
            for name in ("fastmaze", "numpy", "numba", "gymnasium", "torch", "triton", "flash-attn",
                         "pufferlib", "pufferlib-core", "envpool", "gymnax", "jax",
                         "bsuite", "popgym", "minigrid",
                         "stable-baselines3", "sb3-contrib", "torchrl", "tensordict", "ray")
        },
    }  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _isa() -> str | None:
    """What the native core uses; None where it is not built."""
    try:
        from fastmaze import _native
    except ImportError:
        return None
    return _native.isa()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def _commit() -> str | None:
    """The commit of a checkout, with "+" if it has changes; None in an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return said[0] + ("+" if said[1] else "")
