"""What every backend of the vector envs offers: the contract between the façade and the core."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Mode = Literal["NextStep", "SameStep", "Disabled"]
"""When a finished env is reset; the values of `gymnasium.vector.AutoresetMode`."""

Array = npt.NDArray[Any]


class EpisodeStatistics(NamedTuple):
    """The last finished episode of each env; an env that finished none yet holds zeros."""

    episode_return: npt.NDArray[np.float64]
    """Sum of the rewards, float64 [num_envs]."""
    length: npt.NDArray[np.int64]
    """Steps, int64 [num_envs]."""
    success: npt.NDArray[np.bool_]
    """Did what the task asks for, bool [num_envs]; in a T-Maze: ended in the goal cell."""
    cue_seen: npt.NDArray[np.bool_]
    """What `TaskSpec.flag_name` names, bool [num_envs]; in a T-Maze: visited the oracle."""

    @classmethod
    def of_none(cls, num_envs: int) -> EpisodeStatistics:
        """Before any episode has finished."""
        return cls(
            np.zeros(num_envs, np.float64),
            np.zeros(num_envs, np.int64),
            np.zeros(num_envs, np.bool_),
            np.zeros(num_envs, np.bool_),
        )


class Backend(Protocol):
    """`num_envs` copies of one task, stepped together, on arrays that the caller owns.

    Every call checks its arguments first and changes nothing when it raises. Arrays must be
    C-contiguous, of the dtype named, and writable and apart from each other where they are written.
    A call while another thread is inside one raises Busy, one after `close` Closed (see `errors`).

    Attributes:
        spec: the task.
        num_envs: number of copies, N.
        mode: when a finished env is reset.
        statistics: views of the last finished episodes, rewritten in place as episodes end.
    """

    name: str
    spec: Any
    num_envs: int
    mode: Mode
    statistics: EpisodeStatistics

    def reset(
        self,
        obs: Array,
        mask: Array | None = None,
        context: Array | None = None,
        /,
        stagger: bool = False,
        keys: Array | None = None,
        indices: Array | None = None,
        seed_mask: Array | None = None,
    ) -> None:
        """Starts the next episode of the masked envs and writes the observations of all.

        Args:
            obs: [N, *spec.obs_shape] of the spec's dtype, written: present observations, of the
                masked envs and the others.
            mask: bool [N], envs to reset; None for all.
            context: what to set instead of drawing it, None for all draws. T-Mazes: the goals,
                int8 [N], -1 or +1, or 0 for the draw. Other tasks: uint8 [N, context_size] from
                `TaskSpec.encode_context`, rows that begin with 0 for the draw.
            stagger: start the clock at `staggered_start(index, T)` instead of 0.
            keys: uint64 [N], Philox key of each env, for new random streams, whose episode 0
                this is; None to go on with the present streams.
            indices: uint32 [N], counter word of each env, with `keys`.
            seed_mask: bool [N], of the envs to reset those that get a new stream; None for all.
        """

    def step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> int:
        """Steps every env once.

        Args:
            actions: int64, int32, int8 or uint8 [N], each from 0 on, below `spec.num_actions`.
            obs: as for `reset`, written.
            reward: float32 [N], written.
            terminated: bool [N], written.
            truncated: bool [N], written: always False.
            final_obs: as `obs`, written where `terminated`, in mode SameStep only.

        Returns:
            How many envs finished an episode in this step.

        Raises:
            NotReady: an env was never reset, or (mode Disabled) finished and was not reset.
        """

    def unroll(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> None:
        """Steps every env S times: as `step`, each array with a leading axis [S]."""

    def get_state(self) -> npt.NDArray[np.uint8]:
        """All there is to know to go on, random streams included: uint8 [state_bytes]."""

    def set_state(self, state: Array) -> None:
        """Goes on from what `get_state` returned, of this or another backend."""

    def observe(self, obs: Array) -> None:
        """Writes the present observations, as for `reset`."""

    def close(self) -> None:
        """Ends the threads and frees the state; the statistics stay. Every later call raises."""
