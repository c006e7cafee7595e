"""What an option that cannot be had says, once, before the run goes on without it."""

from __future__ import annotations

import warnings


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that compilers and CUDA add to it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def warn_slower(what: str, reason: str, *, stacklevel: int) -> None:
    """Warns that the run goes on without something that would make it faster.

    Args:
        what: part and option, such as "update: not compiled".
        reason: why not.
        stacklevel: of `warnings.warn`, counted from the caller.
    """
    warnings.warn(f"{what}, which is slower: {reason}", RuntimeWarning, stacklevel=stacklevel + 1)
