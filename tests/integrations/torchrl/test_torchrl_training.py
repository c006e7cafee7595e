"""The example solves the maze with TorchRL's own parts, and the code of the documentation runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torchrl", reason="TorchRL is missing here: nox -s torchrl runs these")

from tests.integrations.snippets import ROOT, run_snippet, snippets


@pytest.mark.slow
def test_example_solves_the_maze() -> None:
    """Protects the claim that a memory agent of TorchRL's learns on these envs."""
    done = subprocess.run(
        [sys.executable, "examples/torchrl_ppo_lstm.py", "--length", "10", "--seed", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(r"success (\d\.\d+) over (\d+) greedy episodes", last)
    assert match, last
    assert int(match[2]) >= 256
    assert float(match[1]) >= 0.9


@pytest.mark.parametrize("number", [0])
def test_snippets(number: int, tmp_path: Path) -> None:
    """Protects readers: the code under the heading TorchRL runs as it stands."""
    found = snippets("TorchRL")
    assert len(found) == 1
    assert "torch.Size([1024, 202])" in run_snippet(found[number], tmp_path)
