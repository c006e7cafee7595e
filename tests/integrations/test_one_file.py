"""examples/ppo_lstm_tmaze.py stays one short file, and learns what it says."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason='pip install "fastmaze[train]"')

import torch

from tests.integrations.snippets import ROOT, run_snippet, snippets

EXAMPLE = ROOT / "examples" / "ppo_lstm_tmaze.py"


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The file as a module, on one thread as it asks for."""
    threads = torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("ppo_lstm_tmaze", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ppo_lstm_tmaze"] = module  # where its dataclass looks for annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["ppo_lstm_tmaze"]
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_solves_the_maze(tmp_path: Path) -> None:
    """The defaults reach what the last line says, on mazes not seen before."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, check=True,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
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


def test_same_seed_same_run(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The seed decides everything but the speed."""
    logs = []
    for seed in (3, 3, 4):
        example.main(example.Args(seed=seed, total_timesteps=40_000, eval_episodes=64))
        log = capsys.readouterr().out
        logs.append(re.sub(r"SPS=\S+|\d+ s$", "", log, flags=re.MULTILINE))
    assert "global_step=32,768" in logs[0]
    assert logs[0] == logs[1] != logs[2]


def test_an_episode_starts_with_an_empty_memory(example: Any) -> None:
    """Whatever was remembered before a start, the same follows; and without one, it does not."""
    torch.manual_seed(0)
    agent = example.Agent(2, 4, 8, 11)
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
