"""Checks of the arrays that cross a backend's border: a bad one is refused before any change."""

from __future__ import annotations

import operator
from typing import Any, Final

import numpy as np

from fastmaze.envs.backends.base import Array
from fastmaze.specs import NUM_ACTIONS

ACTION_TYPES: Final = ("int64", "int32", "int8", "uint8")
"""What an action array may be made of."""


def check_array(
    name: str, array: Any, dtypes: tuple[str, ...], shape: tuple[int, ...], *, written: bool = False
) -> None:
    """Refuses anything but a C-contiguous array of one of `dtypes` and of `shape`.

    Args:
        name: the argument's name, for the message.
        array: what the caller gave.
        dtypes: the dtypes that will do, by name.
        shape: the only shape that will do.
        written: whether the array must be writable.

    Raises:
        TypeError: not an array, or of another dtype.
        ValueError: another shape, not C-contiguous, or read-only.
    """
    wanted = f"{' or '.join(dtypes)} array of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a {wanted}, got {type(array).__name__}")
    # Native byte order has no prefix in `name`, so compare the types themselves.
    if not any(array.dtype == np.dtype(dtype) for dtype in dtypes):
        raise TypeError(f"{name}: expected a {wanted}, got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected a {wanted}, got shape {array.shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides}")
    if written and not array.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")


def check_actions(actions: Any, shape: tuple[int, ...]) -> None:
    """Refuses anything but integers 0 to 3 in an array of `shape`; see `check_array`."""
    check_array("actions", actions, ACTION_TYPES, shape)
    if actions.size and not (actions.min() >= 0 and actions.max() < NUM_ACTIONS):
        bad = np.flatnonzero((actions < 0) | (actions >= NUM_ACTIONS))[0]
        raise ValueError(
            f"actions: expected 0 to {NUM_ACTIONS - 1}, "
            f"got {actions.flat[bad]} at {np.unravel_index(bad, shape)}"
        )


def check_goals(goals: Array) -> None:
    """Refuses goals other than -1, 0 (draw it) and +1."""
    bad = np.flatnonzero((goals < -1) | (goals > 1))
    if bad.size:
        raise ValueError(f"goals: expected -1, 0 or +1, got {goals[bad[0]]} at {bad[0]}")


def check_count(name: str, value: Any) -> int:
    """The value as an int, at least 1."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected an integer, got {value!r} ({type(value).__name__})")
    number = operator.index(value)
    if number < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {number}")
    return number
