"""Memory that is free for a process, on a GPU or on the host, a container's limit included."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

_CGROUP: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 2**62
"""Version 1 of the limits writes a number near 2**63 for none."""


def free_memory(device: str) -> int:
    """Bytes that are free on a device now.

    Args:
        device: "cpu", "cuda", "cuda:1" …
    """
    if torch.device(device).type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return min([_host_memory(), *_container_memory(_CGROUP)])


def _host_memory() -> int:
    """What the system could give without swapping; where it does not say, no limit is known."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return _UNLIMITED


def _container_memory(root: Path) -> list[int]:
    """What is left of a container's limit, for the one or two kinds of limits that there are.

    Args:
        root: where the system shows them.
    """
    left = []
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = int((root / limit).read_text(encoding="ascii"))
            now = int((root / used).read_text(encoding="ascii"))
            statistics = (root / limit).with_name("memory.stat").read_text(encoding="ascii")
            # Files that were read count as used, but make room when it is needed.
            idle = dict(line.split() for line in statistics.splitlines()).get(cache, "0")
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        if most < _UNLIMITED:
            left.append(max(0, most - now + int(idle)))
    return left
