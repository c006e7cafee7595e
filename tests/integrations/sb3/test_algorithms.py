"""The algorithms of SB3 and sb3-contrib run on FastMazeVecEnv, and their buffers hold the cue.

The cue is in the first observation of an episode and nowhere else: a buffer that gets it wrong
(by a row of another step, or by memory that a later step overwrites) leaves nothing to learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="nox -s sb3")
pytest.importorskip("sb3_contrib", reason="nox -s sb3")

import torch
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy

import fastmaze
from fastmaze.integrations.sb3 import FastMazeVecEnv

NUM_ENVS, LENGTH, EPISODES = 16, 5, 3
T = LENGTH + 1
ON_POLICY: dict[str, Any] = {"n_steps": EPISODES * T, "seed": 3, "device": "cpu"}
OFF_POLICY: dict[str, Any] = {
    "buffer_size": NUM_ENVS * EPISODES * T,
    "learning_starts": NUM_ENVS,
    "train_freq": 1,
    "batch_size": 32,
    "seed": 3,
    "device": "cpu",
}
STEPS = NUM_ENVS * EPISODES * T
SMALL = {"batch_size": 96, "n_epochs": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(**kwargs: Any) -> FastMazeVecEnv:
    return FastMazeVecEnv("PassiveTMaze", NUM_ENVS, length=LENGTH, **kwargs)


def goals() -> np.ndarray:
    """Of the first episodes with seed 3, by the specification env: [EPISODES, NUM_ENVS]."""
    drawn = np.empty((EPISODES, NUM_ENVS))
    for i in range(NUM_ENVS):
        env = fastmaze.make("PassiveTMaze", length=LENGTH, env_index=i)
        for k in range(EPISODES):
            env.reset(seed=3 if k == 0 else None)
            drawn[k, i] = env.maze.goal_y
            for _ in range(T):
                env.step(0)
    assert {-1, 1} == set(drawn.flat)
    return drawn


ON_POLICY_CASES = {
    "RecurrentPPO": (RecurrentPPO, "MlpLstmPolicy", SMALL),
    "PPO": (PPO, "MlpPolicy", SMALL),
    "A2C": (A2C, "MlpPolicy", {}),
}


@pytest.mark.parametrize("name", ON_POLICY_CASES)
def test_the_cue_is_in_the_rollout_buffer(name: str) -> None:
    """The first observation of every episode, by the buffer's own episode_starts, is the cue."""
    algorithm, policy, options = ON_POLICY_CASES[name]
    model = algorithm(policy, make(), **ON_POLICY, **options)
    seen: list[Any] = []

    def keep(local: Any, _: Any) -> bool:
        # Collection fills these arrays; sampling later puts others in their place.
        buffer = local["rollout_buffer"]
        seen[:] = [buffer.observations, buffer.episode_starts, buffer.rewards]
        return True

    model.learn(STEPS, callback=keep)
    obs, starts, rewards = (np.asarray(array) for array in seen)
    wanted = goals()
    rows = np.flatnonzero(starts.all(axis=1))
    np.testing.assert_array_equal(rows, np.arange(EPISODES) * T)
    assert not starts[np.setdiff1d(np.arange(EPISODES * T), rows)].any()
    for k, row in enumerate(rows):
        np.testing.assert_array_equal(obs[row], np.stack([0 * wanted[k], wanted[k]], axis=1))
    # In the corridor nothing shows: what is left of the cue is in the agent's memory alone.
    np.testing.assert_array_equal(obs[rows + 1][..., 0], 0)
    assert rewards[rows + T - 1].min() >= 0  # the goal's reward or none


@pytest.mark.parametrize("algorithm", [DQN, QRDQN])
def test_the_cue_is_in_the_replay_buffer(algorithm: Any) -> None:
    """As above; and the last next_observation of an episode is its own, not the next one's cue."""
    model = algorithm("MlpPolicy", make(), **OFF_POLICY)
    model.learn(STEPS)
    buffer, wanted = model.replay_buffer, goals()
    dones = buffer.dones.astype(bool)
    rows = np.arange(EPISODES) * T
    np.testing.assert_array_equal(np.flatnonzero(dones.all(axis=1)), rows + T - 1)
    assert dones.sum() == EPISODES * NUM_ENVS
    for k, row in enumerate(rows):
        np.testing.assert_array_equal(
            buffer.observations[row], np.stack([0 * wanted[k], wanted[k]], axis=1)
        )
    np.testing.assert_array_equal(
        buffer.next_observations[:-1][~dones[:-1]], buffer.observations[1:][~dones[:-1]]
    )
    # The last reward says whether the agent stands in the goal cell; its observation agrees.
    last, arm = buffer.rewards[rows + T - 1], buffer.next_observations[rows + T - 1]
    solved = (arm[..., 0] == 1) & (arm[..., 1] == wanted)
    np.testing.assert_array_equal(last, solved)
    assert not buffer.timeouts.any()


def test_sb3_sees_returns_lengths_and_successes() -> None:
    """Its log has them without Monitor."""
    model = PPO("MlpPolicy", make(), **ON_POLICY, **SMALL)
    model.learn(STEPS)
    assert len(model.ep_info_buffer) == len(model.ep_success_buffer) == NUM_ENVS * EPISODES
    for episode, solved in zip(model.ep_info_buffer, model.ep_success_buffer, strict=True):
        assert episode["l"] == T
        assert solved == (episode["r"] > 0)
        assert -1 <= episode["r"] <= 1


class Oracle:
    """Remembers each cue, walks right and turns where the cue said: solves every whole episode."""

    def predict(self, obs: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
        cue = obs[:, 1] if state is None else np.where(episode_start, obs[:, 1], state)
        return np.where(obs[:, 0] == 1, np.where(cue > 0, 1, 3), 0), cue


@pytest.mark.parametrize("stagger", [False, True])
def test_evaluation_counts_whole_episodes_alone(stagger: bool) -> None:
    """What a staggered reset cuts short cannot be solved; a perfect agent must still look so."""
    envs = FastMazeVecEnv("PassiveTMaze", 11, length=10, seed=0, stagger=stagger)
    told: list[Any] = []

    def keep(local: Any, _: Any) -> None:
        told.append((local["done"], local["info"].get("is_success")))

    for _ in range(2):  # the second reset staggers anew
        returns, lengths = evaluate_policy(
            Oracle(), envs, n_eval_episodes=22, return_episode_rewards=True, callback=keep
        )
        assert returns == [1.0] * 22
        assert lengths == [11] * 22
    successes = [success for done, success in told if done and success is not None]
    assert successes == [True] * 44
    if stagger:
        assert sum(done for done, _ in told) == 44 + 2 * 9  # and nine that are cut short


def test_logs_count_whole_episodes_alone() -> None:
    """ep_rew_mean and success_rate of a staggered population leave out what is cut short."""
    model = PPO("MlpPolicy", make(stagger=True), **ON_POLICY, **SMALL)
    model.learn(STEPS)
    assert model.ep_info_buffer
    assert {episode["l"] for episode in model.ep_info_buffer} == {T}
    assert len(model.ep_info_buffer) == len(model.ep_success_buffer)


@pytest.mark.parametrize("name", ["PassiveVisualMatch", "MiniGridMemory"])
def test_pixels(name: str) -> None:
    """MlpPolicy and MlpLstmPolicy take the small pictures; CnnPolicy is made for larger ones."""
    envs = FastMazeVecEnv(name, 4)
    options: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "device": "cpu"}
    RecurrentPPO("MlpLstmPolicy", envs, **options).learn(64)
    model = PPO("MlpPolicy", envs, **options)
    model.learn(64)
    shape = envs.observation_space.shape
    # SB3 puts the colours first.
    assert sorted(model.rollout_buffer.observations.shape[-3:]) == sorted(shape)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        PPO("CnnPolicy", envs, **options)


def test_sb3_does_not_take_make_vec() -> None:
    """Gymnasium's vector env is none of SB3's; if that changes, the documentation has to."""
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=4, length=LENGTH)
    with pytest.raises(ValueError, match="expect OpenAI Gym to be installed"):
        PPO("MlpPolicy", envs)


def test_evaluation_and_saved_models(tmp_path: Path) -> None:
    """evaluate_policy reads returns and lengths; a loaded model goes on with new envs."""
    evaluation = EvalCallback(make(seed=1), n_eval_episodes=32, eval_freq=T, verbose=0)
    model = RecurrentPPO("MlpLstmPolicy", make(), **ON_POLICY, **SMALL)
    model.learn(STEPS, callback=evaluation)
    returns, lengths = evaluate_policy(
        model, make(seed=1), n_eval_episodes=32, return_episode_rewards=True
    )
    assert lengths == [T] * 32
    assert all(-1 <= value <= 1 for value in returns)
    model.save(tmp_path / "model")
    again = RecurrentPPO.load(tmp_path / "model", env=make())
    again.learn(STEPS)


def test_same_seed_same_training() -> None:
    weights = []
    for _ in range(2):
        model = PPO("MlpPolicy", make(), **ON_POLICY, **SMALL)
        model.learn(STEPS)
        weights.append(model.policy.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
