"""What many steps of a population give back at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Trajectory(NamedTuple):
    """What `FastMazeVectorEnv.unroll` returns: S steps of N envs, fresh arrays."""

    obs: npt.NDArray[np.float32]
    """Observations after each step, float32 [S, N, D]."""
    reward: npt.NDArray[np.float32]
    """Rewards, float32 [S, N]."""
    terminated: npt.NDArray[np.bool_]
    """Episode ends, bool [S, N]."""
    truncated: npt.NDArray[np.bool_]
    """Always False, bool [S, N]."""
    final_obs: npt.NDArray[np.float32] | None
    """In mode SameStep, last observations where `terminated` and zeros elsewhere, float32
    [S, N, D]; None in the other modes, where `obs` holds them."""


def new_trajectory(
    num_steps: int, num_envs: int, obs_dim: int, *, with_final_obs: bool
) -> Trajectory:
    """Arrays to write into: all uninitialised but `final_obs`, which is zeros or None."""
    shape = (num_steps, num_envs)
    return Trajectory(
        np.empty((*shape, obs_dim), np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.bool_),
        np.empty(shape, np.bool_),
        np.zeros((*shape, obs_dim), np.float32) if with_final_obs else None,
    )
