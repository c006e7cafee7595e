"""How episodes went, and what to blame for a failure: the way to the junction, or the memory.

```
 reached the junction in time?  no ──> credit: the way is not learnt, or exploration left it
            │ yes
 turned to where the cue was?   no ──> memory: at one half the agent guesses
```
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fastmaze.specs import TMazeSpec
from fastmaze.training.data_parallel import Processes
from fastmaze.training.device_rollout import DeviceEpisodes
from fastmaze.training.rollout import Episodes


class Outcomes(NamedTuple):
    """How N episodes went."""

    returns: npt.NDArray[np.float64]
    """float64 [N]."""
    success: npt.NDArray[np.bool_]
    """bool [N]: ended in the goal cell."""
    cue_seen: npt.NDArray[np.bool_]
    """bool [N]: visited the oracle."""
    junction: npt.NDArray[np.bool_]
    """bool [N]: was at the junction when the last action was due. All successful ones were."""


def outcomes_of(
    played: Episodes | DeviceEpisodes, spec: TMazeSpec, processes: Processes
) -> Outcomes:
    """How the episodes of all processes went, brought to the CPU; waits for all processes.

    Args:
        played: this process's episodes, as arrays or as tensors on any device.
        spec: the task.
        processes: which of how many this is.
    """
    due = played.obs[-2]  # what the last action is taken at, [N, D]
    how: tuple[Any, ...] = (
        played.returns,
        played.success,
        played.cue_seen,
        at_junction(spec, due),
    )
    mine = Outcomes(*(torch.as_tensor(x).cpu().numpy() for x in how))
    return joined(processes.gather(mine))


def joined(parts: Iterable[Outcomes], limit: int | None = None) -> Outcomes:
    """Several lots of episodes as one, in order; of these the first ones, up to a limit."""
    return Outcomes(*(np.concatenate(column)[:limit] for column in zip(*parts, strict=True)))


def at_junction(spec: TMazeSpec, obs: Any) -> Any:
    """Whether an agent that observes this is at the junction, or already in an arm beside it.

    An arm can only be reached early where an episode is longer than the shortest way to the goal.

    Args:
        spec: the task.
        obs: [..., D], an array or a tensor.

    Returns:
        bool [...], of the same kind.
    """
    return obs[..., 0] == (1 if spec.ambiguous_position else spec.junction)
