"""Env steps/s inside PufferLib: in PuffeRL's own collection, or in a bare loop of send and recv.

nox -s pufferlib -- steps         PuffeRL.evaluate
nox -s pufferlib -- steps loop    send and recv, for those who write their own trainer
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import warnings
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pufferlib
import pufferlib.vector
import torch
from pufferlib.emulation import GymnasiumPufferEnv
from pufferlib.pufferl import PuffeRL
from torch import Tensor, nn

import fastmaze
from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns
from fastmaze.envs.spaces import action_space, observation_space
from fastmaze.integrations.pufferlib import make_puffer_vec

HORIZON = 32

CONFIG: dict[str, Any] = {
    "env": "PassiveTMaze", "device": "cpu", "use_rnn": False, "cpu_offload": False, "seed": 0,
    "torch_deterministic": True, "compile": False, "precision": "float32", "optimizer": "adam",
    "learning_rate": 0.0, "anneal_lr": False, "adam_beta1": 0.9, "adam_beta2": 0.999,
    "adam_eps": 1e-8, "update_epochs": 1, "total_timesteps": 10**12, "bptt_horizon": HORIZON,
    "batch_size": NUM_ENVS * HORIZON, "minibatch_size": NUM_ENVS * HORIZON,
    "max_minibatch_size": NUM_ENVS * HORIZON, "data_dir": tempfile.gettempdir(),
}  # fmt: skip


class NoEnv(pufferlib.PufferEnv):
    """The spaces of the T-Maze, and a step that does nothing."""

    def __init__(self, buf: Any = None, seed: int = 0) -> None:
        spec = fastmaze.make_spec("PassiveTMaze", length=LENGTH)
        self.single_observation_space = observation_space(spec)
        self.single_action_space = action_space(spec)
        self.num_agents = self.agents_per_batch = NUM_ENVS
        super().__init__(buf)
        self.infos: list[dict[str, float]] = []
        self.result = (self.observations, self.rewards, self.terminals, self.truncations)

    def reset(self, seed: int | None = None) -> Any:
        """Zeros."""
        return self.observations, self.infos

    def step(self, actions: Any) -> Any:
        """Zeros."""
        return (*self.result, self.infos)

    def close(self) -> None:
        """Nothing."""


class Trainer(PuffeRL):
    """PuffeRL without its dashboard."""

    def print_dashboard(self, *_: Any, **__: Any) -> None:
        """Nothing."""


class RandomPolicy(nn.Module):
    """All actions alike, at no cost; PuffeRL draws from what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.answer = torch.zeros(NUM_ENVS, 4), torch.zeros(NUM_ENVS, 1)

    def forward_eval(self, observations: Tensor, state: Any = None) -> tuple[Tensor, Tensor]:
        """Logits and values, all zero."""
        return self.answer


def ours() -> Any:
    """All of them in one PufferEnv."""
    return make_puffer_vec("PassiveTMaze", length=LENGTH, num_envs=NUM_ENVS)


def no_env() -> Any:
    """What is left is PufferLib's own."""
    return pufferlib.vector.make(NoEnv, backend=pufferlib.PufferEnv)


def emulated(**how: Any) -> Any:
    """PufferLib's usual way with a Gymnasium env: one Python object each."""
    creator = partial(
        GymnasiumPufferEnv,
        env_creator=gymnasium.make,
        env_args=["fastmaze/PassiveTMaze-v0"],
        env_kwargs={"length": LENGTH},
    )
    return pufferlib.vector.make(creator, num_envs=NUM_ENVS, **how)


serial = partial(emulated, backend="Serial")
processes = partial(emulated, backend="Multiprocessing", num_workers=2, overwork=True)


def evaluates(make: Any) -> Collect:
    """PuffeRL.evaluate: recv, policy, draw, store in the experience, send."""
    envs = make()
    trainer = Trainer(dict(CONFIG), envs, RandomPolicy())
    trainer.utilization.stop()

    def collect() -> int:
        signal_workers(envs, signal.SIGCONT)
        before = trainer.global_step
        trainer.evaluate()
        signal_workers(envs, signal.SIGSTOP)
        return int(trainer.global_step - before)

    return collect


def loops(make: Any) -> Collect:
    """A bare loop of send and recv, with actions that were drawn before."""
    envs = make()
    envs.async_reset(0)
    envs.recv()
    draws = np.random.default_rng(0).integers(0, 4, (HORIZON, NUM_ENVS)).astype(np.int32)

    def collect() -> int:
        signal_workers(envs, signal.SIGCONT)
        for actions in draws:
            envs.send(actions)
            envs.recv()
        signal_workers(envs, signal.SIGSTOP)
        return HORIZON * NUM_ENVS

    return collect


def signal_workers(envs: Any, number: int) -> None:
    """Idle workers poll; stopped ones leave the cores to those whose turn it is."""
    for process in getattr(envs, "processes", ()):
        os.kill(process.pid, number)


def main() -> None:
    """Takes turns, and ends the workers."""
    # PuffeRL opens an autocast to float32, which torch has no use for on a CPU.
    warnings.filterwarnings("ignore", message="In CPU autocast", category=UserWarning)
    # Two threads on tensors of 1,024 rows cost more than they save, more so beside the workers.
    torch.set_num_threads(1)
    made: list[Any] = []

    def kept(make: Any) -> Any:
        made.append(make())
        return made[-1]

    ways = {
        "FastMazePufferEnv": ours,
        "no env": no_env,
        "GymnasiumPufferEnv, Multiprocessing": processes,
        "GymnasiumPufferEnv, Serial": serial,
    }
    bare = sys.argv[1:2] == ["loop"]
    if bare:
        del sys.argv[1]
    run = loops if bare else evaluates
    try:
        take_turns(
            "pufferlib-loop" if bare else "pufferlib",
            {name: partial(run, partial(kept, make)) for name, make in ways.items()},
        )
    finally:
        for envs in made:
            signal_workers(envs, signal.SIGCONT)
            envs.close()


if __name__ == "__main__":
    main()
