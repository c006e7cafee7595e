"""The parts of `fastmaze bench gpu-check`, each in a process of its own.

A part that crashes, hangs or poisons the GPU's state takes no other with it. It writes its results
as it goes, so that a kill leaves what was done.

    python -m fastmaze.bench.gpu_check_parts NAME MODULE DIR DEVICE SECONDS      runs one part
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from fastmaze.bench.devices import choose_device


class Part(NamedTuple):
    """One part and what it may take."""

    name: str
    module: str
    """Whose `run_part(context)` does it."""
    share: float
    """Of the time."""
    checks: bool = False
    """Whether a failure of it is a failure of the whole."""
    interprets: bool = False
    """Whether it runs Triton kernels, which a CPU can only interpret."""


PARTS: Final = (
    Part("machine", "fastmaze.bench.gpu_check_machine", 0.04),
    Part("correctness", "fastmaze.bench.gpu_check_correctness", 0.24, checks=True, interprets=True),
    Part("sanitizer", "fastmaze.bench.gpu_check_sanitizer", 0.12, checks=True),
    Part("envs", "fastmaze.bench.gpu_check_envs", 0.08, checks=True, interprets=True),
    Part("tuning", "fastmaze.bench.gpu_tuning", 0.14, interprets=True),
    Part("attention", "fastmaze.bench.gpu_check_attention", 0.20),
    Part("update", "fastmaze.bench.update_timing", 0.08),
    Part("fusions", "fastmaze.bench.fusion_timing", 0.10),
)
"""In the order in which they run: the benchmark uses what the tuning found."""


@dataclass(slots=True)
class Context:
    """What a part is given, and where it leaves its results."""

    name: str
    out: Path
    device: torch.device
    deadline: float
    """When it should be done, as `time.time()` counts."""
    results: dict[str, Any] = field(default_factory=dict)
    """Written to NAME.json by `save`; "failures" lists what is wrong, in one line each."""

    @property
    def reduced(self) -> bool:
        """On a CPU: small sizes, to show that everything works."""
        return self.device.type == "cpu"

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative past it."""
        return self.deadline - time.time()

    def save(self, **values: Any) -> None:
        """Adds to the results and writes them."""
        self.results.update(values)
        write_atomically(result_path(self.out, self.name), self.results)


def result_path(out: Path, name: str) -> Path:
    """Where a part's results are kept."""
    return out / f"{name}.json"


def write_atomically(path: Path, values: Any) -> None:
    """Writes JSON, or text as it is, so that a kill leaves the old file or the new one."""
    text = values if isinstance(values, str) else json.dumps(values, indent=2, default=str) + "\n"
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def read_results(out: Path, name: str) -> dict[str, Any] | None:
    """What a part has left so far; None if nothing."""
    try:
        found: dict[str, Any] = json.loads(result_path(out, name).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found


def run_here(module: str, context: Context) -> None:
    """Runs a part in this process; what it raises goes into its results."""
    start = time.time()
    context.save(part=context.name, device=str(context.device), reduced=context.reduced,
                 complete=False)  # fmt: skip
    try:
        importlib.import_module(module).run_part(context)
    except Exception:
        context.results["error"] = traceback.format_exc()
    else:
        # A part that ran out of time has said so.
        context.results["complete"] = "stopped" not in context.results
    context.save(seconds=round(time.time() - start, 1))


def main(args: list[str]) -> None:
    """Runs the part that the command line names."""
    name, module, out, device, seconds = args
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    context = Context(name, Path(out), choose_device(device), time.time() + float(seconds))
    run_here(module, context)


def _end_with(parent: int) -> None:
    """Ends this process and its children, a session of their own, once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
