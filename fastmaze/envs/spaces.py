"""The spaces of one copy of a task."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from fastmaze.specs import TaskSpec


def observation_space(spec: TaskSpec) -> Box:
    """Box of the spec's shape and dtype, with bounds that hold the values that really occur."""
    dtype: Any = np.dtype(spec.obs_dtype).type
    low, high = (
        np.full(spec.obs_shape, np.array(bound, dtype)) for bound in (spec.obs_low, spec.obs_high)
    )
    return Box(low, high, dtype=dtype)


def action_space(spec: TaskSpec) -> Discrete:
    """0, 1, … as `spec.action_names` tells."""
    return Discrete(spec.num_actions)
