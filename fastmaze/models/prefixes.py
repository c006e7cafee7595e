"""The distinct histories of a batch for a model that knows the order of steps: a tree of prefixes.

Episodes that begin alike share what they begin with. Where agents explore little, most of a batch
does: those that see the same cue and have not yet explored have one history. Each distinct
history is a row:

```
episodes   c r r r     rows   0 ─ 1 ─ 2 ─ 4      where   0 1 2 4     parent  - 0 1 1 2 2 3
           c r r l                  │   ╰ 5              0 1 2 5
           c r l r                  ╰ 3 ─ 6              0 1 3 6
```

Rows lie step by step, within a step by group: episodes of a group are alike, and share no row with
another group's (what both begin with is there twice), so that each group can be computed by a
thread of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmaze.models.histories import Histories

ROWS_OF_GROUP: Final = 4
"""Histories per step from which a further group pays: fewer take as long."""


@dataclass(frozen=True, slots=True)
class Prefixes:
    """R distinct histories over T steps, on the CPU."""

    index: Tensor
    """int32 [R]: number of each history's newest token."""
    parent: Tensor
    """int32 [R]: the history that each goes on from, of the step before; -1 at the first step."""
    bounds: Tensor
    """int32 [T, G + 1]: where each group's rows of each step begin and end."""
    where: Tensor
    """int64: which history each of those has that were asked about."""

    @property
    def rows(self) -> int:
        """R."""
        return len(self.index)


def find_prefixes(prints: Tensor, most_groups: int = 1) -> Histories:
    """The distinct histories in whole sequences.

    Args:
        prints: int64 [B, T] on the CPU, equal where tokens are: `fingerprints`.
        most_groups: groups at most.
    """
    (B, T), flat = prints.shape, prints.numpy().ravel()
    kinds, places, numbers = np.unique(flat, return_index=True, return_inverse=True)
    ids = numbers.reshape(B, T).astype(np.int32 if len(kinds) > 256 else np.uint8)
    order = np.array(sorted(range(B), key=lambda row: ids[row].tobytes()))
    ids = ids[order]
    shared = np.zeros(B, np.int64)  # steps at the start that are those of the sequence before
    differ = ids[1:] != ids[:-1]
    shared[1:] = np.where(differ.any(1), differ.argmax(1), T)
    cuts = _cuts(T - shared, min(most_groups, int((T - shared).sum()) // (T * ROWS_OF_GROUP)))
    shared[cuts[:-1]] = 0
    new = np.arange(T) >= shared[:, None]  # [B, T]
    upto = new.cumsum(0)  # rows of each step, of the sequences up to each
    start = np.concatenate([[0], upto[-1].cumsum()[:-1]])
    where = start + upto - 1
    t, b = new.T.nonzero()
    parent = np.where(t > 0, where[b, t - 1], -1)
    before = np.concatenate([np.zeros((1, T), np.int64), upto])[cuts]  # [G + 1, T]
    places_of = np.empty_like(where)
    places_of[order] = where
    return Histories(
        torch.from_numpy(places),
        Prefixes(
            torch.from_numpy(ids[b, t].astype(np.int32)),
            torch.from_numpy(parent.astype(np.int32)),
            torch.from_numpy(np.ascontiguousarray((start + before).T, np.int32)),
            torch.from_numpy(places_of.ravel()),
        ),
    )


def _cuts(rows: npt.NDArray[np.int64], groups: int) -> npt.NDArray[np.int64]:
    """Where each group of sequences begins and the last one ends, int64 [G + 1].

    Args:
        rows: int64 [B], that each sequence adds to those before it.
        groups: G, of about as many rows each; 1 if less.
    """
    upto = np.concatenate([[0], rows.cumsum()])
    wanted = upto[-1] * np.arange(max(groups, 1) + 1) / max(groups, 1)
    # Where a sequence brings something new: a cut before any other would make its rows twice.
    places = np.append(rows.nonzero()[0], len(rows))
    return np.unique(places[np.abs(upto[places][:, None] - wanted).argmin(0)])
