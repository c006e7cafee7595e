"""Numbers without rounding: what a user gives becomes a rational, a table of them integers.

How floats are read (`floats`):

- "simplest" (default): the simplest fraction, with a denominator up to a million, that is within
  four units in the last place of the float: 0.1 means 1/10, 0.1 * 3 means 3/10, and -1/1500 what it
  says. A float that is near no such fraction is taken as the dyadic number that it is, and counts
  as rounded; if it is as near to another number of its table, who knows whether they were meant to
  be equal, and both are refused. (Of floats at random one in some thousands looks simple; with much
  larger denominators many would.)
- "exact": every float is the dyadic number that it is; the caller vouches for it.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[Any]
"""int64, or Python's integers (dtype object) where 64 bits may not do."""

FLOATS: Final = ("simplest", "exact")

MAX_DENOMINATOR: Final = 10**6
"""Largest denominator that a float is read with."""

_ROUNDING: Final = 4
"""Units in the last place that a short calculation with floats may go wrong by."""

INT64_SAFE: Final = 2**62
"""Bounds below this leave room for one addition in 64 bits."""


class Rationals(NamedTuple):
    """A table of rationals over one denominator."""

    numerators: Integers
    denominator: int
    rounded: bool
    """Some entry was a float that no simple fraction rounds to."""


def rational(
    name: str, value: Any, floats: str = "simplest", max_denominator: int = MAX_DENOMINATOR
) -> tuple[Fraction, bool]:
    """The number as a fraction, and whether it was a float that is none in particular.

    Args:
        name: what an error calls it.
        value: an integer, a Fraction, a float, or a string such as "1/3".
        floats: how to read a float, see the module.
        max_denominator: the largest denominator to read one with.

    Raises:
        TypeError: not a number.
        ValueError: infinite or not a number.
    """
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, str):
        try:
            return Fraction(value), False
        except (ValueError, ZeroDivisionError):
            raise ValueError(f'{name}: expected a number such as "1/3", got {value!r}') from None
    if isinstance(value, numbers.Rational):
        return Fraction(int(value.numerator), int(value.denominator)), False
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected finite numbers, got {number}")
    exact = Fraction(number)
    if floats == "exact" or exact.denominator <= 1024:
        return exact, False
    # float32 entries mean what their shortest decimal says.
    if isinstance(value, np.floating) and value.dtype.itemsize < 8:
        exact = Fraction(str(value))
        number = float(exact)
    simple = exact.limit_denominator(max_denominator)
    meant = abs(simple - exact) <= _ROUNDING * Fraction(math.ulp(number))
    return (simple, False) if meant else (exact, True)


def refuse_near_duplicates(name: str, parsed: Iterable[tuple[Fraction, bool]]) -> None:
    """Refuses two different numbers of which rounding alone may have made two.

    Args:
        name: what an error calls the table that they are from.
        parsed: what `rational` returned for each number.

    Raises:
        ValueError: there are such numbers.
    """
    values = dict(parsed)
    order = sorted(values)
    for low, high in itertools.pairwise(order):
        if values[low] or values[high]:
            size = max(abs(float(low)), abs(float(high)))
            if high - low <= 2 * _ROUNDING * Fraction(math.ulp(size)):
                raise ValueError(
                    f"{name}: {float(low)!r} and {float(high)!r} differ by no more than rounding "
                    'does; make them equal, give Fractions or strings such as "1/3", or '
                    'floats="exact" if these very numbers are meant'
                )


def rationals(name: str, values: Any, floats: str = "simplest") -> Rationals:
    """An array of numbers as integers over their least common denominator.

    Raises:
        TypeError: some entry is not a number.
        ValueError: some entry is infinite or not a number.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: expected an array, got rows of different lengths") from None
    if array.dtype.kind in "iu":
        # Object first: unsigned entries may not fit.
        return Rationals(narrow(array.astype(object)), 1, False)
    if array.dtype.kind == "f":
        distinct, where = np.unique(array, return_inverse=True)
        parsed = [rational(name, x, floats) for x in distinct]
        where = where.reshape(-1)
    elif array.dtype.kind in "OU":
        parsed = [rational(name, x, floats) for x in array.reshape(-1).tolist()]
        where = np.arange(array.size)
    else:
        raise TypeError(f"{name}: expected numbers, got an array of dtype {array.dtype}")
    if floats != "exact":
        refuse_near_duplicates(name, parsed)
    numerators, denominator = common([value for value, _ in parsed])
    table = narrow(np.array([*numerators, 0], dtype=object))[where].reshape(array.shape)
    return Rationals(table, denominator, any(rounded for _, rounded in parsed))


def common(values: Sequence[Fraction]) -> tuple[list[int], int]:
    """Numerators over the least common denominator, and that denominator."""
    denominator = math.lcm(1, *(value.denominator for value in values))
    return [x.numerator * (denominator // x.denominator) for x in values], denominator


def narrow(values: Integers) -> Integers:
    """The integers as int64 if all of them are small, else as they are."""
    if values.dtype != object:
        return values.astype(np.int64)
    if values.size == 0 or max(abs(int(values.max())), abs(int(values.min()))) < INT64_SAFE:
        return values.astype(np.int64)
    return values


def widen(bound: int, *arrays: Integers) -> Iterable[Integers]:
    """The arrays as int64 if `bound`, the largest size of a result, is safe; else as objects."""
    if bound < INT64_SAFE and all(array.dtype != object for array in arrays):
        return arrays
    return tuple(array.astype(object) for array in arrays)


def largest(values: Integers) -> int:
    """The largest absolute value, 0 of nothing."""
    return max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0


def shown(value: Fraction, digits: int = 9) -> str:
    """A fraction for people: as it is if it is short, else its first digits."""
    if value.denominator.bit_length() <= 32 and value.numerator.bit_length() <= 64:
        return str(value)
    return f"≈ {float(value):.{digits}g}"
