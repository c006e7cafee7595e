"""The env runner keeps RLlib's contracts: it returns what RLlib's own sampling would have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray's RLlib is missing: nox -s rllib")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

import torch  # noqa: E402
from ray.rllib.callbacks.callbacks import RLlibCallback  # noqa: E402
from ray.rllib.connectors.env_to_module import MeanStdFilter  # noqa: E402
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner  # noqa: E402
from ray.util.debug import reset_log_once  # noqa: E402

import fastmaze  # noqa: E402
from fastmaze.integrations.rllib import FastMazeEnvRunner, register_envs  # noqa: E402
from tests.integrations.rllib.runners import (  # noqa: E402
    OneByOne,
    assert_same,
    make_config,
    make_runner,
    whole,
)

TASKS = [
    ("PassiveTMaze", {"length": 10}),
    ("PassiveTMaze", {"length": 10, "stagger": True}),
    ("ActiveTMaze", {"length": 3}),
    ("HeavenHell", {}),  # episodes end when they like
]


@pytest.mark.parametrize("random_actions", [True, False])
@pytest.mark.parametrize(("task", "options"), TASKS)
def test_samples_are_those_of_rllib(
    task: str, options: dict[str, Any], random_actions: bool
) -> None:
    """Chunks, lookback, infos, outputs and states are bit for bit what RLlib's own way gives."""
    runners = []
    for cls in (FastMazeEnvRunner, OneByOne):
        runner = make_runner(make_config(task, runner=cls, **options))
        runner.env.action_space.seed(3)
        runners.append(runner)
    for num_timesteps in (30, 6, 7, 66, 100, 200):
        samples = []
        for runner in runners:
            torch.manual_seed(num_timesteps)
            samples.append(
                runner.sample(num_timesteps=num_timesteps, random_actions=random_actions)
            )
        _assert_same_episodes(*samples)
    first, second = (runner.get_metrics() for runner in runners)
    _assert_same_metrics(first, second)


def test_samples_of_pictures() -> None:
    """The same with pictures, uint8, which RLlib's own networks do not take as they are."""
    runners = []
    for cls in (FastMazeEnvRunner, OneByOne):
        runner = make_runner(make_config("KeyToDoor", runner=cls))
        runner.env.action_space.seed(3)
        runners.append(runner)
    for num_timesteps in (200, 300):
        _assert_same_episodes(
            *(runner.sample(num_timesteps=num_timesteps, random_actions=True) for runner in runners)
        )


@pytest.mark.parametrize("lookback", [0, 3])
def test_lookback(lookback: int) -> None:
    """Chunks look back as many steps as the configuration says, as far as their episode goes."""
    runners = [
        make_runner(make_config(runner=cls, lookback=lookback, lstm=False, length=10))
        for cls in (FastMazeEnvRunner, OneByOne)
    ]
    for num_timesteps in (24, 30, 6, 6, 12, 60):
        samples = []
        for runner in runners:
            torch.manual_seed(num_timesteps)
            samples.append(runner.sample(num_timesteps=num_timesteps))
        _assert_same_episodes(*samples)


@pytest.mark.parametrize("explore", [True, False])
def test_whole_episodes(explore: bool) -> None:
    """`num_episodes` gives that many, from a reset on, and nothing unfinished."""
    runners = [
        make_runner(make_config(runner=cls, length=4)) for cls in (FastMazeEnvRunner, OneByOne)
    ]
    for num_episodes in (6, 9, 1):
        samples = []
        for runner in runners:
            torch.manual_seed(num_episodes)
            samples.append(runner.sample(num_episodes=num_episodes, explore=explore))
        assert len(samples[0]) == num_episodes
        assert all(episode.is_done for episode in samples[0])
        _assert_same_episodes(*samples)


def test_random_steps_before_the_module() -> None:
    """Episodes that random actions began go on with the module, from its initial state."""
    runner = make_runner(make_config(length=10))
    chunks = runner.sample(num_timesteps=6 * 4, random_actions=True)
    chunks += runner.sample(num_timesteps=6 * 7)
    episodes = whole([chunk for chunk in chunks if chunk.t_started == 0])
    assert [len(chunk) for chunk in chunks] == [4] * 6 + [7] * 6
    assert all(chunk.is_done for chunk in chunks[6:])
    assert "state_out" in chunks[6].extra_model_outputs
    assert len(episodes) == 6


def test_stream_is_that_of_make_vec() -> None:
    """The same seed and actions give the observations and rewards of `fastmaze.make_vec`."""
    n, length = 5, 6
    runner = make_runner(make_config(num_envs=n, length=length))
    chunks: list[Any] = []
    for num_timesteps in (17, 40, 33):
        chunks += runner.sample(num_timesteps=num_timesteps, random_actions=True)
    episodes = whole(chunks)
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=n, length=length)
    obs, _ = envs.reset(seed=7)
    # All episodes have the same length, so they begin in the order of their envs.
    for first in range(0, len(episodes), n):
        batch = episodes[first : first + n]
        for t in range(len(batch[0])):
            actions = np.array([episode.get_actions(t) for episode in batch])
            assert_same(np.stack([episode.get_observations(t) for episode in batch]), obs)
            obs, rewards, terminated, _, _ = envs.step(actions)
            assert_same(np.stack([episode.get_rewards(t) for episode in batch]), rewards)
        if not terminated.all():
            break
        assert all(episode.is_terminated for episode in batch)
        assert_same(np.stack([episode.get_observations(-1) for episode in batch]), obs)
        obs = envs.step(actions)[0]
    assert len(episodes) >= 3 * n


def test_runners_share_one_population() -> None:
    """Runner 1 has the first envs of a population and runner 2 the next ones."""
    config = make_config(num_envs=16, length=3)
    starts = [
        [episode.get_observations(0) for episode in make_runner(config, i).sample(num_episodes=16)]
        for i in (1, 2)
    ]
    obs, _ = fastmaze.make_vec("PassiveTMaze", num_envs=32, length=3).reset(seed=7)
    assert_same(np.concatenate(starts), obs)


def test_goals_are_not_repeated() -> None:
    """Samples of whole episodes reset the envs, but do not seed them again and again."""
    runner = make_runner(make_config(num_envs=64, length=3))
    first, second = (
        np.stack([episode.get_observations(0) for episode in runner.sample(num_episodes=64)])
        for _ in range(2)
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("runner", [FastMazeEnvRunner, OneByOne])
def test_whole_episodes_are_not_staggered(runner: Any) -> None:
    """Whole episodes begin at their starts; samples of so many steps have their clocks spread."""
    sampler = make_runner(make_config(num_envs=11, runner=runner, length=10, stagger=True))
    for _ in range(2):
        episodes = sampler.sample(num_episodes=11, random_actions=True)
        assert [len(episode) for episode in episodes] == [11] * 11
    chunks = sampler.sample(num_timesteps=11 * 11, random_actions=True)
    ended = {episode.id_: episode.t for episode in chunks if episode.is_done}
    assert len(set(ended.values())) > 5


def test_batches_of_complete_episodes_are_not_staggered() -> None:
    config = make_config(num_envs=11, length=10, stagger=True)
    config.env_runners(batch_mode="complete_episodes")
    assert [len(episode) for episode in make_runner(config).sample()] == [11] * 11


def test_evaluations_are_not_staggered() -> None:
    """Runners that evaluate inherit env_config, and may be asked for steps, too."""
    config = make_config(num_envs=11, length=10, stagger=True)
    config.in_evaluation = True
    episodes = make_runner(config).sample(num_timesteps=11 * 11, random_actions=True)
    assert [len(episode) for episode in episodes] == [11] * 11
    assert all(episode.is_done for episode in episodes)


def test_metrics() -> None:
    """Returns and lengths are of whole episodes, also of those that came in chunks."""
    runner = make_runner(make_config(num_envs=8, length=10))
    chunks: list[Any] = []
    for _ in range(3):
        chunks += runner.sample(num_timesteps=8 * 4, random_actions=True)
    num_steps = sum(map(len, chunks))
    metrics = runner.get_metrics()
    episodes = [episode for episode in whole(chunks) if episode.is_done]
    assert len(episodes) == 8
    assert metrics["episode_len_mean"].peek() == 11
    assert metrics["num_env_steps_sampled"].peek() == num_steps
    expected = np.mean([episode.get_rewards().sum() for episode in episodes])
    assert metrics["episode_return_mean"].peek() == pytest.approx(expected, rel=1e-5)
    # Of each episode that ended, the earlier chunks are forgotten.
    assert len(runner._ongoing_episodes_for_metrics) == 8


def test_arrays_are_private() -> None:
    """What a learner writes into an episode reaches neither other episodes nor the next sample."""
    runner, twin = (make_runner(make_config(num_envs=3, lstm=False, length=10)) for _ in range(2))
    for _ in range(4):
        torch.manual_seed(0)
        sample = runner.sample(num_timesteps=3 * 7)
        torch.manual_seed(0)
        _assert_same_episodes(sample, twin.sample(num_timesteps=3 * 7))
        for episode in sample:
            for array in (episode.observations.data, episode.actions.data, episode.rewards.data):
                array[...] = 3
            # Infos as well: the shared one refuses, and copies of it and the last one take it.
            *shared, last = episode.infos.data
            if episode.is_done:
                last["mine"] = 1
            else:
                shared.append(last)
            for info in shared:
                with pytest.raises(TypeError, match="share one empty dict"):
                    info["mine"] = 1
                with pytest.raises(TypeError, match="share one empty dict"):
                    info.update(mine=1)
                assert info == {}
                for copied in (dict(info), info.copy()):
                    copied["mine"] = 1


class Steps(RLlibCallback):  # type: ignore[misc]
    count = 0

    def on_episode_step(self, **kwargs: Any) -> None:
        Steps.count += 1


def test_callbacks_of_single_steps_are_called() -> None:
    """Who asks to be told of single episodes is told of each of their steps."""
    Steps.count = 0
    runner = make_runner(make_config(length=10).callbacks(Steps))
    sample = runner.sample(num_timesteps=6 * 5)
    assert Steps.count == sum(map(len, sample)) == 30


def test_connectors_of_ones_own_see_the_episodes() -> None:
    """A filter of observations changes the observations in the episodes, as it does in RLlib."""
    config = make_config(length=10).env_runners(
        env_to_module_connector=lambda env=None, spaces=None, device=None: MeanStdFilter()
    )
    sample = make_runner(config).sample(num_timesteps=6 * 22)
    values = np.concatenate([episode.get_observations() for episode in sample])
    assert not np.isin(values, [-1, 0, 1]).all()


class Starts(RLlibCallback):  # type: ignore[misc]
    def on_episode_start(self, **kwargs: Any) -> None:
        pass


class Samples(RLlibCallback):  # type: ignore[misc]
    def on_sample_end(self, **kwargs: Any) -> None:
        pass


def _no_end(**kwargs: Any) -> None:
    pass


def test_the_slow_way_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """What costs the speed is named, once; a callback that costs nothing is not."""
    filtered = make_config().env_runners(
        env_to_module_connector=lambda env=None, spaces=None, device=None: MeanStdFilter()
    )
    for config, reason in (
        (make_config().callbacks(Starts), "the callback Starts.on_episode_start"),
        (make_config().callbacks(on_episode_end=_no_end), "the callback on_episode_end=..."),
        (filtered, "the connectors MeanStdFilter in EnvToModulePipeline"),
        (make_config().env_runners(episodes_to_numpy=False), "episodes_to_numpy=False"),
        (make_config().callbacks(Samples), None),
    ):
        caplog.clear()
        reset_log_once()
        runner = make_runner(config)
        for _ in range(3):
            runner.sample(num_timesteps=6)
        ours = [record for record in caplog.records if record.name.startswith("fastmaze")]
        assert len(ours) == (reason is not None)
        for record in ours:
            assert record.levelname == "WARNING"
            assert reason is not None
            assert reason in record.getMessage()
            assert "on_sample_end" in record.getMessage()


def test_plain_names_of_tasks(cluster: None) -> None:
    """RLlib's configuration takes "PassiveTMaze" as well as the id."""
    config = make_config(length=4)
    algorithm = config.environment("PassiveTMaze").build_algo()
    try:
        assert algorithm.train()["env_runners"]["num_env_steps_sampled"] == 6 * 7
    finally:
        algorithm.stop()


# Each of RLlib's own runners registers its env under one name.
@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_rllibs_own_runner(mode: str) -> None:
    """`register_envs` gives RLlib's own runner one population, or single envs, of the task."""
    register_envs()
    config = make_config(runner=SingleAgentEnvRunner, num_envs=3, length=4)
    config.env_runners(gym_env_vectorize_mode=mode)
    runner = make_runner(config)
    is_population = isinstance(runner.env.unwrapped, fastmaze.FastMazeVectorEnv)
    assert is_population == (mode == "vector_entry_point")
    sample = runner.sample(num_episodes=3)
    assert [len(episode) for episode in sample] == [5] * 3


def test_remote_runners(cluster: None) -> None:
    """Runners in other processes send their episodes to a learner, which trains on them."""
    config = make_config(num_envs=8, length=6).env_runners(num_env_runners=2)
    config.training(train_batch_size_per_learner=2 * 8 * 7)
    algorithm = config.build_algo()
    try:
        result = algorithm.train()
    finally:
        algorithm.stop()
    assert result["env_runners"]["num_env_steps_sampled"] == 2 * 8 * 7
    assert result["env_runners"]["episode_len_mean"] == 7
    assert result["learners"]["default_policy"]["num_module_steps_trained"] > 0


def _assert_same_episodes(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        one.validate()
        assert (one.t_started, one.t, len(one)) == (other.t_started, other.t, len(other))
        assert (one.is_terminated, one.is_truncated) == (other.is_terminated, False)
        assert one.is_numpy
        for name in ("observations", "actions", "rewards", "infos"):
            one_buffer, other_buffer = getattr(one, name), getattr(other, name)
            assert one_buffer.lookback == other_buffer.lookback, name
            assert_same(one_buffer.data, other_buffer.data)
        assert one.extra_model_outputs.keys() == other.extra_model_outputs.keys()
        for key, one_buffer in one.extra_model_outputs.items():
            assert_same(one_buffer.get(), other.extra_model_outputs[key].get())


def _assert_same_metrics(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    names = (
        "num_env_steps_sampled", "num_env_steps_sampled_lifetime", "num_episodes",
        "episode_len_mean", "episode_len_min", "episode_return_mean", "episode_return_max",
        "weights_seq_no",
    )  # fmt: skip
    for name in names:
        assert ours[name].peek() == pytest.approx(theirs[name].peek()), name
