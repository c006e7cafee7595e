"""Env steps/s inside TorchRL's own collector with its random policy.

nox -s torchrl -- steps
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import torch
from tensordict import TensorDictBase

from benchmarks.plug_ins.turns import LENGTH, NUM_ENVS, Collect, take_turns

warnings.filterwarnings("ignore", category=DeprecationWarning)  # TorchRL's own, at import

from torchrl.collectors import Collector  # noqa: E402
from torchrl.envs import EnvBase, GymWrapper, SerialEnv  # noqa: E402

from fastmaze.integrations.torchrl import FastMazeTorchEnv  # noqa: E402

STEPS = 16
"""Of each env in one batch of the collector."""


class NoEnv(FastMazeTorchEnv):
    """The same specs, but a step costs nothing: it returns the same tensors always."""

    def _reset(self, tensordict: TensorDictBase | None = None, **options: Any) -> TensorDictBase:
        self._always = super()._step(self.rand_action(super()._reset()))
        return super()._reset(tensordict, **options)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        return self._always


def fastmaze_env(backend: str = "native") -> EnvBase:
    """The native env."""
    return FastMazeTorchEnv("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH, backend=backend)


def no_env() -> EnvBase:
    """What is left of the time is TorchRL's."""
    return NoEnv("PassiveTMaze", num_envs=NUM_ENVS, length=LENGTH)


def single() -> EnvBase:
    """One Gymnasium env."""
    env = gymnasium.make("fastmaze/PassiveTMaze-v0", length=LENGTH)
    return GymWrapper(env, categorical_action_encoding=True)


def serial_env() -> EnvBase:
    """TorchRL's batch of single envs, in this process."""
    return SerialEnv(NUM_ENVS, single)


def sync_vector_env() -> EnvBase:
    """TorchRL's wrapper around Gymnasium's batch of single envs, in this process."""
    make = partial(gymnasium.make, "fastmaze/PassiveTMaze-v0", length=LENGTH)
    envs = gymnasium.vector.SyncVectorEnv(
        [make] * NUM_ENVS, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED
    )
    return GymWrapper(envs, categorical_action_encoding=True)


def collected(make: Callable[[], EnvBase]) -> Collect:
    """TorchRL's collector around an env."""
    batches = iter(Collector(make(), None, frames_per_batch=NUM_ENVS * STEPS, total_frames=-1))

    def collect() -> int:
        return int(next(batches).numel())

    return collect


def main() -> None:
    """Measures all."""
    torch.set_num_threads(1)
    makers: dict[str, Callable[[], EnvBase]] = {
        "FastMazeTorchEnv": fastmaze_env,
        'FastMazeTorchEnv, backend="device", CPU': partial(fastmaze_env, "device"),
        "GymWrapper around SyncVectorEnv": sync_vector_env,
        "SerialEnv of GymWrapper": serial_env,
        "no env": no_env,
    }
    take_turns("torchrl", {name: partial(collected, make) for name, make in makers.items()})


if __name__ == "__main__":
    main()
