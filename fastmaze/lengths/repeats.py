"""Work that comes again: the layers of a long task are often alike, and each is done once.

Equal small inputs become one object (`Pool`), and what was computed from the same objects is
looked up (`Memory`). Long corridors then cost little more than their different layers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

import numpy.typing as npt

T = TypeVar("T")

_SMALL: Final = 4096
"""Only arrays of this many bytes or fewer are compared; larger ones rarely come again."""


def small_key(*arrays: npt.NDArray[Any]) -> Hashable | None:
    """Something equal for equal arrays; None if one is large or holds objects."""
    if any(array.nbytes > _SMALL or array.dtype == object for array in arrays):
        return None
    return tuple((array.shape, array.tobytes()) for array in arrays)


class Pool(Generic[T]):
    """One object for all equal ones."""

    def __init__(self) -> None:
        self._known: dict[Hashable, T] = {}

    def the(self, thing: T, *arrays: npt.NDArray[Any]) -> T:
        """The first thing that came with arrays equal to these."""
        key = small_key(*arrays)
        return thing if key is None else self._known.setdefault(key, thing)


class Memory(Generic[T]):
    """Results by the identity of what they were computed from."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[T, tuple[object, ...]]] = {}

    def get(self, compute: Callable[[], T], *sources: object) -> T:
        """The result for these very objects, computed at most once.

        Args:
            compute: the result, from nothing but the sources.
            *sources: objects that never change; they are kept alive, so that no other object can
                get their identity.
        """
        key = tuple(map(id, sources))
        if key not in self._known:
            self._known[key] = (compute(), sources)
        return self._known[key][0]
