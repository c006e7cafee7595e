"""From a configuration to environments and what plays them: on arrays, or all on the device."""

from __future__ import annotations

from typing import Any

from fastmaze.envs.device import DeviceTMaze, make_device
from fastmaze.envs.vector import FastMazeVectorEnv, make_vec
from fastmaze.training.config import TrainConfig
from fastmaze.training.device_rollout import DeviceCollector
from fastmaze.training.rollout import Collector

AnyEnvs = FastMazeVectorEnv | DeviceTMaze
AnyCollector = Collector | DeviceCollector


def make_collector(
    config: TrainConfig, num_envs: int, env_offset: int = 0
) -> tuple[AnyEnvs, AnyCollector]:
    """Environments of the run's task, never reset, and the collector of their episodes.

    Args:
        config: names the task, the backend and the device.
        num_envs: N.
        env_offset: global index of the first one, for populations split over processes.
    """
    how: dict[str, Any] = {
        "num_envs": num_envs,
        "env_offset": env_offset,
        "autoreset_mode": "Disabled",
        **config.env_options,
    }
    if config.backend == "device":
        tensors = make_device(config.task, device=config.device, **how)
        return tensors, DeviceCollector(tensors)
    envs = make_vec(config.task, backend=config.backend, **how)
    return envs, Collector(envs)
