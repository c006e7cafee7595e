"""TorchRL's names for the tests; its own warnings at import are not ours to answer for."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from tensordict import TensorDict
    from torchrl.collectors import Collector, MultiSyncCollector
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer, Unbounded
    from torchrl.envs import (
        Compose,
        GymEnv,
        GymWrapper,
        InitTracker,
        ParallelEnv,
        RewardSum,
        StepCounter,
        TensorDictPrimer,
        TransformedEnv,
        check_env_specs,
    )

from fastmaze.integrations.torchrl import FastMazeTorchEnv, create_env_fns

__all__ = [
    "Collector",
    "Compose",
    "FastMazeTorchEnv",
    "GymEnv",
    "GymWrapper",
    "InitTracker",
    "LazyTensorStorage",
    "MultiSyncCollector",
    "ParallelEnv",
    "RewardSum",
    "StepCounter",
    "TensorDict",
    "TensorDictPrimer",
    "TensorDictReplayBuffer",
    "TransformedEnv",
    "Unbounded",
    "check_env_specs",
    "create_env_fns",
]
