"""`fastmaze bench update`: contenders in processes, turns, tables, and what goes wrong in one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fastmaze.bench.contenders import Unavailable
from fastmaze.bench.update import BenchConfig
from fastmaze.bench.update_contender import Contender, ours, published
from fastmaze.bench.update_report import growth, print_growth
from fastmaze.bench.update_turns import PeakMemory
from fastmaze.cli import main

TINY = ["--batch", "4", "--rollout-envs", "2", "--rounds", "1", "--threads", "1"]

# A checkout of the published code in its outlines, to see how it is driven.
CHECKOUT = {
    "torchkit/pytorch_utils.py": "# -*- coding: future_fstrings -*-\ndef set_gpu_mode(mode): pass",
    "configs/envs/tmaze_passive.py": "def get_config(): return None",
    "configs/rl/dqn_default.py": "from configs.seq_models.gpt_default import get_config",
    "configs/seq_models/gpt_default.py": """
class Config:
    def name_fn(self, *args): return args, "name"
def get_config(): return Config()
""",
    "envs/tmaze.py": """
import gym
class TMazeClassicPassive(gym.Env):
    def __init__(self, corridor_length, penalty): self.corridor_length = corridor_length
""",
    "policies/learner.py": """
import types, optax, torch
class Learner:
    def __init__(self, env, eval_env, flags, *configs):
        print("theirs is told elsewhere")
        self.env, self.flags, self.played = env, flags, []
        self.agent = types.SimpleNamespace(critic=torch.nn.Linear(3, 2))
        self.epsilon = optax.linear_schedule(1.0, 0.0, 10)(5).item()
    def _start_training(self): pass
    def collect_rollouts(self, num_rollouts, random_actions=False):
        self.played.append((num_rollouts, random_actions))
        return num_rollouts * (self.env.corridor_length + 1)
    def update(self, num_updates):
        assert self.flags.batch_size == 4 and self.played[0] == (10, True)
        if self.env.corridor_length == 99: raise MemoryError("too long")
""",
    "transformers.py": "",
    "ml_collections.py": "",
    "dateutil.py": "",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in CHECKOUT.items():
        path = tmp_path / "theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    # As if what is needed were installed.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "theirs"))
    return tmp_path / "theirs"


def test_the_published_code_plays_and_learns_by_its_own_methods(checkout: Path) -> None:
    setting: dict[str, Any] = {"length": 12, "model": "gpt", "batch": 4, "device": "cpu"}
    with published("published", sys.executable, checkout, 1, **setting) as contender:
        assert contender.facts["parameters"] == 8
        assert contender.turn("update")["seconds"] > 0
        assert contender.turn("rollout")["env_steps"] == 12
        assert contender.turn("memory")["peak_mib"] >= 0
    with (
        published("published", sys.executable, checkout, 1, **setting | {"length": 100}) as long,
        pytest.raises(Unavailable, match="MemoryError: too long"),
    ):
        long.turn("update")


def test_what_the_published_code_needs_is_named(tmp_path: Path) -> None:
    """A Python without site-packages has nothing."""
    script = Path(__file__).parents[2] / "fastmaze/bench/update_reference.py"
    command = [sys.executable, "-S", "-I", str(script)]
    contender = Contender("published", command, {"checkout": str(tmp_path)}, 1)
    with pytest.raises(Unavailable, match=r"pip install torch 'transformers==4.40.2' ml_coll"):
        contender.__enter__()


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"length": 0}, "length"), ({"length": 5, "batch_size": 0}, "batch_size: expected")],
)
def test_a_contender_that_cannot_be_set_up_says_why(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        ours("ours", {"device": "cpu", **config}, "fp32", 1).__enter__()


def test_a_process_that_dies_is_told() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(3)"]
    with pytest.raises(Unavailable, match="status 3"):
        Contender("dying", command, {}, 1).__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an earlier peak stays")
def test_the_peak_of_memory_is_kept_and_begins_anew() -> None:
    first = PeakMemory()
    assert abs(first.figures()["peak_mib"]) < 20
    block = bytearray(b"x" * (96 << 20))
    del block
    assert first.figures()["peak_mib"] > 90
    assert PeakMemory().figures()["peak_mib"] < 60


def test_whole_run(tmp_path: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "update.json"
    options = ["--lengths", "8", "16", "--presets", "default", "--reference", str(checkout)]
    assert main(["bench", "update", *options, *TINY, "--device", "cpu", "--json", str(path)]) == 0
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["length"], row["name"]) for row in figures["rows"]] == [
        (8, "fastmaze default"),
        (8, "fastmaze, practised"),
        (8, "published"),
        (16, "fastmaze default"),
        (16, "fastmaze, practised"),
        (16, "published"),
    ]
    for row in figures["rows"]:
        assert "skipped" not in row
        assert row["update"]["seconds"] > 0
        assert row["rollout"]["seconds"] > 0
        # Not what this process, the parent, once had.
        assert 0 <= row["memory"]["peak_mib"] < 100
    mine = figures["rows"][0]
    assert mine["update"]["times_the_first"] == 1
    assert mine["update parts"]["online forward"] > 0
    assert mine["work"]["flops"]["backward"] > 0
    assert mine["work"]["bytes"]["clip and step"] > 0
    assert figures["growth"][0]["ratios"].keys() == {"tokens", "attention", "memory"}
    said = capsys.readouterr().out
    for part in ("fastmaze default, parts", "attention backward", "rollout: network step"):
        assert part in said
    assert "8 -> 16" in said


def row(length: int, seconds: dict[str, float], peak: float, name: str = "ours") -> dict[str, Any]:
    shared = {"name": name, "model": "gpt", "precision": "fp32", "work": {}}
    return {**shared, "length": length, "update parts": seconds, "memory": {"peak_mib": peak}}


def test_growth_compares_double_lengths_and_marks_what_is_too_much(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        row(100, {"online forward": 1.0, "backward": 2.0, "online attention": 1.0}, 10.0),
        row(200, {"online forward": 2.0, "backward": 5.5, "online attention": 4.0}, 20.0),
        row(300, {"online forward": 9.0}, 99.0),
        row(200, {"online forward": 9.0}, 99.0, name="theirs"),
    ]
    found = growth(rows)
    assert len(found) == 1
    assert found[0]["ratios"] == {"tokens": 2.5, "attention": 4.0, "memory": 2.0}
    print_growth(found)
    said = capsys.readouterr().out
    assert "tokens 2.50!" in said
    assert "attention 4.00," in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": ()}, "lengths: expected a tuple of at least one"),
        ({"lengths": (1,)}, "lengths"),
        ({"models": ("rnn",)}, "models: expected of"),
        ({"presets": ("mine",)}, "presets: expected of"),
        ({"precisions": ("fp16",)}, "precisions: expected of"),
        ({"batch": 0}, "batch"),
        ({"reference": Path("/")}, "reference: expected a checkout"),
        ({"reference_python": Path("/no/python")}, "reference_python: there is no file"),
    ],
)
def test_errors_name_the_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BenchConfig(**options)
