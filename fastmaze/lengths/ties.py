"""What rounding may have decided: actions whose values floats cannot tell apart.

A float that is no simple fraction is taken as the binary number that it is. Sums and products of
such numbers then differ in their last bits where they were meant to be equal. Two actions that
are unequal but as close as that are refused. (Values after different histories are not: they may
come as close as one likes for good reasons, where old observations matter less and less.)
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from fastmaze.lengths.exact import Integers

NEAR_TIE: Final = 1e-11
"""Values of actions this close, relative to the largest one, may differ by rounding alone."""

Reals = npt.NDArray[np.float64]

_ADVICE: Final = (
    'which rounding alone can do: give Fractions or strings such as "1/3" instead of floats, or '
    'floats="exact" if these very numbers are meant'
)


def as_reals(numerators: Integers, denominators: Integers | int) -> Reals:
    """The quotients as floats, however long the integers are."""
    quotients = numerators.astype(object) / np.asarray(denominators, dtype=object)
    return np.asarray(quotients, dtype=np.float64)


def refuse_near_ties(
    numerators: Integers, totals: Integers, scale: int, best: npt.NDArray[np.bool_], t: int
) -> None:
    """Refuses an action that misses the best by less than rounding may have taken from it.

    Args:
        numerators: Q of each node and action [N, A], over totals [N] × scale.
        totals: see there.
        scale: see there.
        best: which are exactly the largest [N, A].
        t: for the message.

    Raises:
        ValueError: there is one.
    """
    gap = numerators.max(axis=1)[:, None] - numerators
    missed = as_reals(gap, totals.astype(object)[:, None] * scale)
    size = float(np.abs(as_reals(numerators, totals.astype(object)[:, None] * scale)).max())
    close = ~best & (missed <= size * NEAR_TIE)
    if close.any():
        node, action = (int(i) for i in np.argwhere(close)[0])
        raise ValueError(
            f"floats: at t = {t} action {action} misses the best by "
            f"{missed[node, action] / size:.1e} of the values' size, {_ADVICE}"
        )


def refuse_near_returns(mine: Integers, rivals: Integers) -> None:
    """Refuses returns of n steps that are unequal by no more than rounding.

    Args:
        mine: an optimal action's, for some n.
        rivals: the best of the others', for the same n, over the same denominator.

    Raises:
        ValueError: there are such returns.
    """
    gaps = np.abs(mine.astype(object) - rivals.astype(object))
    size = np.maximum(np.abs(mine.astype(object)), np.abs(rivals.astype(object)))
    close = (gaps > 0) & (gaps * int(1 / NEAR_TIE) <= size)
    if close.any():
        i = int(close.argmax())
        raise ValueError(
            f"floats: two actions' returns of some steps differ by {gaps[i] / size[i]:.1e} of "
            f"their size, {_ADVICE}"
        )
