"""The device to measure on, and what is known about it."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any, Final

import torch

from fastmaze.envs.backends import device_core

_QUERY: Final = ("driver_version", "clocks.sm", "clocks.mem", "power.limit", "temperature.gpu")
"""Facts that nvidia-smi knows and torch does not; only read, never set."""


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the first GPU, or the CPU where there is none.

    Raises:
        ValueError: torch knows no such device, or it is not there.
    """
    return device_core.choose_device(None if name == "auto" else name)


def describe_device(device: torch.device) -> dict[str, Any]:
    """Facts for the head of a result file."""
    facts: dict[str, Any] = {
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cpu":
        return {**facts, "name": "CPU"}
    properties = torch.cuda.get_device_properties(device)
    return {
        **facts,
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": round(getattr(properties, "L2_cache_size", 0) / 2**20, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        **_nvidia_smi(device.index or 0),
    }


def _nvidia_smi(index: int) -> dict[str, str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--id={index}", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_QUERY, (part.strip() for part in said.stdout.split(",")), strict=False))
