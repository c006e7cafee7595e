"""The options of `reset`, checked: which goals, and which envs of a population."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.base import Array
from fastmaze.specs import check_integer


def parse_single_options(options: dict[str, Any] | None) -> int | None:
    """The goal, -1 or +1, that the options of a single env ask for; None for a draw.

    Raises:
        ValueError: an unknown option, or another number.
        TypeError: not an integer, or the options are no dict.
    """
    _check_names(options, ("goal_y",))
    goal_y = options.get("goal_y") if options else None
    if goal_y is None:
        return None
    goal_y = check_integer("options['goal_y']", goal_y)
    if goal_y not in (-1, 1):
        raise ValueError(f"options['goal_y']: expected -1 or +1, got {goal_y}")
    return goal_y


def parse_vector_options(
    options: dict[str, Any] | None, num_envs: int
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.int8] | None]:
    """(mask bool [N] or None for all, goals int8 [N] or None for draws) of a population.

    Raises:
        ValueError: an unknown option, a wrong shape or value, or a mask of no env.
        TypeError: a wrong dtype, or the options are no dict.
    """
    _check_names(options, ("goal_y", "reset_mask"))
    if not options:
        return None, None
    mask, goals = options.get("reset_mask"), options.get("goal_y")
    if mask is not None:
        mask = _check_mask(mask, num_envs)
    if goals is not None:
        goals = _check_goals(goals, mask, num_envs)
    return mask, goals


def _check_names(options: dict[str, Any] | None, known: tuple[str, ...]) -> None:
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"options: expected a dict, got {options!r} ({type(options).__name__})")
    for name in options or ():
        if name not in known:
            raise ValueError(f"options: expected keys among {known}, got {name!r}")


def _check_mask(mask: Any, num_envs: int) -> npt.NDArray[np.bool_]:
    wanted = f"options['reset_mask']: expected a bool array of shape ({num_envs},)"
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"{wanted}, got {type(mask).__name__}")
    if mask.dtype != np.bool_:
        raise TypeError(f"{wanted}, got dtype {mask.dtype}")
    if mask.shape != (num_envs,):
        raise ValueError(f"{wanted}, got shape {mask.shape}")
    if not mask.any():
        raise ValueError(f"{wanted} with at least one True, got none")
    return np.ascontiguousarray(mask)


def _check_goals(goals: Any, mask: Array | None, num_envs: int) -> npt.NDArray[np.int8]:
    """Goals as int8 [N], 0 for envs outside the mask."""
    wanted = f"options['goal_y']: expected -1 or +1, one int or an int array of shape ({num_envs},)"
    try:
        array = np.asarray(goals)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{wanted}, got {goals!r}") from error
    if array.dtype.kind not in "iu":
        raise TypeError(f"{wanted}, got dtype {array.dtype}")
    if array.shape not in ((), (num_envs,)):
        raise ValueError(f"{wanted}, got shape {array.shape}")
    array = np.broadcast_to(array, (num_envs,))
    # What is given for an env that is not reset does not matter.
    chosen = array if mask is None else array[mask]
    bad = chosen[(chosen != 1) & (chosen != -1)]
    if bad.size:
        raise ValueError(f"{wanted}, got {bad[0]}")
    if mask is not None:
        array = np.where(mask, array, 0)
    return array.astype(np.int8)
