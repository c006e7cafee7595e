"""Umbrella Length's rules in readable Python.

Every observation tells whether an umbrella will be needed, whether one is had, how much time is
left, and some bits of noise. Whether one is had is random at first; the first action decides it for
good. The last step earns +1 if need and possession agree, else -1. Every other step earns +1 or -1
at random, which has nothing to do with anything.

Source: Osband et al. 2020 (bsuite); where its text leaves something open, its published
environment `umbrella_chain` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs.umbrella_length import UmbrellaLengthSpec


class UmbrellaLength(SpecificationEnv):
    """One Umbrella Length task, stepped by hand; see `SpecificationEnv`."""

    spec: UmbrellaLengthSpec

    def noise(self, i: int) -> int:
        """Random bit i of this moment: bit i % 32 of random number i // 32, unscaled.

        Bit 0 decides the sign of a reward, and distractor i is bit i + 1.
        """
        return self.draws.below_at(self.t, i // 32, 1 << 32) >> i % 32 & 1

    def begin(self, context: Any) -> None:
        """Draws whether an umbrella is needed, random number 0, and had, number 1."""
        self.need, self.has = self.draws.below(0, 2), self.draws.below(1, 2)
        self.earned = 0

    def move(self, action: int) -> tuple[float, bool]:
        """The first step takes or leaves the umbrella."""
        if self.t == 1:
            self.has = action
        good = self.has == self.need if self.t == self.spec.length else self.noise(0)
        reward = 1 if good else -1
        self.earned += reward
        return reward, False

    def observation(self) -> npt.NDArray[np.float32]:
        """[need, has, 1 - k/n, distractors], float32."""
        noise = [self.noise(i + 1) for i in range(self.spec.distractors)]
        return np.array([self.need, self.has, 1 - self.t / self.spec.length, *noise], np.float32)

    def statistics(self) -> Episode:
        """Success: the umbrella is had if and only if it is needed."""
        steps = self.t - self.start_t
        return Episode(float(self.earned), steps, self.has == self.need, False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {"need": self.need, "has": self.has, "earned": self.earned}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        self.need, self.has, self.earned = row["need"], row["has"], row["earned"]
        steps = self.t - self.start_t
        even = (self.earned + steps) % 2 == 0
        if self.need > 1 or self.has > 1 or abs(self.earned) > steps or not even:
            raise ValueError("no episode of this task can reach these values")
