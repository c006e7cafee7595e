"""RLlib's PPO with its LSTM learns to remember the cue of a T-Maze: two cores, a few minutes.

pip install "fastmaze[rllib]"
python examples/rllib_ppo_lstm.py
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from fastmaze.integrations.rllib import FastMazeEnvRunner


class Success(RLlibCallback):
    """Logs the part of a sample's episodes that ended in the goal cell."""

    def on_sample_end(self, *, metrics_logger: Any, samples: list[Any], **kwargs: Any) -> None:
        """Reads what the maze says at the end of each episode."""
        ended = [episode.get_infos(-1)["success"] for episode in samples if episode.is_done]
        if ended:
            metrics_logger.log_value("success", np.mean(ended), window=1)


def make_config(length: int, seed: int, num_envs: int = 256, learning_rate: float = 2e-3) -> Any:
    """PPO on whole episodes: the LSTM sees each from its cue to its end.

    Args:
        length: of the corridor.
        seed: of the weights, the actions and the mazes.
        num_envs: episodes of an iteration.
        learning_rate: Adam's.
    """
    steps = length + 1
    return (
        PPOConfig()
        .environment("fastmaze/PassiveTMaze-v0", env_config={"length": length})
        .env_runners(
            env_runner_cls=FastMazeEnvRunner,
            num_env_runners=0,
            num_envs_per_env_runner=num_envs,
            rollout_fragment_length=steps,
        )
        .training(
            train_batch_size_per_learner=num_envs * steps,
            minibatch_size=num_envs * steps // 4,
            num_epochs=4,
            lr=learning_rate,
            gamma=0.99,
            lambda_=0.95,
            entropy_coeff=0.01,
            clip_param=0.2,
            vf_loss_coeff=0.5,
            use_kl_loss=False,
            grad_clip=0.5,
            grad_clip_by="global_norm",
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[64],
                use_lstm=True,
                lstm_cell_size=64,
                # PPO adds a step to each episode; one less here would make two sequences of it.
                max_seq_len=steps + 1,
                head_fcnet_hiddens=[],
                vf_share_layers=True,
            )
        )
        .learners(num_learners=0)
        .evaluation(
            evaluation_num_env_runners=0,
            evaluation_duration=512,
            evaluation_duration_unit="episodes",
            evaluation_config={"explore": False},
        )
        .callbacks(Success)
        .debugging(seed=seed, log_level="ERROR")
    )


def main() -> None:
    """Trains until greedy episodes succeed, or the iterations are used up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    torch.set_num_threads(2)
    algorithm = make_config(args.length, args.seed, learning_rate=args.learning_rate).build_algo()
    start, steps, greedy = time.perf_counter(), 0, 0.0
    for iteration in range(1, args.iterations + 1):
        result = algorithm.train()["env_runners"]
        steps += int(result["num_env_steps_sampled"])
        print(
            f"iteration {iteration:4}  env steps {steps:9,}  return "
            f"{result['episode_return_mean']:6.3f}  success {result['success']:5.3f}  "
            f"{time.perf_counter() - start:5.0f} s",
            flush=True,
        )
        if result["success"] > 0.9 or iteration == args.iterations:
            greedy = float(algorithm.evaluate()["env_runners"]["success"])
            if greedy == 1.0:
                break
    algorithm.stop()
    ray.shutdown()
    print(f"success over 512 greedy episodes: {greedy:.3f} (seed {args.seed}, {steps:,} env steps)")


if __name__ == "__main__":
    main()
