"""Part "sanitizer" of `fastmaze bench gpu-check`: small shapes under compute-sanitizer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Any, Final

from fastmaze.bench.gpu_check_parts import Context

_TOOLS: Final = ("memcheck", "racecheck")
_PLACES: Final = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")
_CODE: Final = "from fastmaze.bench.gpu_check_correctness import run_small; run_small()"


def run_part(context: Context) -> None:
    """Saves "tools" (name to outcome) and "failures"."""
    program = find_program()
    if context.reduced or program is None:
        why = "needs a GPU" if context.reduced else "compute-sanitizer is not installed"
        print(f"  not run: {why}")
        context.save(failures=[], tools={}, skipped=why)
        return
    # Without a cache, each tensor is an allocation of its own, past whose end nothing lies.
    environment = dict(os.environ, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    running = {}
    for tool in _TOOLS:
        log = (context.out / f"sanitizer-{tool}.log").open("w", encoding="utf-8")
        command = [program, "--tool", tool, sys.executable, "-c", _CODE]
        with log:
            running[tool] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
    outcomes: dict[str, Any] = {}
    for tool, process in running.items():
        try:
            process.wait(max(1.0, context.left))
            stopped = False
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            stopped = True
        text = (context.out / f"sanitizer-{tool}.log").read_text(encoding="utf-8", errors="replace")
        outcomes[tool] = "did not end in time" if stopped else verdict(text)
        print(f"  {tool}: {outcomes[tool]}")
        context.save(tools=outcomes, failures=_failures(outcomes))


def find_program() -> str | None:
    """Where compute-sanitizer is, if it is anywhere."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    return shutil.which("compute-sanitizer", path=path)


def verdict(text: str) -> str:
    """What a tool's output says: "clean", how many errors, or why it did not run."""
    counts = [int(n) for n in re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)", text)]
    ran = "small shapes done" in text
    if ran and counts:
        return "clean" if not any(counts) else f"{max(counts)} errors"
    if counts and any(counts) and "Device not supported" not in text:
        return f"{max(counts)} errors, and the program did not end well"
    lines = [line for line in text.splitlines() if line.strip()]
    return f"did not run: {lines[-1].strip()[:150] if lines else 'no output'}"


def _failures(outcomes: dict[str, str]) -> list[str]:
    return [f"{tool}: {said}" for tool, said in outcomes.items() if "errors" in said]
