"""The C++ backend: `csrc/` behind the `Backend` contract."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze._native import PlainBatch, TMazeBatch, usable_isas
from fastmaze.envs.backends.base import Array, EpisodeStatistics, Mode
from fastmaze.envs.backends.state import (
    MODES,
    add_header,
    fields_of,
    rule_of,
    strip_header,
    view_of,
)
from fastmaze.specs import TaskSpec, TMazeSpec


class NativeBackend:
    """A batch of any task in C++ (see `Backend` for the methods).

    Args:
        spec: the task.
        num_envs: copies, N.
        mode: when a finished env is reset.
        num_threads: threads that share the work.
        least_per_thread: fewest envs that a thread of its own is worth.
        isa: "baseline", "avx2" or "avx512" to force an instruction set; None takes the environment
            variable `FASTMAZE_ISA`, else the best one. Every choice gives the same bits.
    """

    name = "native"

    def __init__(
        self,
        spec: TaskSpec,
        num_envs: int,
        mode: Mode,
        num_threads: int = 1,
        least_per_thread: int = 4096,
        isa: str | None = None,
    ) -> None:
        self.spec, self.num_envs, self.mode = spec, num_envs, mode
        how: dict[str, Any] = {
            "num_envs": num_envs,
            "mode": MODES.index(mode),
            "num_threads": num_threads,
            "least_per_thread": least_per_thread,
            "isa": isa or _asked_isa(),
        }
        if isinstance(spec, TMazeSpec):
            self.core: Any = _tmaze(spec, **how)
            self.positions = self.core.positions
        else:
            self.core = PlainBatch(
                task=spec.family,
                options={name: float(value) for name, value in spec.native_options.items()},
                obs_shape=spec.obs_shape,
                bytes=spec.obs_dtype == "uint8",
                context_bytes=spec.context_size,
                state_bytes=sum(dtype.itemsize for _, dtype in fields_of(spec)),
                **how,
            )
        self.statistics = EpisodeStatistics(*self.core.statistics())
        # The calls of every step go to the core without a detour through Python.
        self.reset = self.core.reset
        self.step = self.core.step
        self.unroll = self.core.unroll
        self.observe = self.core.observe
        self.close = self.core.close

    def get_state(self) -> npt.NDArray[np.uint8]:
        """See `Backend.get_state`."""
        return add_header(self.core.get_state(), self.spec, self.num_envs, self.mode)

    def set_state(self, state: Array) -> None:
        """See `Backend.set_state`."""
        self.core.set_state(strip_header(state, self.spec, self.num_envs, self.mode))


def _tmaze(spec: TMazeSpec, **how: Any) -> TMazeBatch:
    return TMazeBatch(
        junction=spec.junction,
        oracle_length=spec.oracle_length,
        episode_length=spec.episode_length,
        goal_reward=spec.goal_reward,
        penalty=spec.penalty,
        distract_reward=spec.distract_reward,
        view=view_of(spec),
        add_timestep=spec.add_timestep,
        rule=rule_of(spec),
        **how,
    )


def _asked_isa() -> str:
    """The instruction set that the environment asks for, or "auto"."""
    asked = os.environ.get("FASTMAZE_ISA") or "auto"
    known = ("auto", *usable_isas())
    if asked not in known:
        raise ValueError(f"FASTMAZE_ISA in the environment: expected one of {known}, got {asked!r}")
    return asked
