"""Env runners as the tests make them: FastMaze's, and the same envs sampled RLlib's own way."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from fastmaze.integrations.rllib import FastMazeEnvRunner


class OneByOne(FastMazeEnvRunner):  # type: ignore[misc]
    """The same envs, but RLlib's own `_sample`, which grows every episode by itself."""

    get_metrics = SingleAgentEnvRunner.get_metrics

    def _in_bulk(self) -> bool:
        return False


def make_config(
    task: str = "PassiveTMaze",
    num_envs: int = 6,
    runner: Any = FastMazeEnvRunner,
    lstm: bool = True,
    seed: int | None = 7,
    lookback: int = 1,
    **options: Any,
) -> Any:
    model = DefaultModelConfig(
        fcnet_hiddens=[8], use_lstm=lstm, lstm_cell_size=4, max_seq_len=5, head_fcnet_hiddens=[],
        conv_filters=[[4, 3, 1]],
    )  # fmt: skip
    return (
        PPOConfig()
        .environment(f"fastmaze/{task}-v0", env_config=options)
        .env_runners(
            env_runner_cls=runner,
            num_env_runners=0,
            num_envs_per_env_runner=num_envs,
            rollout_fragment_length=7,
            episode_lookback_horizon=lookback,
        )
        .training(
            train_batch_size_per_learner=num_envs * 7, minibatch_size=num_envs * 7, num_epochs=1
        )
        .rl_module(model_config=model)
        .reporting(metrics_num_episodes_for_smoothing=10)
        .debugging(seed=seed)
    )


def make_runner(config: Any, worker_index: int = 0) -> Any:
    return config.env_runner_cls(config=config, worker_index=worker_index)


def whole(chunks: list[Any]) -> list[Any]:
    """Chunks of episodes, in the order sampled, joined by RLlib, which checks that they fit."""
    episodes: dict[str, Any] = {}
    for chunk in chunks:
        if chunk.id_ in episodes:
            episodes[chunk.id_].concat_episode(chunk)
        else:
            episodes[chunk.id_] = chunk
    return list(episodes.values())


def assert_same(ours: Any, theirs: Any) -> None:
    """Two nested structures of arrays are equal bit for bit, dtypes included."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_array_equal(ours, theirs)
