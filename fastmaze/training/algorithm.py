"""From a configuration to its loss."""

from __future__ import annotations

from typing import Any

from fastmaze.agents.ddqn import DDQN
from fastmaze.agents.sac_discrete import SACDiscrete
from fastmaze.training.config import TrainConfig


def make_algorithm(config: TrainConfig) -> DDQN | SACDiscrete:
    """What a run's updates minimise."""
    hyper = config.hyper
    common: dict[str, Any] = {
        name: getattr(hyper, name)
        for name in ("discount", "trace", "n_step", "reward_scale", "value_scale", "edge_share")
    }
    if config.algorithm == "sac-discrete":
        return SACDiscrete(temperature=hyper.temperature, **common)
    return DDQN(separate_forwards=hyper.separate_forwards, **common)
