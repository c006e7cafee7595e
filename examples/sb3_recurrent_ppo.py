"""RecurrentPPO of sb3-contrib learns to remember a cue over a corridor of ten cells.

    pip install "fastmaze[sb3]"
    python examples/sb3_recurrent_ppo.py

Everything but the envs is Stable-Baselines3's own. A policy without memory earns 1/2 here.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback

from fastmaze.integrations.sb3 import FastMazeVecEnv


class Progress(BaseCallback):
    """Prints a line every few rollouts, and stops when the last episodes were all solved."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every, self.rollouts, self.start = every, 0, time.time()

    def _on_step(self) -> bool:
        return self.success() < 0.99

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        if self.rollouts % self.every == 0:
            seconds = time.time() - self.start
            print(
                f"{self.num_timesteps:9,} env steps  {seconds:5.0f} s  success {self.success():.3f}"
            )

    def success(self) -> float:
        """Of the last episodes, as sampled; SB3 takes it from `is_success` in the infos."""
        last = self.model.ep_success_buffer
        return float(np.mean(last)) if len(last) == last.maxlen else 0.0


def evaluate(model: Any, length: int, num_episodes: int, seed: int) -> float:
    """Success of greedy actions."""
    envs = FastMazeVecEnv("PassiveTMaze", num_envs=num_episodes, length=length, seed=seed)
    obs, state, starts = envs.reset(), None, np.ones(num_episodes, bool)
    for _ in range(length + 1):
        actions, state = model.predict(obs, state, starts, deterministic=True)
        obs, _, starts, infos = envs.step(actions)
    return float(np.mean([info["is_success"] for info in infos]))


def main() -> float:
    """Trains, evaluates, and returns the success."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=10, help="of the corridor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=3_000_000, help="env steps at most")
    args = parser.parse_args()

    torch.set_num_threads(1)  # the network is small: a second thread only makes it wait
    envs = FastMazeVecEnv("PassiveTMaze", num_envs=128, length=args.length)
    episode = args.length + 1
    model = RecurrentPPO(
        "MlpLstmPolicy",
        envs,
        n_steps=2 * episode,
        batch_size=32 * 2 * episode,
        n_epochs=4,
        learning_rate=3e-3,
        gamma=0.95,
        gae_lambda=0.95,
        # Once the corridor is learned, only the last step has an advantage left. To normalise it
        # would blow it up: the policy then settles for one of the turns before it knows the cue.
        normalize_advantage=False,
        ent_coef=0.03,
        max_grad_norm=1.0,
        policy_kwargs={"lstm_hidden_size": 64, "net_arch": [64]},
        stats_window_size=512,
        seed=args.seed,
        device="cpu",
    )
    model.learn(args.max_steps, callback=Progress(every=10))
    success = evaluate(model, args.length, num_episodes=1024, seed=args.seed + 1)
    print(f"success {success:.4f} in 1,024 greedy episodes")
    return success


if __name__ == "__main__":
    main()
