"""Numbering things that are equal: the vectorised heart of minimisation and of belief merging.

A "row" is a list of entries; equal rows get equal numbers. All of it is exact: numbers are looked
up or sorted, never hashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from fastmaze.lengths.exact import Integers
from fastmaze.lengths.model import Index

_WIDE_ROW: Final = 16
"""Rows of more entries than this are compared as bytes."""


class Numbered(NamedTuple):
    """Things by number."""

    ids: Index
    """The number of each thing, equal for equal things, 0 … count - 1."""
    examples: Index
    """For each number, the position of some thing that has it."""

    @property
    def size(self) -> int:
        """How many different things there are."""
        return self.examples.size


def number(codes: Integers) -> Numbered:
    """Numbers equal integers equally."""
    if codes.size == 0:
        return Numbered(np.zeros(0, np.int64), np.zeros(0, np.int64))
    if codes.dtype != object:
        low, high = int(codes.min()), int(codes.max())
        if high - low <= 4 * codes.size + 1024:
            # A table is much faster than sorting where the integers are close together.
            codes = codes - low if low else codes
            example = np.full(high - low + 1, -1)
            example[codes] = np.arange(codes.size)
            values = np.flatnonzero(example >= 0)
            lookup = np.empty(example.size, np.int64)
            lookup[values] = np.arange(values.size)
            return Numbered(lookup[codes], example[values])
    _, examples, ids = np.unique(codes, return_index=True, return_inverse=True)
    return Numbered(ids.reshape(-1), examples)


def number_together(columns: Sequence[Numbered]) -> Numbered:
    """Numbers tuples: one column after the other, of equal sizes."""
    total = columns[0]
    for column in columns[1:]:
        if column.size > 1:
            total = number(total.ids * column.size + column.ids)
    return total


def number_rows(num_rows: int, row: Index, entry: Numbered) -> Numbered:
    """Numbers lists of entries.

    Args:
        num_rows: how many lists there are, empty ones too.
        row: which list an entry belongs to, ascending; order matters within a list.
        entry: the entries by number.
    """
    if row.size == num_rows and (row == np.arange(num_rows)).all():
        return number(entry.ids)
    length = np.bincount(row, minlength=num_rows)
    first = np.cumsum(length) - length
    width = int(length.max()) if num_rows else 0
    if width > _WIDE_ROW:
        known: dict[bytes, int] = {}
        ids = np.empty(num_rows, np.int64)
        examples: list[int] = []
        for i in range(num_rows):
            key = entry.ids[first[i] : first[i] + length[i]].tobytes()
            ids[i] = known.setdefault(key, len(known))
            if ids[i] == len(examples):
                examples.append(i)
        return Numbered(ids, np.array(examples, dtype=np.int64))
    total = number(length)
    padded = np.append(entry.ids + 1, 0)
    for j in range(width):
        column = padded[np.where(j < length, first + j, entry.ids.size)]
        total = number(total.ids * (entry.size + 1) + column)
    return total


class Sums(NamedTuple):
    """Weights by row and key, both ascending."""

    row: Index
    key: Index
    weight: Integers


def add_up(row: Index, key: Index, weight: Integers) -> Sums:
    """Adds the weights of equal (row, key); rows and keys come out in order."""
    if row.size == 0:
        return Sums(row, key, weight)
    width = int(key.max()) + 1
    code = row * width + key
    if (np.diff(code) > 0).all():
        return Sums(row, key, weight)
    order = np.argsort(code, kind="stable")
    code = code[order]
    starts = np.flatnonzero(np.append(True, np.diff(code) > 0))
    code = code[starts]
    return Sums(code // width, code % width, np.add.reduceat(weight[order], starts))


def starts_of(row: Index) -> Index:
    """Where each run of equal entries begins."""
    return np.flatnonzero(np.append(True, np.diff(row) != 0)) if row.size else row


def pointers(num_rows: int, row: Index) -> Index:
    """first[i] … first[i + 1] - 1 are the entries of row i; `row` ascends."""
    return np.searchsorted(row, np.arange(num_rows + 1)).astype(np.int64)


def reduced(numerator: Integers, denominator: Integers) -> tuple[Integers, Integers]:
    """Fractions in lowest terms; denominators are positive."""
    divisor = np.gcd(numerator, denominator)
    return numerator // divisor, denominator // divisor


def number_fractions(numerators: Integers, denominators: Integers) -> Numbered:
    """Numbers the rows of a table [N, A] over one denominator a row [N]."""
    columns = []
    if denominators.size and (denominators == denominators[0]).all():
        for column in numerators.T:
            columns.append(number(column))
    else:
        for column in numerators.T:
            top, bottom = reduced(column, denominators)
            columns += [number(top), number(bottom)]
    return number_together(columns)
