"""One way to drive any backend through the same episodes and write down all that it says."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fastmaze.envs.backends.base import Mode
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.numba_ import NumbaBackend
from fastmaze.envs.backends.reference_ import ReferenceBackend
from fastmaze.specs import TaskSpec

FAST = (NativeBackend, NumbaBackend)
ALL = (ReferenceBackend, *FAST)


def _device(name: str, impl: str) -> Any:
    """The device backend on one device, skipped with the reason where it cannot run."""

    def make(*arguments: Any, **options: Any) -> Any:
        reason = _obstacle(name, impl)
        if reason:
            pytest.skip(reason)
        from fastmaze.envs.backends.device import DeviceBackend

        return DeviceBackend(*arguments, **{"device": name, "impl": impl, **options})

    return pytest.param(make, id=f"device-{name}-{impl}")


@functools.cache
def _obstacle(name: str, impl: str) -> str:
    """Why the device backend cannot be tested so, "" if it can."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if name == "cuda" and not torch.cuda.is_available():
        return "torch sees no GPU"
    if impl == "torch":
        return ""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "triton is not installed"
    # With a GPU, kernels are compiled: see tests/conftest.py.
    interpreted = not torch.cuda.is_available()
    return "" if interpreted or name == "cuda" else "kernels run on the GPU here"


DEVICE = [_device("cpu", "torch"), _device("cpu", "triton"),
          _device("cuda", "torch"), _device("cuda", "triton")]  # fmt: skip
"""The device backend, plain and fused, on a CPU and where there is one on a GPU."""
COMPILED = [DEVICE[0], *DEVICE[2:]]
"""All but the interpreted kernel, which takes 20 ms a step."""


class Population:
    """A seeded backend with arrays of its own."""

    def __init__(
        self,
        make: Any,
        spec: TaskSpec,
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
        nothing = np.nan if spec.obs_dtype == "float32" else 77
        self.obs = np.full((n, *spec.obs_shape), nothing, spec.obs_dtype)
        self.final_obs = self.obs.copy()
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
