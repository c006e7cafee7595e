"""Protects the way of the data: exploration, whole episodes out of the envs, and the replay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import fastmaze
from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import make_spec
from fastmaze.training import TrainConfig
from fastmaze.training.learner import Learner
from fastmaze.training.network import build_network
from fastmaze.training.replay import Replay, replay_bytes, smallest_integer
from fastmaze.training.rollout import Collector, exploration

Make = Callable[..., TrainConfig]


def collector(config: TrainConfig, num_envs: int = 6) -> Collector:
    envs = fastmaze.make_vec(
        config.task,
        num_envs=num_envs,
        backend=config.backend,
        autoreset_mode="Disabled",
        **config.env_options,
    )
    envs.reset(seed=7)
    return Collector(envs)


@pytest.mark.parametrize("task", ["PassiveTMaze", "ActiveTMaze"])
def test_collected_episodes_are_what_the_rules_say(tiny: Make, task: str) -> None:
    """Every observation and reward belongs to its action; the replay's rows are whole episodes."""
    config = tiny(task=task)
    torch.manual_seed(0)
    network, spec = build_network(config), config.spec
    T = spec.episode_length
    collect = collector(config)
    rng = np.random.default_rng(0)
    replay = Replay(spec, 12)
    for _ in range(2):  # episodes 1 and 2 of each env; the collector's own reset began them
        played = collect.collect(network, epsilon=np.full((T, 6), 0.8), rng=rng)
        replay.add(played.obs, played.actions, played.rewards)
    for row in range(12):
        maze = TMaze(spec, env_index=row % 6)
        maze.reset(7)
        for _ in range(row // 6 + 1):
            obs = maze.reset()
        np.testing.assert_array_equal(replay.obs[row, 0], obs)
        for t in range(T):
            obs, reward, _ = maze.step(int(replay.actions[row, t]))
            np.testing.assert_array_equal(replay.obs[row, t + 1], obs)
            assert replay.rewards[row, t] == np.float32(reward)
    np.testing.assert_allclose(played.rewards.sum(0), played.returns, atol=1e-6)
    np.testing.assert_array_equal(played.rewards[-1] > 0, played.success)


def test_greedy_actions_are_those_of_the_network_over_the_whole_episode(tiny: Make) -> None:
    config = tiny(length=9, positions="sinusoidal")
    torch.manual_seed(1)
    network = build_network(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    played = collector(config).collect(network, keep_q_values=True)
    obs = torch.from_numpy(played.obs).transpose(0, 1)  # [N, T + 1, D]
    actions = torch.from_numpy(played.actions).long().T  # [N, T]
    with torch.no_grad():
        q = network(obs, actions)[:, :-1]  # [N, T, A]
    assert played.q_values is not None
    q_played = torch.from_numpy(played.q_values).transpose(0, 1)
    torch.testing.assert_close(q_played, q, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(played.actions, played.q_values.argmax(-1))


def test_exploration_happens_as_often_as_asked(tiny: Make) -> None:
    config = tiny(length=99)
    network = build_network(config)
    with torch.no_grad():
        network.head[-1].bias += torch.tensor([9.0, 0.0, 0.0, 0.0])  # greedy: always right
    T, N = config.spec.episode_length, 60
    epsilon = np.zeros((T, N))
    epsilon[:, N // 2 :] = 0.4
    epsilon[-1] = 1.0
    played = collector(config, N).collect(network, epsilon=epsilon, rng=np.random.default_rng(0))
    wrong = played.actions != 0
    assert not wrong[:-1, : N // 2].any()
    # A random action is the greedy one a quarter of the time. Within five standard errors.
    assert wrong[:-1, N // 2 :].mean() == pytest.approx(0.3, abs=5 * (0.21 / (99 * 30)) ** 0.5)
    assert wrong[-1].mean() == pytest.approx(0.75, abs=5 * (0.19 / 60) ** 0.5)


def test_exploration_spreads_over_envs_and_minds_both_ends() -> None:
    spec = make_spec("PassiveTMaze", length=9)
    chance = exploration(spec, 5, epsilon=0.2, spread=True, first_step=0.1, last_step=0.3)
    assert chance.shape == (10, 5)
    np.testing.assert_allclose(chance[5], [0.0, 0.05, 0.1, 0.15, 0.2])
    np.testing.assert_allclose(chance[0], [0.1, 0.1, 0.1, 0.15, 0.2])
    np.testing.assert_allclose(chance[-1], 0.3)
    flat = exploration(spec, 5, epsilon=0.2, spread=False, first_step=0.0, last_step=0.0)
    np.testing.assert_allclose(flat, 0.2)


def test_the_published_schedule_falls_from_one_to_its_end(tiny: Make) -> None:
    learner = Learner(
        tiny(preset="paper", num_envs=1, num_episodes=100, random_episodes=10, epsilon_anneal=0.2)
    )
    chances = []
    for episode in (0, 9, 10, 15, 19, 20, 99):
        learner.round = episode
        chances.append(learner._epsilon(1).mean())
    end = 1 / 6
    falling = [end + (1 - end) * (1 - episode / 20) for episode in (10, 15, 19)]
    assert chances == pytest.approx([1.0, 1.0, *falling, end, end])
    learner.close()


def test_replay_overwrites_the_oldest_episodes() -> None:
    spec = make_spec("PassiveTMaze", length=2)
    replay = Replay(spec, 5)

    def episodes(*numbers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        marks = np.array(numbers, np.float32)
        obs = np.broadcast_to(marks[None, :, None], (4, len(numbers), 2))
        return obs, np.zeros((3, len(numbers)), np.uint8), np.broadcast_to(marks, (3, len(marks)))

    replay.add(*episodes(1, 2, 3))
    assert replay.size == 3
    replay.add(*episodes(4, 5, 6))
    assert sorted(replay.rewards[:, 0]) == [2, 3, 4, 5, 6]
    replay.add(*episodes(*range(10, 22)))  # more than fit
    assert sorted(replay.obs[:, 0, 0]) == [17, 18, 19, 20, 21]
    batch = replay.sample(500, np.random.default_rng(0))
    assert batch.obs.shape == (500, 4, 2)
    assert set(batch.rewards[:, 0].tolist()) == {17, 18, 19, 20, 21}
    torch.testing.assert_close(batch.rewards, batch.obs[:, :3, 0])
    assert batch.terminated[:, -1].all()
    assert not batch.terminated[:, :-1].any()
    assert batch.mask.all()


def test_sampling_from_an_empty_replay_is_refused() -> None:
    replay = Replay(make_spec("PassiveTMaze"), 5)
    with pytest.raises(ValueError, match="expected a replay with episodes in it"):
        replay.sample(1, np.random.default_rng(0))


def test_observations_are_kept_in_the_smallest_type_that_holds_them() -> None:
    """A corridor beyond 127 or 32,767 cells must not wrap around."""
    assert smallest_integer((0.0, -1.0), (1.0, 1.0)) == torch.int8
    types = ((126, torch.int8), (128, torch.int16), (32_767, torch.int16), (32_768, torch.int32))
    for length, dtype in types:
        spec = make_spec("TMaze", corridor_length=length)
        assert Replay(spec, 1).obs.dtype == dtype
        T = spec.episode_length
        size = dtype.itemsize * (T + 1) * 3 + T + 4 * T
        assert replay_bytes(spec, 1) == size


def test_a_balanced_batch_holds_its_share_of_successes() -> None:
    """Once there are any; without, and with balance 0, it is the same draw as ever."""
    spec = make_spec("PassiveTMaze", length=2)
    plain, balanced = Replay(spec, 20), Replay(spec, 20, balance=0.25)

    def add(numbers: range, successes: set[int]) -> None:
        marks = np.array(numbers, np.float32)
        rewards = np.broadcast_to(marks, (3, len(marks)))
        episodes = (np.zeros((4, len(marks), 2), np.float32), np.zeros((3, len(marks)), np.uint8))
        success = np.array([number in successes for number in numbers])
        plain.add(*episodes, rewards, success)
        balanced.add(*episodes, rewards, success)

    def drawn(replay: Replay) -> list[float]:
        return replay.sample(40, np.random.default_rng(1)).rewards[:, 0].tolist()

    add(range(10), set())
    assert drawn(balanced) == drawn(plain)
    add(range(10, 20), {12, 15})
    assert set(drawn(balanced)[:10]) == {12, 15}
    assert drawn(balanced)[10:] == drawn(plain)[10:]
    other = Replay(spec, 20, balance=0.25)
    other.set_state(balanced.get_state())
    assert drawn(other) == drawn(balanced)
    add(range(20, 36), set())  # over both of them
    assert drawn(balanced) == drawn(plain)
