"""Memory models of one's own learn a corridor in FastMaze's trainer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integrations.snippets import ROOT, run_snippet, snippets

pytest.importorskip("torch", reason='torch is not installed: pip install "fastmaze[train]"')


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "linear_attention"])
def test_an_example_solves_its_corridor(name: str, tmp_path: Path) -> None:
    path = ROOT / "examples" / f"{name}.py"
    assert len(path.read_text().splitlines()) < 80
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].removeprefix("success ")) >= 0.99


@pytest.mark.parametrize("code", snippets("Your own memory model in FastMaze's trainer"))
def test_the_documented_code_runs(code: str, tmp_path: Path) -> None:
    run_snippet(code, tmp_path)
