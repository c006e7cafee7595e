"""Checks of single values: right or refused, and the refusal names the argument."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any, Final

import numpy as np

_REWARD_LIMIT: Final = 3e38
"""Rewards are float32, which ends a little later."""


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """The value as an int: a Python int, a NumPy integer, or an integer array of no dimension.

    Args:
        name: what an error calls it.
        value: what the caller gave.
        low: smallest value allowed.
        high: largest value allowed; needs `low`.

    Raises:
        TypeError: anything else, also True and False.
        ValueError: out of range.
    """
    number = _scalar(value, "iu")
    # A time difference of NumPy counts as an integer, but cannot be used as one.
    if isinstance(number, (bool, np.timedelta64)) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {_described(value)}")
    number = operator.index(number)
    if low is not None and (number < low or (high is not None and number > high)):
        within = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {within}, got {number}")
    return number


def check_real(name: str, value: Any) -> float:
    """The value as a finite float: a real number of Python or NumPy, or one in an
    array of no dimension.

    Raises:
        TypeError: anything else, also True and False.
        ValueError: infinite or not a number.
    """
    number = _scalar(value, "iuf")
    if isinstance(number, (bool, np.timedelta64)) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {_described(value)}")
    try:
        result = float(number)
    except OverflowError:
        result = math.inf  # an int or a fraction beyond all floats
    if not math.isfinite(result):
        raise ValueError(f"{name}: expected a finite number, got {result}")
    return result


def check_boolean(name: str, value: Any) -> bool:
    """The value as a bool: True or False, of Python or NumPy.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {_described(value)}")
    return bool(value)


def check_reward(name: str, value: Any) -> float:
    """The value as a finite float that float32 holds, too; -0.0 becomes 0.0.

    Raises:
        TypeError: as `check_real`.
        ValueError: infinite, not a number, or beyond float32.
    """
    number = check_real(name, value) + 0.0
    if abs(number) >= _REWARD_LIMIT:
        raise ValueError(f"{name}: expected a finite number within float32, got {number}")
    return number


def _scalar(value: Any, kinds: str) -> Any:
    """The number in an array of no dimension and of one of NumPy's `kinds`, or else the value."""
    one = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in kinds
    return value[()] if one else value


def _described(value: Any) -> str:
    """A value as errors tell it; arrays by their shape, for all of one would be too much."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{value!r} ({type(value).__name__})"
