"""Parts of gpu-check that misbehave, for `test_gpu_check.py`; each is run by its own process."""

from __future__ import annotations

import os
import signal
import time

from fastmaze.bench.gpu_check_parts import Context


def run_part(context: Context) -> None:
    """Leaves something, then does what its name says."""
    context.save(rows=[1], failures=[])
    if context.name == "raises":
        raise RuntimeError("out of luck")
    if context.name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if context.name == "hangs":
        context.save(pid=os.getpid())
        time.sleep(600)
    if context.name == "fails":
        context.save(failures=["a wrong result"], stopped="out of time after 1 row")
