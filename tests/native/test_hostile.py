"""Whatever is thrown at the native module: an exception or a right answer, never a crash.

The calls run in a process of their own, so that a crash is a failed test with a seed to repeat it.
`FASTMAZE_HOSTILE_CALLS` sets how many calls are made; a release is tested with a million.
"""

from __future__ import annotations

import os
import subprocess
import sys

CALLS = int(os.environ.get("FASTMAZE_HOSTILE_CALLS", "40000"))
SEED = int(os.environ.get("FASTMAZE_HOSTILE_SEED", "0"))


def test_random_and_hostile_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.hostile_calls", str(CALLS), str(SEED)],
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, f"seed {SEED}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    counts = dict(part.split("=") for part in done.stdout.split())
    # Neither side may be empty, or the test would protect nothing.
    assert int(counts["accepted"]) > CALLS // 20
    assert int(counts["refused"]) > CALLS // 4
