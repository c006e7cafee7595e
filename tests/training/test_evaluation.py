"""Protects what is said about an agent: known agents get the figures that they must get."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastmaze.training import (
    CheckpointError,
    TrainConfig,
    evaluate,
    evaluation,
    greedy_episode,
    load_agent,
    plot_curve,
    train,
)
from fastmaze.training.checkpoint import Checkpoint
from fastmaze.training.evaluation import EVAL_SEED, Evaluator, wilson_interval

Make = Callable[..., TrainConfig]


class Scripted(nn.Module):
    """Walks right; at the junction goes where the cue was, or always up."""

    def __init__(self, remembers: bool) -> None:
        super().__init__()
        self.remembers = remembers
        self.register_parameter("unused", nn.Parameter(torch.zeros(1)))

    def initial_state(self, batch_size: int, max_length: int) -> Tensor:
        return torch.zeros(batch_size)

    def step(self, obs: Tensor, previous: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        at_junction = obs[:, 0] == 1
        cue = torch.where(at_junction, state, state + obs[:, 1])
        arm = cue if self.remembers else torch.ones_like(cue)
        action = torch.where(at_junction, torch.where(arm > 0, 1, 3), 0)
        return nn.functional.one_hot(action, 4).float(), cue


def test_known_agents_get_their_figures(tiny: Make) -> None:
    evaluator = Evaluator(tiny(length=12), 1500)  # more than are played at once
    good = evaluator.evaluate(Scripted(remembers=True), EVAL_SEED)  # type: ignore[arg-type]
    assert (good.num_episodes, good.success, good.mean_return) == (1500, 1.0, 1.0)
    assert (good.success_stderr, good.return_stderr) == (0.0, 0.0)
    assert good.shares == {"cue_seen": 1.0, "junction": 1.0}
    assert good.recall == 1.0
    assert good.solved
    blind = evaluator.evaluate(Scripted(remembers=False), EVAL_SEED)  # type: ignore[arg-type]
    assert not blind.solved
    assert blind.success == pytest.approx(0.5, abs=5 * 0.5 / 1500**0.5)
    assert blind.mean_return == pytest.approx(blind.success)
    assert blind.success_stderr == pytest.approx(0.5 / 1500**0.5, rel=0.01)
    assert blind.return_stderr == pytest.approx(blind.success_stderr)
    assert (blind.shares["junction"], blind.recall) == (1.0, blind.success)
    evaluator.close()


def test_an_evaluation_that_cannot_succeed_any_more_may_end_early(tiny: Make) -> None:
    """The episodes that it did play are those of the whole evaluation; a good agent plays all."""
    evaluator = Evaluator(tiny(length=12), 640)
    for remembers, played in ((True, 640), (False, 64)):
        agent: Any = Scripted(remembers=remembers)
        short = evaluator.evaluate(agent, EVAL_SEED, until_failed=True)
        assert short.num_episodes == played
        whole = evaluator.evaluate(agent, EVAL_SEED)
        assert whole.num_episodes == 640
        assert short.solved == whole.solved == remembers
    first = Evaluator(tiny(length=12), 64)
    assert first.evaluate(agent, EVAL_SEED) == short
    evaluator.close()
    first.close()


def test_the_interval_of_success_is_wilsons() -> None:
    """Its ends solve the equation that it comes from; it stays sane where all succeed or none."""
    z = 1.959964
    for n, successes in ((1, 0), (10, 3), (1024, 1023), (1024, 1024)):
        share = successes / n
        low, high = wilson_interval(share, n)
        for end in {low, high} - {0.0, 1.0}:
            assert abs(share - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5, abs=1e-9)
        assert low <= share <= high
        mirrored = wilson_interval(1 - share, n)
        assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))
    assert wilson_interval(1.0, 1024) == pytest.approx((0.99626, 1.0), abs=1e-5)
    assert wilson_interval(0.0, 10)[0] == 0.0


def test_an_agent_that_never_arrives_has_no_recall(tiny: Make) -> None:
    class Late(Scripted):
        """Stays where it is."""

        def step(self, obs: Tensor, previous: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            q = torch.zeros(len(obs), 4)
            q[:, 1] = 1.0  # up, where there is a wall
            return q, state

    evaluator = Evaluator(tiny(length=12), 8)
    result = evaluator.evaluate(Late(remembers=True), EVAL_SEED)  # type: ignore[arg-type]
    evaluator.close()
    assert (result.success, result.shares["junction"], result.recall) == (0.0, 0.0, None)


def test_evaluations_play_other_mazes_than_training(tiny: Make) -> None:
    """The cues of an evaluation are neither those of training nor of another evaluation."""
    config = tiny(length=2, num_envs=64)
    evaluator = Evaluator(config, 64)
    network = Scripted(remembers=True)
    cues = []
    for seed in (config.seed, EVAL_SEED, EVAL_SEED + 1, EVAL_SEED):
        evaluator.evaluate(network, seed)  # type: ignore[arg-type]
        cues.append(evaluator.collector.obs[0, :, 1].copy())
    evaluator.close()
    np.testing.assert_array_equal(cues[1], cues[3])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert 10 < (cues[a] != cues[b]).sum() < 54


def test_a_trained_agent_is_evaluated_from_its_directory(tiny: Make) -> None:
    result = train(tiny(), progress=False)
    best = evaluate(result.run_dir, num_episodes=32)
    assert best == evaluate(result.run_dir / "best.safetensors", num_episodes=32)
    last = evaluate(result.run_dir / "checkpoint.safetensors", num_episodes=32)
    assert last.num_episodes == 32
    assert evaluate(result.run_dir, num_episodes=32, length=40).num_episodes == 32


def test_a_greedy_episode_tells_a_consistent_story(tiny: Make) -> None:
    run_dir = train(tiny(task="ActiveTMaze"), progress=False).run_dir
    for seed in range(4):
        episode = greedy_episode(run_dir, seed=seed)
        T = episode.spec.episode_length
        np.testing.assert_array_equal(episode.actions, episode.q_values.argmax(-1))
        positions = np.array([(maze.x, maze.y) for maze in episode.replayed()])
        *_, end = episode.replayed()
        assert tuple(positions[0]) == (1, 0)
        assert (np.abs(np.diff(positions, axis=0)).sum(-1) <= 1).all()
        at_junction = positions[:, 0] == end.spec.junction
        np.testing.assert_array_equal(episode.obs[:, 0] == 1, at_junction)
        assert episode.obs.shape == (T + 1, 2)
        assert episode.success == (end.y == end.goal_y)
        assert episode.success == (episode.rewards[-1] == 1.0)


def test_refusals(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found no agent in"):
        evaluate(tmp_path)
    with pytest.raises(FileNotFoundError, match="found none at"):
        evaluate(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="truncated or foreign"):
        evaluate(tmp_path / "text")
    with pytest.raises(ValueError, match="num_episodes: expected an integer of at least 1, got 0"):
        evaluate(tmp_path, num_episodes=0)
    run_dir = train(tiny(positions="learned"), progress=False).run_dir
    with pytest.raises(ValueError, match="seed: expected an integer from 0"):
        evaluate(run_dir, seed=-1)
    with pytest.raises(ValueError, match="expected at most 6, where this agent's learned"):
        evaluate(run_dir, length=40)


def test_an_agent_plays_where_its_gpu_is_not(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on a GPU, looked at on a laptop."""
    run_dir = train(tiny(), progress=False).run_dir
    here = evaluate(run_dir, num_episodes=8)
    load = evaluation.load_checkpoint

    def trained_elsewhere(path: Path) -> Checkpoint:
        kept = load(path)
        kept.metadata["config"]["device"] = "cuda:7"
        return kept

    monkeypatch.setattr(evaluation, "load_checkpoint", trained_elsewhere)
    with pytest.warns(
        UserWarning, match="trained on cuda:7, which is not here; it plays on the cpu"
    ):
        assert evaluate(run_dir, num_episodes=8) == here
    assert evaluate(run_dir, num_episodes=8, device="cpu") == here
    with pytest.raises(ValueError, match=r"device: expected (a|one of \d+) GPU"):
        load_agent(run_dir, device="cuda:7")


def test_a_length_need_not_fit_what_was_kept_for_training(tiny: Make) -> None:
    run_dir = train(tiny(replay_steps=48), progress=False).run_dir
    assert evaluate(run_dir, num_episodes=2, length=60).num_episodes == 2


def test_the_learning_curve_is_a_picture(tiny: Make, tmp_path: Path) -> None:
    run_dir = train(tiny(), progress=False).run_dir
    path = plot_curve(run_dir)
    assert path == run_dir / "learning_curve.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plot_curve(run_dir, tmp_path / "other.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="expected a run with evaluations"):
        plot_curve(tmp_path)


def test_missing_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastmaze\[plot\]"'):
        plot_curve(tmp_path)


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastmaze import requirements

    monkeypatch.setattr(requirements, "TRAINING_PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(ImportError, match=r'no_such_package.*pip install "fastmaze\[train\]"'):
        requirements.require_training_packages()
