"""examples/ppo_lstm_tmaze.py stays one short file, and learns what it says."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason='pip install "fastmaze[train]"')

import torch

import fastmaze
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


def test_names_the_tasks_that_work(example: Any) -> None:
    """They are those of FastMaze with a length and vectors of floats, and each trains."""
    able = []
    for name in fastmaze.TASKS:
        with suppress(TypeError):  # no option 'length'
            spec = fastmaze.make_spec(name, length=10)
            if spec.obs_dtype == "float32" and len(spec.obs_shape) == 1:
                able.append(name)
    assert sorted(able) == sorted(example.TASKS)
    match = re.search(
        r'task: str = "PassiveTMaze"\n    """(.*?)"""', EXAMPLE.read_text(), re.DOTALL
    )
    assert match
    assert set(able) <= set(re.findall(r"\w+", match[1]))
    for name in able:
        success = example.main(
            example.Args(name, num_envs=4, num_minibatches=2, total_timesteps=1, eval_episodes=4)
        )
        assert 0 <= success <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"task": name}, f"task: expected one of PassiveTMaze, .*, got '{name}'")
          for name in ("HeavenHell", "RepeatFirst", "DelayedCatch", "MiniGridMemory", "Nowhere")),
        ({"num_minibatches": 0}, "num_minibatches: expected at least 1 and at most 256, got 0"),
        ({"num_minibatches": 257}, "num_minibatches: expected at least 1 and at most 256"),
        ({"eval_episodes": 0}, "eval_episodes: expected at least 1, got 0"),
        ({"gamma": 1.5}, "gamma: expected at least 0 and at most 1, got 1.5"),
        ({"learning_rate": float("nan")}, "learning_rate: expected at least 0, got nan"),
        ({"num_steps": -1}, "num_steps: expected at least 0, got -1"),
        ({"length": 0}, "length: expected at least 1, got 0"),
        ({"seed": -1}, "seed: expected at least 0"),
    ],
)  # fmt: skip
def test_bad_options(example: Any, options: dict[str, Any], message: str) -> None:
    """Refused at the start, by name."""
    with pytest.raises(ValueError, match=message):
        example.main(example.Args(**options))


def test_checks_every_number(example: Any) -> None:
    numbers = {f.name for f in fields(example.Args) if f.type in ("int", "float")}
    assert numbers == set(example.LEAST)


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
