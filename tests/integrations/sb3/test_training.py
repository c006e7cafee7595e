"""RecurrentPPO learns to remember, and the code in docs/plug-ins.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3", reason="nox -s sb3")
pytest.importorskip("sb3_contrib", reason="nox -s sb3")

from tests.integrations.snippets import ROOT, run_snippet, snippets


def test_recurrent_ppo_solves_a_corridor_of_ten(tmp_path: Path) -> None:
    """A policy without memory has 1/2; SB3's own parts reach 0.9 at least."""
    example = ROOT / "examples" / "sb3_recurrent_ppo.py"
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(r"success (\d\.\d+) in 1,024 greedy episodes", last)
    assert match, done.stdout
    assert float(match[1]) >= 0.9


def test_code_in_the_docs(tmp_path: Path) -> None:
    for code in snippets("Stable-Baselines3"):
        run_snippet(code, tmp_path)
