"""What many steps of a population give back at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmaze.specs import TaskSpec


class Trajectory(NamedTuple):
    """What `FastMazeVectorEnv.unroll` returns: S steps of N envs, fresh arrays."""

    obs: npt.NDArray[Any]
    """Observations after each step, [S, N, *obs_shape] of the task's dtype."""
    reward: npt.NDArray[np.float32]
    """Rewards, float32 [S, N]."""
    terminated: npt.NDArray[np.bool_]
    """Episode ends, bool [S, N]."""
    truncated: npt.NDArray[np.bool_]
    """Always False, bool [S, N]."""
    final_obs: npt.NDArray[Any] | None
    """In mode SameStep, last observations where `terminated` and zeros elsewhere, as `obs`; None
    in the other modes, where `obs` holds them."""


def new_trajectory(
    num_steps: int, num_envs: int, spec: TaskSpec, *, with_final_obs: bool
) -> Trajectory:
    """Arrays to write into: all uninitialised but `final_obs`, which is zeros or None."""
    shape = (num_steps, num_envs)
    obs_shape = (*shape, *spec.obs_shape)
    return Trajectory(
        np.empty(obs_shape, spec.obs_dtype),
        np.empty(shape, np.float32),
        np.empty(shape, np.bool_),
        np.empty(shape, np.bool_),
        np.zeros(obs_shape, spec.obs_dtype) if with_final_obs else None,
    )
