"""Memory Length's rules in readable Python.

The first observation shows some bits, each as -1 or +1, and nothing does so again. The last one
but one asks for one of them by its number. The last action earns +1 for naming its value, 0 or 1,
and -1 for the other; no other action matters.

Source: Osband et al. 2020 (bsuite); where its text leaves something open, its published
environment `memory_chain` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs.memory_length import MemoryLengthSpec


class MemoryLength(SpecificationEnv):
    """One Memory Length task, stepped by hand; see `SpecificationEnv`."""

    spec: MemoryLengthSpec

    def begin(self, context: Any) -> None:
        """Draws the bits, random number 0, and which of them is asked for, number 1."""
        self.bits = self.draws.below(0, 1 << self.spec.bits)
        self.query = self.draws.below(1, self.spec.bits)
        self.right = 0

    def move(self, action: int) -> tuple[float, bool]:
        """Only the last action counts."""
        if self.t < self.spec.episode_length:
            return 0.0, False
        self.right = int(action == self.bits >> self.query & 1)
        return (1.0 if self.right else -1.0), False

    def observation(self) -> npt.NDArray[np.float32]:
        """[1 - k/n, question at k = n - 1, bits at k = 0], float32."""
        spec = self.spec
        k = max(self.t - 1, 0)  # the reset and the first step both show moment 0
        entries: list[float] = [1 - k / spec.length] if spec.show_time else []
        entries.append(self.query if k == spec.length - 1 else 0)
        entries += [(self.bits >> i & 1) * 2 - 1 if k == 0 else 0 for i in range(spec.bits)]
        return np.array(entries, np.float32)

    def statistics(self) -> Episode:
        """The return is the last action's reward."""
        return Episode(1.0 if self.right else -1.0, self.t - self.start_t, bool(self.right), False)

    def task_state(self) -> dict[str, Any]:
        """See `SpecificationEnv.task_state`."""
        return {"bits": self.bits, "query": self.query, "right": self.right}

    def load_task(self, row: Mapping[str, Any]) -> None:
        """See `SpecificationEnv.load_task`."""
        self.bits, self.query, self.right = row["bits"], row["query"], row["right"]
        most = int(self.t == self.spec.episode_length)
        if self.bits >> self.spec.bits or self.query >= self.spec.bits or self.right > most:
            raise ValueError("no episode of this task can reach these values")
