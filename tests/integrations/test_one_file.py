"""examples/ppo_lstm_tmaze.py stays one short file, and learns what it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason='pip install "fastmaze[train]"')

import torch

from tests.integrations.snippets import ROOT, run_snippet, snippets

EXAMPLE = ROOT / "examples" / "ppo_lstm_tmaze.py"


def run(directory: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *options],
        capture_output=True, text=True, timeout=300, cwd=directory, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_solves_the_maze(tmp_path: Path) -> None:
    """The defaults reach what the last line says, on mazes not seen before."""
    last = run(tmp_path).splitlines()[-1]
    match = re.fullmatch(r"success (\d\.\d+) of (\d+) greedy episodes", last)
    assert match, last
    assert float(match[1]) >= 0.9
    assert int(match[2]) >= 256


def test_is_one_short_file_of_its_own() -> None:
    """Under 350 lines, and of FastMaze only the envs."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 350
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
    ours = {name for name in modules if name.split(".")[0] == "fastmaze"}
    assert ours == {"fastmaze"}
    others = {name.split(".")[0] for name in modules - ours}
    standard = set(sys.stdlib_module_names)
    assert others - standard == {"numpy", "torch", "tyro"}


def test_same_seed_same_run(tmp_path: Path) -> None:
    """The seed decides everything but the speed."""
    options = ("--total-timesteps", "81920", "--eval-episodes", "64", "--seed")
    logs = [re.sub(r"SPS=\S+|\d+ s$", "", run(tmp_path, *options, seed), flags=re.MULTILINE)
            for seed in ("3", "3", "4")]  # fmt: skip
    assert logs[0] == logs[1] != logs[2]


def test_an_episode_starts_with_an_empty_memory() -> None:
    """Whatever was remembered before a start, the same follows; and without one, it does not."""
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        from ppo_lstm_tmaze import Agent
    finally:
        sys.path.pop(0)
    torch.manual_seed(0)
    agent = Agent(2, 4, 8, 11)
    obs, before = torch.randn(3, 5, 2), (torch.randn(5, 8), torch.randn(5, 8))
    starts = torch.zeros(3, 5)
    starts[0, :2] = 1
    with torch.no_grad():
        carried = agent.unroll(obs, starts, before)[0]
        empty = agent.unroll(obs, starts, agent.initial_state(5))[0]
    assert torch.equal(carried[:, :2], empty[:, :2])
    assert not torch.allclose(carried[:, 2:], empty[:, 2:])


def test_snippet(tmp_path: Path) -> None:
    """What docs/plug-ins.md shows runs as it stands."""
    for code in snippets("One file, no trainer"):
        run_snippet(code, tmp_path)
