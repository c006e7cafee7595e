"""Training that goes on from a checkpoint sees new mazes, in each of its runners others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray's RLlib is missing: nox -s rllib")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

from ray.rllib.algorithms.algorithm import Algorithm  # noqa: E402

from fastmaze.integrations.rllib import FastMazeEnvRunner  # noqa: E402
from tests.integrations.rllib.runners import OneByOne, make_config, make_runner  # noqa: E402

N = 64


def _cues(runner: Any) -> tuple[int, ...]:
    """The cues of the next episode of each env."""
    episodes = runner.sample(num_episodes=N, random_actions=True)
    return tuple(int(episode.get_observations(0)[1]) for episode in episodes)


def _cues_of_all(algorithm: Algorithm) -> list[tuple[int, ...]]:
    group = algorithm.env_runner_group
    remote = group.num_remote_env_runners() > 0
    return group.foreach_env_runner(_cues, local_env_runner=not remote)  # type: ignore[no-any-return]


@pytest.mark.parametrize("runner", [FastMazeEnvRunner, OneByOne])
def test_runner_goes_on(runner: Any) -> None:
    """A runner that gets the state of another does not start with the mazes that that one saw."""
    config = make_config(num_envs=N, length=3, runner=runner)
    first = make_runner(config)
    seen = [_cues(first) for _ in range(3)]
    state = first.get_state()
    restored, again = make_runner(config), make_runner(config)
    restored.set_state(state)
    again.set_state(state)
    new = [_cues(restored) for _ in range(3)]
    assert not set(new) & set(seen)
    assert [_cues(again) for _ in range(3)] == new  # the same state goes on in the same way
    # And the restored one's state goes on in another.
    third = make_runner(config)
    third.set_state(restored.get_state())
    assert not {_cues(third) for _ in range(3)} & {*seen, *new}


def test_states_components() -> None:
    """The count is left out as any component is, and weights alone do not touch it."""
    name = "fastmaze_env_steps"
    runner = make_runner(make_config(num_envs=N, length=3))
    assert runner.get_state()[name] == 0
    _cues(runner)
    assert runner.get_state()[name] == 4 * N
    assert name in runner.get_state(not_components="rl_module")
    assert name not in runner.get_state(not_components=["rl_module", name])
    assert name not in runner.get_state(components="rl_module")
    assert runner.get_state(components=[name])[name] == 4 * N
    fresh = make_runner(make_config(num_envs=N, length=3))
    fresh.set_state(runner.get_state(components="rl_module"))
    assert fresh.get_state()[name] == 0


def test_runners_of_one_state_are_one_population() -> None:
    """The state of one runner does not make others repeat its mazes; the seed still counts."""
    config = make_config(num_envs=N, length=3)
    state = {"fastmaze_env_steps": 1000}
    runners = [make_runner(config, i) for i in (1, 2)] + [
        make_runner(make_config(num_envs=N, length=3, seed=8), 1)
    ]
    for runner in runners:
        runner.set_state(state)
    assert len({_cues(runner) for runner in runners}) == 3


def test_evaluations_stay() -> None:
    """The first evaluation has the mazes of its seed, whenever it comes."""
    config = make_config(num_envs=N, length=3)
    config.in_evaluation = True
    fresh, later = make_runner(config), make_runner(config)
    later.set_state({"num_env_steps_sampled_lifetime": 500, "fastmaze_env_steps": 500})
    assert _cues(fresh) == _cues(later)


@pytest.mark.parametrize("num_env_runners", [0, 2])
def test_checkpoint(cluster: None, tmp_path: Path, num_env_runners: int) -> None:
    """RLlib's checkpoint of an algorithm goes on, with a local runner and with remote ones."""
    config = make_config(num_envs=N, length=3, stagger=True)
    config.env_runners(num_env_runners=num_env_runners, rollout_fragment_length=4)
    batch = max(num_env_runners, 1) * N * 4
    config.training(train_batch_size_per_learner=batch, minibatch_size=batch)
    config.evaluation(
        evaluation_interval=10, evaluation_duration=4 * N, evaluation_duration_unit="timesteps"
    )
    algorithm = config.build_algo()
    try:
        algorithm.train()
        evaluated = algorithm.evaluate()["env_runners"]
        assert evaluated["episode_len_min"] == 4
        path = algorithm.save_to_path(tmp_path / "checkpoint")
    finally:
        algorithm.stop()
    restored = Algorithm.from_checkpoint(path)
    try:
        new = _cues_of_all(restored)
    finally:
        restored.stop()
    seen = [_cues(make_runner(config, i + 1)) for i in range(len(new))]
    assert len(new) == max(num_env_runners, 1)
    assert len({*seen, *new}) == 2 * len(new)
