"""What the analysis needs to know of a task: a layered model of exact integers.

Time runs from t = 1 to T. At each time the agent has seen o_1 … o_t, acts, is paid, and sees
o_{t+1}; the last step shows o_{T+1}. States of different times are numbered apart ("layers").
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastmaze.lengths.exact import Integers

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Kernel:
    """P(o', s' | s, a) at one time. Row s·A + a has the entries first[row] … first[row + 1] - 1.

    Every row's weights sum to `total`.
    """

    first: Index
    obs: Index
    state: Index
    weight: Integers
    total: int


class Start(NamedTuple):
    """P(s_1, o_1): weights over their sum."""

    state: Index
    obs: Index
    weight: Integers


class Model(abc.ABC):
    """A finite-horizon POMDP with exact numbers, read layer by layer."""

    name: str
    """What reports call it."""
    horizon: int
    """T, the number of actions in an episode."""
    num_actions: int
    """A."""
    gamma: Fraction = Fraction(1)
    """The reward discount, 0 to 1."""
    reward_unit: int = 1
    """Rewards are integers over this."""
    rounded: bool = False
    """Some number was a float that is no fraction in particular: ties may be accidents."""
    action_names: Sequence[str]
    """A names, for stories."""
    note: str = ""
    """What a reader of the report should know first."""

    @abc.abstractmethod
    def start(self) -> Start:
        """How an episode begins."""

    @abc.abstractmethod
    def num_states(self, t: int) -> int:
        """States of layer t = 1 … T + 1, reachable or not."""

    @abc.abstractmethod
    def kernel(self, t: int) -> Kernel:
        """From the states of layer t to those of layer t + 1."""

    @abc.abstractmethod
    def rewards(self, t: int, states: Index) -> Integers:
        """E[r_t | s, a] in units of 1 / `reward_unit`: integers [len(states), A]."""

    @abc.abstractmethod
    def observation_name(self, obs: int) -> str:
        """An observation's name, for stories."""


def ranges(first: Index, count: Index) -> Index:
    """first[0], first[0] + 1, … (count[0] of them), then those of first[1], and so on."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if ends.size else 0
    taken: Index = np.arange(total) + np.repeat(first - (ends - count), count)
    return taken


class Rows(NamedTuple):
    """Entries of some rows of a kernel."""

    row: Index
    """Position in the list of rows asked for, ascending."""
    entry: Index
    """Position in the kernel's arrays."""


def take_rows(first: Index, rows: Index) -> Rows:
    """All entries of the rows asked for."""
    count = first[rows + 1] - first[rows]
    if (count == 1).all():
        return Rows(np.arange(rows.size), first[rows])
    return Rows(np.repeat(np.arange(rows.size), count), ranges(first[rows], count))


def as_index(values: Any) -> Index:
    """int64 array."""
    return np.asarray(values, dtype=np.int64)
