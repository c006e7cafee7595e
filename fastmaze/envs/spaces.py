"""The spaces of one copy of a task."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete, Space

from fastmaze.specs import NUM_ACTIONS, TMazeSpec


def observation_space(spec: TMazeSpec) -> Space[npt.NDArray[np.float32]]:
    """Box [D] of float32, with bounds that hold the values that really occur."""
    low, high = np.array(spec.obs_low, np.float32), np.array(spec.obs_high, np.float32)
    return Box(low, high, dtype=np.float32)


def action_space() -> Discrete:
    """0 right, 1 up, 2 left, 3 down."""
    return Discrete(NUM_ACTIONS)
