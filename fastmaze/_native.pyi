from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.base import Array

def usable_isas() -> list[str]: ...
def isa() -> str: ...
def philox4x32(
    c0: int, c1: int, c2: int, c3: int, k0: int, k1: int
) -> tuple[int, int, int, int]: ...

class TMazeBatch:
    def __init__(
        self,
        *,
        num_envs: int,
        junction: int,
        oracle_length: int,
        episode_length: int,
        goal_reward: float,
        penalty: float,
        distract_reward: float,
        view: int,
        add_timestep: bool,
        rule: int,
        mode: int,
        num_threads: int,
        least_per_thread: int = 4096,
        isa: str = "auto",
    ) -> None: ...
    def reset(
        self,
        obs: Array,
        mask: Array | None = None,
        goals: Array | None = None,
        stagger: bool = False,
        keys: Array | None = None,
        indices: Array | None = None,
        seed_mask: Array | None = None,
    ) -> None: ...
    def step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> int: ...
    def unroll(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> None: ...
    def observe(self, obs: Array) -> None: ...
    def get_state(self) -> npt.NDArray[np.uint8]: ...
    def set_state(self, state: Array) -> None: ...
    def positions(self) -> npt.NDArray[np.int32]: ...
    def statistics(
        self,
    ) -> tuple[
        npt.NDArray[np.float64],
        npt.NDArray[np.int64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
    ]: ...
    def close(self) -> None: ...

class PlainBatch:
    def __init__(
        self,
        *,
        task: str,
        options: Mapping[str, float],
        obs_shape: Sequence[int],
        bytes: bool,
        context_bytes: int,
        state_bytes: int,
        num_envs: int,
        mode: int,
        num_threads: int,
        least_per_thread: int = 4096,
        isa: str = "auto",
    ) -> None: ...
    def reset(
        self,
        obs: Array,
        mask: Array | None = None,
        context: Array | None = None,
        stagger: bool = False,
        keys: Array | None = None,
        indices: Array | None = None,
        seed_mask: Array | None = None,
    ) -> None: ...
    def step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> int: ...
    def unroll(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> None: ...
    def observe(self, obs: Array) -> None: ...
    def get_state(self) -> npt.NDArray[np.uint8]: ...
    def set_state(self, state: Array) -> None: ...
    def statistics(
        self,
    ) -> tuple[
        npt.NDArray[np.float64],
        npt.NDArray[np.int64],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
    ]: ...
    def close(self) -> None: ...

class LstmLayer:
    """A layer's recurrence over histories; arrays of float32 and int32, written in place."""

    def __init__(self, weight: Array, *, num_threads: int, isa: str = "auto") -> None: ...
    def forward(
        self,
        inputs: Array,
        index: Array | None,
        parent: Array,
        bounds: Array,
        *,
        gates: Array,
        cell: Array,
        hidden: Array,
        cell_before: Array | None = None,
        hidden_before: Array | None = None,
    ) -> None: ...
    def backward(
        self,
        index: Array | None,
        parent: Array,
        bounds: Array,
        *,
        cell: Array,
        gates: Array,
        d_hidden: Array,
        d_cell: Array,
        d_inputs: Array | None = None,
    ) -> None: ...
