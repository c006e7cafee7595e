"""What computes under the TorchRL env: arrays in the memory of CPU tensors, or a device's tensors.

Both hand out fresh tensors at every call, and copy nothing: they are written where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastmaze.envs.backends.base import Array, EpisodeStatistics
from fastmaze.envs.backends.validation import check_count
from fastmaze.envs.device import DeviceTMaze
from fastmaze.envs.options import parse_vector_options
from fastmaze.envs.vector import FastMazeVectorEnv
from fastmaze.specs import TaskSpec, TMazeSpec

SUCCESS = EpisodeStatistics._fields.index("success")

Step = tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]
"""obs [N, …], reward float32 [N], terminated and truncated bool [N], columns [N]."""


class Engine(Protocol):
    """`num_envs` copies of a task, N, that never reset themselves."""

    num_envs: int
    device: torch.device

    def reset(self, mask: Tensor | None, seed: Any, options: dict[str, Any] | None) -> Tensor:
        """Starts the next episode of the copies in the mask, bool [N]; present obs of all."""

    def step(self, actions: Tensor, columns: Sequence[int]) -> Step:
        """Steps all; of `EpisodeStatistics` the columns asked for, zero where none ended."""

    def get_state(self) -> Array:
        """As `FastMazeVectorEnv.get_state`."""

    def set_state(self, state: Array) -> None:
        """As `FastMazeVectorEnv.set_state`."""

    def close(self) -> None:
        """Frees all."""


def make_engine(
    spec: TaskSpec,
    *,
    num_envs: int,
    backend: str,
    device: str | torch.device | None,
    num_threads: int,
    env_offset: int,
    stagger: bool,
) -> Engine:
    """The engine of a backend; arguments and errors as for `make_vec` and `make_device`."""
    if backend == "device" and isinstance(spec, TMazeSpec):
        check_count("num_threads", num_threads)
        return _TensorEngine(
            DeviceTMaze(
                spec,
                num_envs=num_envs,
                device=device,
                env_offset=env_offset,
                stagger=stagger,
                autoreset_mode="Disabled",
            )
        )
    return _ArrayEngine(
        FastMazeVectorEnv(
            spec,
            num_envs=num_envs,
            backend=backend,
            device=None if device is None else str(device),
            num_threads=num_threads,
            env_offset=env_offset,
            stagger=stagger,
            autoreset_mode="Disabled",
        )
    )


class _ArrayEngine:
    """The façade on NumPy arrays; a CPU tensor and its array are the same memory."""

    device = torch.device("cpu")

    def __init__(self, envs: FastMazeVectorEnv) -> None:
        self.envs, self.num_envs = envs, envs.num_envs
        spec = envs.task_spec
        self._obs_shape = (envs.num_envs, *spec.obs_shape)
        self._obs_dtype = np.dtype(spec.obs_dtype)
        self.get_state, self.set_state, self.close = envs.get_state, envs.set_state, envs.close

    def reset(self, mask: Tensor | None, seed: Any, options: dict[str, Any] | None) -> Tensor:
        options = _check_options(options)
        if mask is not None:
            if not mask.any():  # nothing to reset
                obs = np.empty(self._obs_shape, self._obs_dtype)
                self.envs.backend.observe(obs)
                return torch.from_numpy(obs)
            options["reset_mask"] = mask.cpu().numpy()
        obs, _ = self.envs.reset(seed=seed, options=options)
        return torch.from_numpy(obs)

    def step(self, actions: Tensor, columns: Sequence[int]) -> Step:
        N = self.num_envs
        obs = np.empty(self._obs_shape, self._obs_dtype)
        reward, terminated, truncated = (
            np.empty(N, np.float32),
            np.empty(N, bool),
            np.empty(N, bool),
        )
        array = actions.cpu().contiguous().numpy()
        ended = self.envs.step_into(array, obs, reward, terminated, truncated)
        told = []
        for column in columns:
            values = self.envs.statistics[column]
            # The product copies, too: the statistics are rewritten in place.
            told.append(
                torch.from_numpy(values * terminated if ended else np.zeros(N, values.dtype))
            )
        from_numpy = torch.from_numpy
        return (
            from_numpy(obs),
            from_numpy(reward),
            from_numpy(terminated),
            from_numpy(truncated),
            told,
        )


class _TensorEngine:
    """The envs whose state is tensors; each call gives their outputs new memory first."""

    def __init__(self, envs: DeviceTMaze) -> None:
        self.envs, self.num_envs, self.device = envs, envs.num_envs, envs.device
        # Waiting for a GPU at every step would cost more than the step.
        self._check_steps = envs.device.type == "cpu"
        self.get_state, self.set_state, self.close = envs.get_state, envs.set_state, envs.close

    def reset(self, mask: Tensor | None, seed: Any, options: dict[str, Any] | None) -> Tensor:
        parse_vector_options(self.envs.task_spec, _check_options(options), self.num_envs)
        self.envs.check()
        self.envs.renew()
        return self.envs.reset(seed=seed, mask=mask, goal_y=(options or {}).get("goal_y"))

    def step(self, actions: Tensor, columns: Sequence[int]) -> Step:
        envs = self.envs
        envs.renew()
        obs, reward, terminated, truncated = envs.step(actions)
        if self._check_steps:
            envs.check()
        told = []
        for column in columns:
            values = envs.core.last_success if column == SUCCESS else envs.statistics[column]
            told.append(values * terminated)
        return obs, reward, terminated, truncated, told


def _check_options(options: Any) -> dict[str, Any]:
    """A copy of the options of a reset, to add the mask to."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise TypeError(f"options: expected a dict, got {options!r} ({type(options).__name__})")
    if "reset_mask" in options:
        raise ValueError(
            "options: expected no 'reset_mask'; the tensordict's \"_reset\" is the mask"
        )
    return dict(options)
