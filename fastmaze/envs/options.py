"""The options of `reset`, checked: what not to draw, and which envs of a population."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.base import Array
from fastmaze.specs import TaskSpec, check_integer


def parse_single_options(spec: TaskSpec, options: dict[str, Any] | None) -> Any:
    """What the options of a single env ask its specification env to set; None for a draw.

    Raises:
        ValueError: an unknown option, or a value that no episode can begin with.
        TypeError: a value of the wrong type, or the options are no dict.
    """
    known = spec.reset_option
    _check_names(options, () if known is None else (known,))
    value = options.get(known) if options and known else None
    if value is None:
        return None
    if known != "goal_y":
        return spec.encode_context(f"options['{known}']", value)
    goal_y = check_integer("options['goal_y']", value)
    if goal_y not in (-1, 1):
        raise ValueError(f"options['goal_y']: expected -1 or +1, got {goal_y}")
    return goal_y


def parse_vector_options(
    spec: TaskSpec, options: dict[str, Any] | None, num_envs: int
) -> tuple[npt.NDArray[np.bool_] | None, Array | None]:
    """(mask bool [N] or None for all, context as `Backend.reset` takes it) of a population.

    Raises:
        ValueError: an unknown option, a wrong shape or value, or a mask of no env.
        TypeError: a wrong dtype, or the options are no dict.
    """
    known = spec.reset_option
    _check_names(options, ("reset_mask",) if known is None else (known, "reset_mask"))
    if not options:
        return None, None
    mask, value = options.get("reset_mask"), options.get(known) if known else None
    if mask is not None:
        mask = _check_mask(mask, num_envs)
    if value is None:
        return mask, None
    if known == "goal_y":
        return mask, _check_goals(value, mask, num_envs)
    return mask, _encode_contexts(spec, value, mask, num_envs)


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


def _encode_contexts(
    spec: TaskSpec, value: Any, mask: Array | None, num_envs: int
) -> npt.NDArray[np.uint8]:
    """Contexts as uint8 [N, context_size], zeros for envs that draw: None, or outside the mask."""
    name = f"options['{spec.reset_option}']"
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, np.ndarray)):
        raise TypeError(f"{name}: expected a list of one per env, got {type(value).__name__}")
    if len(value) != num_envs:
        raise ValueError(f"{name}: expected {num_envs}, one per env, got {len(value)}")
    rows = np.zeros((num_envs, spec.context_size), np.uint8)
    for i, entry in enumerate(value):
        if entry is not None and (mask is None or mask[i]):
            rows[i] = spec.encode_context(f"{name}[{i}]", entry)
    return rows
