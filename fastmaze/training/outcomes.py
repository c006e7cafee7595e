"""How episodes went, and, in a T-Maze, what to blame for a failure: the way, or the memory.

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

from fastmaze.specs import TaskSpec, TMazeSpec
from fastmaze.training.data_parallel import Processes
from fastmaze.training.device_rollout import DeviceEpisodes
from fastmaze.training.rollout import Episodes


class Outcomes(NamedTuple):
    """How N episodes went."""

    returns: npt.NDArray[np.float64]
    """float64 [N]."""
    success: npt.NDArray[np.bool_]
    """bool [N]: did what the task asks for."""
    marks: dict[str, npt.NDArray[np.bool_]]
    """What else is worth counting, by name, bool [N] each: the task's own flag, as "cue_seen" or
    "key_taken", and in a T-Maze "junction": was there when the last action was due, as all
    successful ones were."""

    def shares(self) -> dict[str, float]:
        """Of the episodes, by mark."""
        return {name: float(mark.mean()) for name, mark in self.marks.items()}


def outcomes_of(
    played: Episodes | DeviceEpisodes, spec: TaskSpec, processes: Processes
) -> Outcomes:
    """How the episodes of all processes went, brought to the CPU; waits for all processes.

    Args:
        played: this process's episodes, as arrays or as tensors on any device.
        spec: the task.
        processes: which of how many this is.
    """
    marks: dict[str, Any] = {}
    if spec.flag_name is not None:
        marks[spec.flag_name] = played.cue_seen
    if isinstance(spec, TMazeSpec):
        marks["junction"] = at_junction(spec, played.obs[-2])  # what the last action is taken at
    mine = Outcomes(
        _array(played.returns),
        _array(played.success),
        {name: _array(mark) for name, mark in marks.items()},
    )
    return joined(processes.gather(mine))


def _array(x: Any) -> npt.NDArray[Any]:
    return torch.as_tensor(x).cpu().numpy()


def joined(parts: Iterable[Outcomes], limit: int | None = None) -> Outcomes:
    """Several lots of episodes as one, in order; of these the first ones, up to a limit."""
    returns, success, marks = zip(*parts, strict=True)

    def whole(columns: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.concatenate(list(columns))[:limit]

    names = marks[0]
    return Outcomes(
        whole(returns), whole(success), {name: whole(m[name] for m in marks) for name in names}
    )


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
