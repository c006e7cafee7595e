"""Our episodes as recordings, to be replayed by a package's env."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np

import fastmaze


def load(module: str, cls: str, **options: Any) -> Any:
    """An env of a package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own imports
        return getattr(importlib.import_module(module), cls)(**options)


def recorded(task: str, seed: int, **options: Any) -> tuple[Any, ...]:
    """A random episode of ours: observations [T + 1, …], actions, rewards and ends [T]."""
    envs = fastmaze.make_vec(task, num_envs=1, autoreset_mode="Disabled", **options)
    generator = np.random.default_rng(seed)
    obs, _ = envs.reset(seed=seed)
    seen, actions, rewards, ends = [obs[0]], [], [], []
    while not ends or not ends[-1]:
        action = generator.integers(0, envs.task_spec.num_actions, 1)
        obs, reward, terminated, _, _ = envs.step(action)
        seen.append(obs[0])
        actions.append(int(action[0]))
        rewards.append(float(reward[0]))
        ends.append(bool(terminated[0]))
    return np.array(seen), actions, rewards, ends
