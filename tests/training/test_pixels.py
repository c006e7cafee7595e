"""Protects training on other tasks than T-Mazes, and with a policy: one loop, one replay."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch

from fastmaze.commands import evaluate as evaluate_command
from fastmaze.play import replay
from fastmaze.reference.pixel_world import PixelWorld
from fastmaze.specs import TASKS, make_spec
from fastmaze.training import (
    TrainConfig,
    evaluate,
    greedy_episode,
    plot_curve,
    resume_training,
    train,
)
from fastmaze.training.attention_picture import last_looks
from fastmaze.training.collectors import make_collector
from fastmaze.training.learner import Learner
from fastmaze.training.memory import network_bytes, plan_memory
from fastmaze.training.network import build_network
from fastmaze.training.replay import Replay, replay_bytes
from fastmaze.training.rollout import draw_actions
from tests.training.runs import Crash, assert_same_run, crash_in_round

Make = Callable[..., TrainConfig]

CASES: dict[str, dict[str, Any]] = {
    "sac, gpt": {"task": "KeyToDoor", "algorithm": "sac-discrete"},
    "sac, lstm": {"task": "PassiveVisualMatch", "algorithm": "sac-discrete", "model": "lstm"},
    "sac, paper": {
        "task": "KeyToDoor",
        "algorithm": "sac-discrete",
        "preset": "paper",
        "num_heads": 2,
        "num_envs": 1,
        "num_episodes": 6,
    },
    "ddqn on pixels": {"task": "ActiveVisualMatch"},
    "ddqn on another task": {
        "task": "MemoryLength",
        "task_options": {"bits": 2},
        "action_width": 0,
    },
    "sac on a maze": {"algorithm": "sac-discrete"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_crashed_run_resumes_bit_for_bit(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Actions that a policy drew included."""
    changes = {"num_episodes": 24, "num_envs": 4, **CASES[case]}
    whole = train(tiny("whole", **changes), progress=False)
    with monkeypatch.context() as patch:
        crash_in_round(patch, 4)
        with pytest.raises(Crash):
            train(tiny("crashed", **changes), progress=False)
    crashed = tiny("crashed").directory
    resume_training(crashed, progress=False)
    assert_same_run(whole.run_dir, crashed)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_on_or_refused(tiny: Make, task: str) -> None:
    """A round at its default length (T-Mazes: 5); those that may end early are told so."""
    spec, dial = make_spec(task), TASKS[task].dial
    changes = {"task": task, "length": getattr(spec, dial, 5), "updates_per_round": 1}
    if spec.ends_early:
        with pytest.raises(ValueError, match=rf"task: .* those of {task} may end early"):
            tiny(**changes)
        return
    learner = Learner(tiny(**changes))
    assert np.isfinite(learner.collect().returns).all()
    assert np.isfinite(learner.learn().loss)
    learner.close()


def test_pixels_are_kept_as_they_are(tiny: Make) -> None:
    """Episodes are the specification's, in the replay and in a batch; a byte a channel."""
    config = tiny(task="KeyToDoor", algorithm="sac-discrete")
    spec, N = config.spec, 6
    envs, collector = make_collector(config, N)
    envs.reset(seed=7)
    network = build_network(config)
    rng = np.random.default_rng(0)
    replay = Replay(spec, N)
    played = collector.collect(network, rng=rng, sample=True)  # type: ignore[call-arg]
    replay.add(played.obs, played.actions, played.rewards)
    assert replay.obs.dtype == torch.uint8
    assert replay_bytes(spec, N) == N * (75 * (spec.episode_length + 1) + 5 * spec.episode_length)
    for row in range(N):
        world = PixelWorld(spec, env_index=row)
        world.reset(7)
        np.testing.assert_array_equal(replay.obs[row, 0], world.reset())
        for t in range(spec.episode_length):
            obs, reward, _ = world.step(int(replay.actions[row, t]))
            np.testing.assert_array_equal(replay.obs[row, t + 1], obs)
            assert replay.rewards[row, t] == reward
    batch = replay.sample(4, rng)
    assert batch.obs.dtype == torch.uint8
    assert batch.obs.shape == (4, spec.episode_length + 1, 3, 5, 5)
    envs.close()


def test_entries_that_are_no_whole_numbers_are_kept_as_floats() -> None:
    spec = make_spec("MemoryLength", length=4)
    assert Replay(spec, 1).obs.dtype == torch.float32
    assert Replay(make_spec("MemoryLength", length=4, show_time=False), 1).obs.dtype == torch.int8
    assert Replay(make_spec("PassiveTMaze", length=4), 1).obs.dtype == torch.int8


def test_actions_are_drawn_as_often_as_the_policy_says() -> None:
    policy = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    numbers = np.linspace(0, 1, 1000, endpoint=False) + 0.0005
    drawn = draw_actions(policy.log().expand(1000, 4), numbers)
    assert np.bincount(drawn, minlength=4).tolist() == [100, 0, 600, 300]
    assert draw_actions(policy.log(), np.array([np.nextafter(1.0, 0.0)])).tolist() == [3]


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_steps_agree_with_whole_episodes(tiny: Make, model: str) -> None:
    """What a rollout acted on is what an update sees."""
    config = tiny(task="PassiveVisualMatch", algorithm="sac-discrete", model=model)
    torch.manual_seed(1)
    network = build_network(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    envs, collector = make_collector(config, 5)
    envs.reset(seed=1)
    played = collector.collect(network, keep_q_values=True)
    obs = torch.from_numpy(np.asarray(played.obs)).transpose(0, 1)
    actions = torch.from_numpy(np.asarray(played.actions)).long().T
    with torch.no_grad():
        logits = network(obs, actions).logits[:, :-1]  # type: ignore[attr-defined]
    assert played.q_values is not None
    stepped = torch.as_tensor(played.q_values).transpose(0, 1)
    torch.testing.assert_close(stepped, logits, rtol=1e-4, atol=1e-4)
    envs.close()


@pytest.mark.parametrize("algorithm", ["ddqn", "sac-discrete"])
@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_memory_is_counted(algorithm: str, model: str, tiny: Make) -> None:
    config = TrainConfig(
        task="KeyToDoor",
        length=20,
        model=model,
        algorithm=algorithm,
        action_width=0,  # type: ignore[arg-type]
    )
    parameters = sum(p.numel() for p in build_network(config).parameters())
    assert network_bytes(config) == pytest.approx(5 * 4 * parameters, rel=0.02)
    learner = Learner(tiny(task="KeyToDoor", algorithm=algorithm, model=model))
    parts = {part.name: part.bytes for part in plan_memory(learner.config).parts}
    kept = (learner.replay.obs, learner.replay.actions, learner.replay.rewards)
    assert parts["replay"] == sum(x.nbytes for x in kept)
    arrays = (learner.collector.obs, learner.collector.actions, learner.collector.rewards)
    assert parts["episodes under way"] == sum(x.nbytes for x in arrays)
    learner.close()


def test_a_run_tells_what_the_task_counts(
    tiny: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key in Key-to-Door, no junction; in evaluations, the table, the curve, the replay."""
    result = train(tiny(task="KeyToDoor", algorithm="sac-discrete"))
    assert "key 0." in capsys.readouterr().out
    evaluated = [line for line in result.history if "eval_success" in line]
    assert all(line["eval_key_taken"] >= line["eval_success"] for line in evaluated)
    assert not any("junction" in name or "recall" in name for name in evaluated[0])
    assert all(0 < line["entropy"] < 1.39 for line in result.history)
    assert plot_curve(result.run_dir).is_file()
    found = evaluate(result.run_dir, num_episodes=8)
    assert found.shares.keys() == {"key_taken"}
    assert found.recall is None
    assert evaluate_command.run([str(result.run_dir), "--episodes", "8"]) == 0
    table = capsys.readouterr().out
    assert "key taken" in table
    assert "junction" not in table
    episode = greedy_episode(result.run_dir)
    *_, world = episode.replayed()
    assert (world.over, world.statistics().success) == (True, episode.success)
    assert world.statistics().episode_return == episode.rewards.sum()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out := StringIO())
        assert replay(result.run_dir, fps=0) == 0
    frames = out.getvalue().strip().split("\n\n")
    assert len(frames) == episode.spec.episode_length + 1
    for number, words in ((0, ("explore", "goes ")), (-1, ("reward", "success."))):
        assert all(word in frames[number] for word in words)
    with pytest.raises(ValueError, match=r"attention: expected an agent of a T-Maze.*KeyToDoor"):
        last_looks(result.run_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "KeyToDoor", "task_options": {"flat": True}}, r"task_options: .*leave out flat"),
        ({"task": "KeyToDoor", "backend": "numba"}, r"backend: KeyToDoor has \('native', "),
        ({"algorithm": "sac-discrete", "backend": "device"}, "backend: device plays greedily"),
        ({"algorithm": "sac"}, r"algorithm: expected one of \('ddqn', 'sac-discrete'\), got 'sac'"),
        ({"task": "MemoryLength", "preset": "paper"}, "preset: paper has T-Mazes and pixel worlds"),
        (
            {"algorithm": "sac-discrete", "temperature": -1.0},
            "temperature: expected a finite number",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


def test_paper_preset_holds_the_published_values() -> None:
    match = TrainConfig(
        task="PassiveVisualMatch", length=60, algorithm="sac-discrete", preset="paper"
    )
    hyper = match.hyper
    assert (hyper.width, hyper.obs_width, hyper.action_width) == (100, 100, 0)
    assert (hyper.num_layers, hyper.num_heads, hyper.positions) == (1, 1, "sinusoidal")
    assert (hyper.temperature, hyper.discount, hyper.target_rate) == (0.1, 0.99, 0.005)
    assert (hyper.learning_rate, hyper.grad_clip, hyper.batch_size) == (3e-4, 0.0, 64)
    assert (hyper.num_envs, hyper.random_episodes, hyper.updates_per_round) == (1, 10, 23)
    assert (hyper.epsilon, hyper.epsilon_anneal, hyper.act_with_target) == (0.0, 0.0, False)
    assert (hyper.num_episodes, hyper.replay_steps, hyper.dropout) == (40_000, 1_000_000, 0.1)
    door = TrainConfig(
        task="KeyToDoor", length=250, model="lstm", algorithm="sac-discrete", preset="paper"
    ).hyper
    assert (door.width, door.num_layers, door.num_episodes) == (128, 2, 30_000)
