"""Why a backend refuses a call that would be right at another time; nothing has changed then."""

from __future__ import annotations


class NotReady(RuntimeError):
    """Some env was never reset, or (mode Disabled) its episode is over."""


class Busy(RuntimeError):
    """Another thread is inside a call of the same batch."""


class Closed(RuntimeError):
    """The batch was closed."""
