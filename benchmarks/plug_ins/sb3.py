"""Env steps/s inside Stable-Baselines3's collection loops: nox -s sb3 -- steps.

Random actions, 1,024 envs. The loops are SB3's own: on-policy with a policy that draws actions and
computes nothing, off-policy in its warm-up. "Usual" is `make_vec_env`: a DummyVecEnv of single envs
in Monitors (a SubprocVecEnv would be 1,024 processes). "No env" returns constants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns
from fastmaze.integrations.sb3 import FastMazeVecEnv

ONE_EPISODE = LENGTH + 1


class RandomPolicy(ActorCriticPolicy):
    """Draws actions; values and log-probabilities are zeros."""

    def forward(self, obs: torch.Tensor, deterministic: bool = False) -> tuple[torch.Tensor, ...]:
        """Actions int64 [N], values [N, 1], log-probabilities [N]."""
        n = len(obs)
        return torch.randint(self.action_space.n, (n,)), torch.zeros(n, 1), torch.zeros(n)

    def predict_values(self, obs: torch.Tensor) -> torch.Tensor:
        """Zeros [N, 1]."""
        return torch.zeros(len(obs), 1)


class NoEnv(FastMazeVecEnv):
    """Takes the place of envs that cost nothing: every step returns the same arrays."""

    def reset(self) -> Any:
        """The constants, made once."""
        self._constants = (
            super().reset(),
            np.zeros(self.num_envs, np.float32),
            np.zeros(self.num_envs, bool),
            self.reset_infos,
        )
        return self._constants[0]

    def step_wait(self) -> Any:
        """The constants."""
        return self._constants


def fastmaze() -> VecEnv:
    """Ours."""
    return FastMazeVecEnv("PassiveTMaze", NUM_ENVS, length=LENGTH)


def usual() -> VecEnv:
    """SB3's own way to run single envs."""
    return make_vec_env("fastmaze/PassiveTMaze-v0", NUM_ENVS, env_kwargs={"length": LENGTH})


def no_env() -> VecEnv:
    """What is left is SB3's."""
    return NoEnv("PassiveTMaze", NUM_ENVS, length=LENGTH)


def on_policy(make: Callable[[], VecEnv]) -> Collect:
    """One rollout of one episode per env, into PPO's RolloutBuffer."""
    model = PPO(RandomPolicy, make(), n_steps=ONE_EPISODE, batch_size=NUM_ENVS, device="cpu")
    _, callback = model._setup_learn(10**12)

    def collect() -> int:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, ONE_EPISODE)
        return ONE_EPISODE * NUM_ENVS

    return collect


def off_policy(make: Callable[[], VecEnv]) -> Collect:
    """As many steps into DQN's ReplayBuffer, in the warm-up, which draws actions at random."""
    model = DQN(
        "MlpPolicy",
        make(),
        buffer_size=NUM_ENVS * ONE_EPISODE,
        learning_starts=10**12,
        train_freq=ONE_EPISODE,
        device="cpu",
    )
    _, callback = model._setup_learn(10**12)

    def collect() -> int:
        model.collect_rollouts(
            model.env,
            callback,
            model.train_freq,
            model.replay_buffer,
            learning_starts=model.learning_starts,
        )
        return ONE_EPISODE * NUM_ENVS

    return collect


def env_alone(make: Callable[[], VecEnv]) -> Collect:
    """Steps without a loop of SB3's; actions drawn beforehand."""
    envs = make()
    envs.reset()
    actions = np.random.default_rng(0).integers(4, size=(ONE_EPISODE, NUM_ENVS))

    def collect() -> int:
        for row in actions:
            envs.step(row)
        return actions.size

    return collect


def main() -> None:
    """Every loop with every env; one thread, as for a small network."""
    torch.set_num_threads(1)
    loops = {"on-policy": on_policy, "off-policy": off_policy, "VecEnv alone": env_alone}
    envs = {"FastMazeVecEnv": fastmaze, "usual": usual, "no env": no_env}
    contenders, against = {}, {}
    for loop, collect in loops.items():
        for env, make in envs.items():
            if (loop, env) != ("VecEnv alone", "no env"):
                contenders[f"{loop}, {env}"] = functools.partial(collect, make)
                against[f"{loop}, {env}"] = f"{loop}, FastMazeVecEnv"
    take_turns("sb3", contenders, against)


if __name__ == "__main__":
    main()
