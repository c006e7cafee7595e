"""Shared by all tests: recorded episodes, random tests, and kernels on machines without a GPU."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

try:
    import torch
except ImportError:  # the envs are tested without it, too
    pass
else:
    if not torch.cuda.is_available():
        # Triton decides when a kernel is defined whether it is compiled or interpreted.
        os.environ.setdefault("TRITON_INTERPRET", "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As under nohup or in a shell's background; processes that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

PARITY = Path(__file__).parents[2] / "shared" / "parity"

hypothesis.settings.register_profile(
    "fastmaze",
    deadline=None,
    max_examples=int(os.environ.get("FASTMAZE_TEST_EXAMPLES", "40")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("fastmaze")


@pytest.fixture(scope="session")
def parity_files() -> list[Path]:
    """The recorded T-Maze episodes; their absence is a failure in CI, a skip elsewhere."""
    return recorded("tmaze_*.npz", 50)


@pytest.fixture(scope="session")
def pixel_parity_files() -> list[Path]:
    """The recorded episodes of the pixel grid-worlds; absent, as the T-Maze's."""
    return recorded("visual_match_*.npz", 3) + recorded("key_to_door_*.npz", 3)


def recorded(pattern: str, wanted: int) -> list[Path]:
    files = sorted(PARITY.glob(pattern))
    if not files and "CI" not in os.environ:
        pytest.skip(f"no recorded episodes in {PARITY}")
    assert len(files) >= wanted, f"expected {wanted} files {pattern} in {PARITY}"
    return files
