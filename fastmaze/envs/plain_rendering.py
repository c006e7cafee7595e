"""Pictures of tasks without a place to draw: the time, and the entries of the observation."""

from __future__ import annotations

from typing import Final

import numpy as np

from fastmaze.envs.rendering import Frame
from fastmaze.envs.spaces import observation_space
from fastmaze.reference.base import SpecificationEnv
from fastmaze.specs import TaskSpec

TILE: Final = 24
"""Pixels along an entry."""


class PlainRenderer:
    """Draws any task of flat observations from its specification env.

    Args:
        spec: the task.
        mode: "ansi" or "rgb_array".
    """

    def __init__(self, spec: TaskSpec, mode: str) -> None:
        self._spec, self._mode = spec, mode
        space = observation_space(spec)
        self._low, self._span = space.low.ravel(), np.maximum(space.high - space.low, 1e-9).ravel()

    def frame(self, env: SpecificationEnv) -> Frame:
        """One line of text; or uint8 [2 * TILE, D * TILE, 3], a tile for each entry and a bar."""
        obs, length = env.observation().ravel(), self._spec.episode_length
        if self._mode == "ansi":
            entries = ", ".join(f"{entry:g}" for entry in obs.tolist())
            return f"t {env.t:{len(str(length))}}/{length}  [{entries}]"
        # Brighter is larger, within the bounds of each entry.
        levels = ((obs - self._low) / self._span * 255).astype(np.uint8)
        tiles = levels[None, :, None].repeat(TILE, axis=0).repeat(TILE, axis=1).repeat(3, axis=2)
        bar = np.zeros_like(tiles)
        bar[TILE // 4 : -TILE // 4, : round(env.t / length * bar.shape[1])] = (37, 94, 214)
        return np.concatenate([tiles, bar])
