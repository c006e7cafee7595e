"""One call at a time: a batch that another thread is inside of refuses the second call."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from fastmaze.envs.backends.errors import Busy


@contextlib.contextmanager
def exclusive(busy: threading.Lock) -> Iterator[None]:
    """Holds a batch's lock for one call.

    Raises:
        Busy: another thread holds it.
    """
    if not busy.acquire(False):
        raise Busy("the env is in use by another thread")
    try:
        yield
    finally:
        busy.release()
