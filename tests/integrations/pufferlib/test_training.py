"""PufferLib's own trainer sees the cue, and learns to remember it.

The cue is in the first observation of an episode and nowhere else: a buffer that gets it wrong (by
a row of another step, or by memory that a later step overwrites) leaves nothing to learn.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pufferlib", reason="nox -s pufferlib")

import torch

import fastmaze
from fastmaze.integrations.pufferlib import make_puffer_vec
from tests.integrations.snippets import ROOT, run_snippet, snippets

EXAMPLE = ROOT / "examples" / "pufferlib_ppo_lstm.py"
NUM_ENVS, LENGTH, EPISODES = 16, 5, 4
T = LENGTH + 1


@pytest.fixture(scope="module")
def example() -> Any:
    """examples/pufferlib_ppo_lstm.py as a module."""
    spec = importlib.util.spec_from_file_location("pufferlib_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def goals(seed: int, first_episode: int) -> np.ndarray:
    """Drawn by the specification env: [NUM_ENVS, EPISODES]."""
    drawn = np.empty((NUM_ENVS, EPISODES))
    for i in range(NUM_ENVS):
        env = fastmaze.make("PassiveTMaze", length=LENGTH, env_index=i)
        for k in range(first_episode + EPISODES):
            obs, _ = env.reset(seed=seed if k == 0 else None)
            if k >= first_episode:
                drawn[i, k - first_episode] = obs[1]
    return drawn


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")
@pytest.mark.parametrize(
    "way",
    [
        {"num_workers": 1},
        {"num_workers": 2, "vectorisation": "Serial"},
        {"num_workers": 2, "vec_options": {"overwork": True}},
    ],
    ids=["alone", "serial", "processes"],
)
def test_the_cue_survives(way: dict[str, Any], example: Any, tmp_path: Path) -> None:
    """PuffeRL's experience holds the cue of every episode in its first row, and nowhere else."""
    batch = NUM_ENVS * EPISODES * T
    config = example.CONFIG | {
        "seed": 3, "total_timesteps": 10 * batch, "data_dir": str(tmp_path), "batch_size": batch,
        "bptt_horizon": EPISODES * T, "minibatch_size": batch, "max_minibatch_size": batch,
    }  # fmt: skip
    envs = make_puffer_vec("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH, **way)
    trainer = example.Trainer(config, envs, example.make_policy(envs.driver_env))
    try:
        for rollout in range(2):
            trainer.evaluate()
            obs = trainer.observations.numpy()  # [NUM_ENVS, EPISODES * T, 2]
            np.testing.assert_array_equal(obs[:, ::T, 1], goals(3, rollout * EPISODES))
            assert not obs[:, ::T, 0].any()
            on_the_way = np.arange(EPISODES * T) % T != 0
            corridor = obs[:, on_the_way]
            assert not corridor[corridor[:, :, 0] == 0].any()
            # PufferLib stores with an observation what came with it: the end of the last episode.
            ends = np.zeros((NUM_ENVS, EPISODES * T))
            ends[:, (0 if rollout else T) :: T] = 1
            np.testing.assert_array_equal(trainer.terminals.numpy(), ends)
            trainer.train()
    finally:
        trainer.close()


@pytest.mark.slow
def test_the_example_solves_the_maze(tmp_path: Path) -> None:
    """Two workers, the paper's penalty: the last line of the log is at least 0.9."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--data-dir", str(tmp_path)],
        capture_output=True, text=True, timeout=900, cwd=tmp_path, check=True,
    )  # fmt: skip
    match = re.fullmatch(r"success (\d\.\d+) over (\d+) episodes", done.stdout.splitlines()[-1])
    assert match, done.stdout
    assert float(match[1]) >= 0.9
    assert int(match[2]) >= 256


def test_snippet(tmp_path: Path) -> None:
    """What docs/plug-ins.md shows runs as it stands."""
    (code,) = snippets("PufferLib")
    assert run_snippet(code, tmp_path) == "1.0 True\n"


def test_pins_the_torch_that_is_tested() -> None:
    """The kernels of PufferLib's trainer were built against this torch, and are there."""
    from pufferlib import _C  # noqa: F401

    assert hasattr(torch.ops.pufferlib, "compute_puff_advantage")
