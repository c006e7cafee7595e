"""One way to drive any backend through the same episodes and write down all that it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmaze.envs.backends.base import Mode
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.numba_ import NumbaBackend
from fastmaze.envs.backends.reference_ import ReferenceBackend
from fastmaze.specs import TMazeSpec

FAST = (NativeBackend, NumbaBackend)
ALL = (ReferenceBackend, *FAST)


class Population:
    """A seeded backend with arrays of its own."""

    def __init__(
        self,
        make: Any,
        spec: TMazeSpec,
        num_envs: int,
        mode: Mode = "NextStep",
        *,
        seed: int = 7,
        env_offset: int = 0,
        stagger: bool = False,
        goals: Any = None,
        **options: Any,
    ) -> None:
        n = num_envs
        self.backend = make(spec, n, mode, **options)
        self.obs = np.full((n, spec.obs_dim), np.nan, np.float32)
        self.final_obs = np.full((n, spec.obs_dim), np.nan, np.float32)
        self.reward = np.full(n, np.nan, np.float32)
        self.terminated = np.zeros(n, np.bool_)
        self.truncated = np.ones(n, np.bool_)
        indices = np.arange(env_offset, env_offset + n, dtype=np.uint32)
        keys = np.full(n, seed, np.uint64)
        self.backend.reset(self.obs, None, goals, stagger, keys, indices)

    def step(self, actions: np.ndarray) -> int:
        """One step; in mode Disabled, envs that were over are reset first."""
        if self.backend.mode == "Disabled" and self.terminated.any():
            self.backend.reset(self.obs, self.terminated.copy())
        outputs = (self.obs, self.reward, self.terminated, self.truncated)
        final = self.final_obs if self.backend.mode == "SameStep" else None
        return self.backend.step(np.ascontiguousarray(actions), *outputs, final)

    def record(self, actions: Sequence[np.ndarray]) -> list[tuple[bytes, ...]]:
        """The bytes of every output of every step."""
        rows = [(self.obs.tobytes(),)]
        for row in actions:
            finished = self.step(row)
            arrays = (self.obs, self.reward, self.terminated, self.truncated, self.final_obs)
            statistics = self.backend.statistics
            assert finished == np.count_nonzero(self.terminated)
            rows.append(tuple(a.tobytes() for a in (*arrays, *statistics)))
        return rows


def walk(seed: int, steps: int, num_envs: int, dtype: str = "int64") -> np.ndarray:
    """Random actions that get somewhere: half of them go right."""
    generator = np.random.default_rng(seed)
    return generator.choice(4, (steps, num_envs), p=[0.5, 0.2, 0.1, 0.2]).astype(dtype)
