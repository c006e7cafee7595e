"""Part "machine" of `fastmaze bench gpu-check`: what it runs on, and what that can do at best."""

from __future__ import annotations

from fastmaze.bench.attention import print_ceilings
from fastmaze.bench.ceilings import PRECISIONS, measure_ceilings
from fastmaze.bench.device_timing import Stopwatch
from fastmaze.bench.devices import describe_device
from fastmaze.bench.gpu_check_parts import Context
from fastmaze.bench.machine import describe


def run_part(context: Context) -> None:
    """Saves "machine" and "ceilings"."""
    context.save(machine=describe() | {"device": describe_device(context.device)})
    names = ("fp32", "bf16") if context.reduced else tuple(PRECISIONS)
    ceilings = measure_ceilings(Stopwatch(context.device), names)
    print_ceilings(ceilings)
    context.save(ceilings=ceilings)
