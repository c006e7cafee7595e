"""RLlib's `sample` of random actions: FastMaze's runner, RLlib's with single envs, and without.

Each contender samples a whole episode of each env at a time, and returns RLlib's episodes.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

import fastmaze
from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns
from fastmaze.integrations.rllib import FastMazeEnvRunner

FRAGMENT = LENGTH + 1


class NoEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """What RLlib steps when a step costs nothing: the same arrays again and again."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self) -> None:
        like = fastmaze.make_vec("PassiveTMaze", num_envs=1, length=LENGTH)
        self.num_envs = NUM_ENVS
        self.single_observation_space = like.single_observation_space
        self.single_action_space = like.single_action_space
        self.observation_space = batch_space(self.single_observation_space, NUM_ENVS)
        self.action_space = batch_space(self.single_action_space, NUM_ENVS)
        self._obs = np.zeros((NUM_ENVS, 2), np.float32)
        no = np.zeros(NUM_ENVS, np.bool_)
        self._step = (self._obs, np.zeros(NUM_ENVS, np.float32), no, no)

    def reset(self, **kwargs: Any) -> Any:
        """The same observations."""
        return self._obs, {}

    def step(self, actions: Any) -> Any:
        """The same arrays."""
        return *self._step, {}


class NoEnvRunner(SingleAgentEnvRunner):
    """RLlib's own runner, and nothing to run."""

    def make_env(self) -> None:
        """Makes no env."""
        self.env = DictInfoToList(NoEnv())
        self.num_envs = NUM_ENVS


def collect(runner: type, mode: str = "sync") -> Collect:
    """Makes a runner; what it returns samples."""
    config = (
        PPOConfig()
        .environment("fastmaze/PassiveTMaze-v0", env_config={"length": LENGTH})
        .env_runners(
            env_runner_cls=runner,
            num_env_runners=0,
            num_envs_per_env_runner=NUM_ENVS,
            gym_env_vectorize_mode=mode,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8]))
        .debugging(seed=0, log_level="ERROR")
    )
    made: Any = runner(config=config, worker_index=0)
    # With random actions there is nothing for a module to do, but RLlib's own runner would still
    # prepare its input after each step.
    made.module = None

    def sample() -> int:
        episodes = made.sample(num_timesteps=NUM_ENVS * FRAGMENT, random_actions=True)
        made.get_metrics()
        return sum(map(len, episodes))

    return sample


def main() -> None:
    """Measures them in turn."""
    warnings.simplefilter("ignore")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    contenders: dict[str, Callable[[], Collect]] = {
        "FastMazeEnvRunner": partial(collect, FastMazeEnvRunner),
        "RLlib's runner, single envs": partial(collect, SingleAgentEnvRunner),
        "RLlib's runner, FastMaze's population": partial(
            collect, SingleAgentEnvRunner, "vector_entry_point"
        ),
        "RLlib's runner, no env": partial(collect, NoEnvRunner),
    }
    take_turns("rllib", contenders)


if __name__ == "__main__":
    main()
