"""Protects training in several processes: it is the run of one, and goes on from where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastmaze.specs import make_spec
from fastmaze.training import CheckpointError, TrainConfig, data_parallel, resume_training, train
from fastmaze.training.checkpoint import load_checkpoint
from fastmaze.training.data_parallel import Processes, ShareOfDraws, check_split
from fastmaze.training.logging import WALL_CLOCK, read_log
from fastmaze.training.replay import Replay, joined_states
from fastmaze.training.run_directory import read_config
from tests.models.test_own_model import MODEL
from tests.training.conftest import TINY

Make = Callable[..., TrainConfig]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
# Ten updates; batches of 3 of the replay's 7 episodes: some have no episode of one process.
CHANGES: dict[str, Any] = {
    "num_envs": 4,
    "batch_size": 3,
    "updates_per_round": 2,
    "num_episodes": 20,
    "replay_steps": 42,
    "micro_batch_size": 1,
    "replay_balance": 0.34,
    "eval_every": 16,
    "eval_episodes": 5,
    "last_step_epsilon": 1.0,
}


def arguments(config: dict[str, Any]) -> list[str]:
    """A configuration as the command line has it."""
    words = []
    for name, value in config.items():
        values = value if isinstance(value, tuple) else (value,)
        words += ["--" + name.replace("_", "-"), *map(str, values)]
    return words


def launch(processes: int, *args: str, module: str = "fastmaze") -> subprocess.Popen[str]:
    command = [*TORCHRUN, f"--nproc-per-node={processes}", "-m", module, "train", *args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_two_processes_train_as_one_does_and_go_on(tiny: Make, tmp_path: Path, model: str) -> None:
    """Losses, weights, what is kept and how well it plays; after ten updates, and ten more."""
    changes = {**CHANGES, "model": model}
    one = train(tiny("one", **changes), progress=False).run_dir
    resume_training(one, num_episodes=40, progress=False)
    two = tmp_path / "two"
    said = output(launch(2, *arguments({**TINY, **changes, "run_dir": two})))
    assert said.count("by 2 processes") == 1, "one of them speaks"
    with pytest.raises(CheckpointError, match=r"WORLD_SIZE: expected 2, .*--nproc-per-node=2"):
        resume_training(two, num_episodes=40, progress=False)
    output(launch(2, "--resume", str(two), "--num-episodes", "40"))
    assert_close_runs(one, two)


def test_processes_train_a_model_with_weights_that_it_does_not_use(tmp_path: Path) -> None:
    code = MODEL.replace("self.linear =", "self.spare = nn.Linear(2, 2)\n        self.linear =")
    (tmp_path / "mine.py").write_text(code)
    changes = {
        **TINY,
        **CHANGES,
        "model": f"{tmp_path / 'mine.py'}:Mean",
        "run_dir": tmp_path / "r",
    }
    assert "20 episodes in 5 rounds, by 2 processes" in output(launch(2, *arguments(changes)))


ENDS_QUIETLY = """
import json, pathlib, sys
from fastmaze.training import TrainConfig, train

train(TrainConfig(**json.loads(sys.argv[1])), progress=False)
names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
sys.exit(str(names) if any("gloo" in name for name in names) else 0)
"""


def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    """One that frees a tensor while the interpreter shuts down aborts its process, now and then."""
    script = tmp_path / "ends_quietly.py"
    script.write_text(ENDS_QUIETLY)
    config = json.dumps({**TINY, **CHANGES, "run_dir": str(tmp_path / "run")})
    command = [*TORCHRUN, "--nproc-per-node=2", str(script), config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def assert_close_runs(one: Path, two: Path) -> None:
    lines = zip(read_log(one), read_log(two), strict=True)
    for first, second in lines:
        assert first.keys() == second.keys()
        for name, value in first.items():
            if name not in WALL_CLOCK:
                assert second[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    kept, other = (load_checkpoint(run / "checkpoint.safetensors") for run in (one, two))
    assert kept.metadata["learner"]["updates"] == 20
    assert kept.metadata["learner"]["numpy"] == other.metadata["learner"]["numpy"]
    for name, tensor in kept.tensors.items():
        if name.startswith("replay/"):
            assert torch.equal(other.tensors[name], tensor), name
        elif name.startswith(("online/", "target/")):
            torch.testing.assert_close(other.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    best = [load_checkpoint(run / "best.safetensors").metadata["success"] for run in (one, two)]
    assert best[0] == best[1]
    assert read_config(one).hyper == read_config(two).hyper


@pytest.mark.parametrize("to", ["one of them", "the terminal's group"])
def test_a_signal_ends_all_with_a_checkpoint(tmp_path: Path, to: str) -> None:
    """A signal to the group reaches each process twice, for torchrun passes it on."""
    changes = {**TINY, **CHANGES, "num_episodes": 4000, "eval_every": 4000}
    run_dir = tmp_path / "run"
    process = launch(2, *arguments({**changes, "run_dir": run_dir}))
    deadline = time.monotonic() + 60
    while len(read_log(run_dir)) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if to == "one of them":
        os.kill(children(process.pid)[1], signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert said.count("go on with: fastmaze train --resume") == 1, said
    kept = load_checkpoint(run_dir / "checkpoint.safetensors").metadata["learner"]
    assert kept["round"] == len(read_log(run_dir))


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(map(int, found))


def test_processes_share_the_draws_of_one() -> None:
    whole = np.random.default_rng(3)
    shares = [
        ShareOfDraws(np.random.default_rng(3).bit_generator, Processes(rank, 2))
        for rank in range(2)
    ]
    for _ in range(3):
        drawn = np.concatenate([share.random(5) for share in shares])
        np.testing.assert_array_equal(drawn, whole.random(10))
        drawn = np.concatenate([share.integers(0, 4, 5) for share in shares])
        np.testing.assert_array_equal(drawn, whole.integers(0, 4, 10))


@pytest.mark.parametrize("capacity", [3, 7, 12, 13, 40])
def test_processes_draw_the_batches_of_one(capacity: int) -> None:
    """Whatever the ring's end cuts; also when it has become larger, and after a checkpoint."""
    spec, size, N = make_spec("PassiveTMaze", length=2), 3, 6
    T = spec.episode_length

    def make(capacity: int) -> list[Replay]:
        options: dict[str, Any] = {"balance": 0.25, "num_envs": N}
        parts = [Processes(rank, size) for rank in range(size)]
        several = [Replay(spec, capacity, processes=part, **options) for part in parts]
        return [Replay(spec, capacity, **options), *several]

    def check(replays: list[Replay], marks: np.ndarray, seed: int) -> None:
        rewards = np.broadcast_to(marks.astype(np.float32), (T, N)).copy()
        obs = np.zeros((T + 1, N, spec.obs_shape[0]), np.float32)
        actions = np.zeros((T, N), np.uint8)
        success = marks % 5 == 0
        replays[0].add(obs, actions, rewards, success)
        for rank, replay in enumerate(replays[1:]):
            mine = slice(rank * N // size, (rank + 1) * N // size)
            replay.add(obs[:, mine], actions[:, mine], rewards[:, mine], success)
        whole, *shares = (replay.sample(50, np.random.default_rng(seed)) for replay in replays)
        drawn = np.concatenate([part.rewards[part.mask].numpy() for part in shares])
        assert sorted(drawn) == sorted(whole.rewards[whole.mask].numpy())
        assert all(part.mask.all() or len(part.mask) == 1 for part in shares)

    replays = make(capacity)
    for n in range(5):
        check(replays, np.arange(n * N, (n + 1) * N), n)
    states = [replay.get_state() for replay in replays]
    joined = joined_states(states[1:])
    alone = joined_states(states[:1])
    for name, value in alone.items():
        assert torch.equal(joined[name], value), name
    larger = make(capacity + 5)
    for replay, state in zip(larger, (alone, joined, joined, joined), strict=True):
        replay.set_state(state)
    for n in range(5, 10):
        check(larger, np.arange(n * N, (n + 1) * N), n)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 5}, "num_envs: expected a multiple of the 2 processes"),
        ({"eval_episodes": 1}, "eval_episodes: expected at least one for each of the 2"),
    ],
)
def test_what_cannot_be_split_is_refused(tiny: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_split(tiny(**changes), 2, 2)


def test_processes_that_do_not_meet_are_told_of(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Announced, but not started by torchrun; or one of two never comes."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="WORLD_SIZE: 2 processes are to train together, but"):
        train(tiny(), progress=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    monkeypatch.setattr(data_parallel, "MEETING_SECONDS", 1.0)
    with pytest.raises(ValueError, match=r"do not meet .*torchrun --nproc-per-node=2 -m fastmaze"):
        train(tiny(), progress=False)
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(ValueError, match="WORLD_SIZE: expected a number of processes, got 'many'"):
        train(tiny(), progress=False)
    assert not tiny().directory.exists()
