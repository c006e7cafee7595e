"""The cue is where RLlib keeps what its agents saw, and an agent that sees it learns to use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray's RLlib is missing: nox -s rllib")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

import fastmaze  # noqa: E402
from tests.integrations.rllib.runners import make_config, make_runner, whole  # noqa: E402
from tests.integrations.snippets import ROOT, run_snippet, snippets  # noqa: E402

LENGTH, NUM_ENVS = 6, 64


def test_cue_is_in_the_episodes() -> None:
    """Each episode begins with its cue, also where samples cut it up, and then never shows it."""
    runner = make_runner(make_config(num_envs=NUM_ENVS, length=LENGTH))
    chunks: list[Any] = []
    for _ in range(10):
        chunks += runner.sample(num_timesteps=NUM_ENVS * 5, random_actions=True)
    episodes = whole(chunks)
    assert len(episodes) >= 7 * NUM_ENVS
    cues = np.stack([episode.get_observations(0) for episode in episodes])
    _assert_cues(cues)
    for episode in episodes:
        obs = episode.get_observations()[1:]
        assert not obs[obs[:, 0] == 0, 1].any()
    # The cues are the goals: the envs of the same seed, that go up or down as they tell, succeed.
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH)
    envs.reset(seed=7)
    for _ in range(LENGTH):
        envs.step(np.zeros(NUM_ENVS, np.int64))
    _, _, _, _, info = envs.step(np.where(cues[:NUM_ENVS, 1] > 0, 1, 3))
    assert info["success"].all()


def test_cue_is_in_the_train_batch(cluster: None) -> None:
    """RLlib's learner trains on sequences, each of which begins with its episode's cue."""
    config = make_config(num_envs=NUM_ENVS, length=LENGTH)
    # PPO adds a step to each episode, to have a place for its last value.
    config.rl_module(model_config={**config.model_config, "max_seq_len": LENGTH + 2})
    algorithm = config.build_algo()
    try:
        learner = algorithm.learner_group._learner
        seen: list[Any] = []
        loss = learner.compute_losses

        def keep(*, fwd_out: Any, batch: Any) -> Any:
            seen.append(batch["default_policy"]["obs"].clone().numpy())
            return loss(fwd_out=fwd_out, batch=batch)

        learner.compute_losses = keep
        algorithm.train()
    finally:
        algorithm.stop()
    assert seen
    for sequences in seen:
        assert sequences.shape[1:] == (LENGTH + 2, 2)
        _assert_cues(sequences[:, 0])
        later = sequences[:, 1:]
        assert not later[later[..., 0] == 0][:, 1].any()


@pytest.mark.slow
def test_example_learns(tmp_path: Path) -> None:
    """The training example's agent remembers the cue in at least nine episodes of ten."""
    script = ROOT / "examples" / "rllib_ppo_lstm.py"
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    match = re.match(r"success over 512 greedy episodes: ([\d.]+) ", last)
    assert match, last
    assert float(match[1]) >= 0.9


def test_documented_code_runs(tmp_path: Path) -> None:
    """The Python in docs/plug-ins.md runs as it stands."""
    for code in snippets("RLlib"):
        assert "PassiveTMaze" in code
        run_snippet(code, tmp_path)


def _assert_cues(obs: np.ndarray[Any, Any]) -> None:
    """Obs [B, 2] are of the start: no junction, and a cue up or down, both of which occur."""
    assert (obs[:, 0] == 0).all()
    assert set(obs[:, 1].tolist()) == {-1.0, 1.0}
