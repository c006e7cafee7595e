"""PufferLib's PPO with its LSTM learns to remember a cue over a corridor of ten cells.

    pip install "fastmaze[pufferlib]"
    python examples/pufferlib_ppo_lstm.py

Trainer, advantages, LSTM wrapper and policy are PufferLib's own. A policy without memory earns 1/2
here. With torch for a CPU, PufferLib's kernels have to be built from source first: docs/plug-ins.md
has the line.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from pufferlib.models import Default, LSTMWrapper
from pufferlib.pufferl import PuffeRL

from fastmaze.integrations.pufferlib import FastMazePufferEnv, make_puffer_vec

# PuffeRL opens an autocast to float32, which torch has no use for on a CPU.
warnings.filterwarnings("ignore", message="In CPU autocast", category=UserWarning)

# Under those names PuffeRL looks for all of them.
CONFIG: dict[str, Any] = {
    "env": "PassiveTMaze", "device": "cpu", "use_rnn": True, "cpu_offload": False,
    "torch_deterministic": True, "compile": False, "precision": "float32",
    "optimizer": "adam", "learning_rate": 0.003, "anneal_lr": False,
    "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-8, "max_grad_norm": 0.5,
    "gamma": 0.95, "gae_lambda": 0.95, "vtrace_rho_clip": 1.0, "vtrace_c_clip": 1.0,
    "clip_coef": 0.2, "vf_clip_coef": 1.0, "vf_coef": 0.5, "ent_coef": 0.01,
    "update_epochs": 2, "prio_alpha": 0.0, "prio_beta0": 1.0, "checkpoint_interval": 10**9,
}  # fmt: skip


class Trainer(PuffeRL):
    """PuffeRL that prints a line now and then instead of drawing its dashboard."""

    def print_dashboard(self, *_: Any, **__: Any) -> None:
        """Called every quarter of a second by PuffeRL."""
        success = self.stats.get("success")
        if success is not None and self.epoch:
            print(
                f"{self.global_step:9,} env steps  {self.uptime:5.0f} s  success {success:.3f}  "
                f"entropy {self.losses['entropy']:.3f}",
                flush=True,
            )


def make_policy(env: Any) -> LSTMWrapper:
    """PufferLib's default policy inside its LSTM."""
    return LSTMWrapper(env, Default(env, hidden_size=64), input_size=64, hidden_size=64)


def evaluate(policy: LSTMWrapper, length: int, num_episodes: int, seed: int) -> float:
    """Success of greedy actions."""
    env = FastMazePufferEnv(
        "PassiveTMaze", length=length, num_envs=num_episodes, report_interval=length + 1
    )
    obs, _ = env.reset(seed)
    zeros = torch.zeros(num_episodes, policy.hidden_size)
    state: dict[str, Any] = {"lstm_h": zeros, "lstm_c": zeros}
    for _ in range(length + 1):
        with torch.no_grad():
            logits, _ = policy.forward_eval(torch.as_tensor(obs), state)
        obs, _, _, _, infos = env.step(logits.argmax(-1).int().numpy())
    return infos[0]["success"]


def main() -> float:
    """Trains, evaluates, and returns the success."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=10, help="of the corridor")
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--num-workers", type=int, default=1, help="processes that step the envs")
    parser.add_argument("--steps", type=int, default=3_000_000, help="env steps at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default="runs/pufferlib", help="of PuffeRL's checkpoints")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # a network this small gains nothing from more
    # PuffeRL forgets the LSTM's state at the ends of its segments: let episodes end there too.
    horizon = 4 * (args.length + 1)
    batch_size = args.num_envs * horizon
    config = CONFIG | {
        "seed": args.seed, "total_timesteps": args.steps, "data_dir": args.data_dir,
        "bptt_horizon": horizon, "batch_size": batch_size,
        "minibatch_size": batch_size // 4, "max_minibatch_size": batch_size // 4,
    }  # fmt: skip
    envs = make_puffer_vec(
        "PassiveTMaze", length=args.length, num_envs=args.num_envs, num_workers=args.num_workers,
        report_interval=args.length + 1,
    )  # fmt: skip
    policy = make_policy(envs.driver_env)
    start = time.time()
    trainer = Trainer(config, envs, policy)
    try:
        while trainer.global_step < args.steps:
            solved = np.mean(trainer.evaluate()["success"]) >= 0.99
            trainer.train()
            if solved and evaluate(policy, args.length, 256, args.seed + 1) >= 0.99:
                break
    finally:
        trainer.close()
    success = evaluate(policy, args.length, 1024, args.seed + 2)
    print(f"{trainer.global_step:9,} env steps  {time.time() - start:5.0f} s  greedy actions:")
    print(f"success {success:.3f} over 1024 episodes")
    return success


if __name__ == "__main__":
    main()
