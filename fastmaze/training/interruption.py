"""Ctrl-C and SIGTERM: the round under way is finished and kept before a run ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final, NoReturn

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""What asks a run to end."""


class Interruption:
    """Whether the run was asked to end, and by what."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def leave(self) -> NoReturn:
        """Ends the process as a signal does, unless someone catches it.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with the conventional status, 143.
        """
        if self.signal == signal.SIGTERM:
            sys.exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruption(echo_seconds: float = 0.0) -> Iterator[Interruption]:
    """Takes note of the first Ctrl-C or SIGTERM, so that a round is never cut in half.

    The second one acts at once, as it would have without this. A signal that the process ignores
    (`nohup`, or `&` in a script) stays ignored. Only the main thread can be asked for this.

    Args:
        echo_seconds: for so long after the first, another is taken for the same one: torchrun
            passes on what the terminal has sent to each process already.
    """
    asked = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    caught = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]

    def restore() -> None:
        for number in caught:
            signal.signal(number, before[number])

    heard_at = 0.0

    def hear(number: int, frame: object) -> None:
        nonlocal heard_at
        if asked.signal is not None:
            if time.monotonic() - heard_at > echo_seconds:
                restore()
                signal.raise_signal(number)
            return
        asked.signal, heard_at = signal.Signals(number), time.monotonic()
        if not echo_seconds:
            restore()
        # Straight to the terminal: a signal may come in the middle of a print.
        with contextlib.suppress(OSError):
            os.write(2, b"\nfinishing this round, then a checkpoint; again to end at once\n")

    for number in caught:
        signal.signal(number, hear)
    try:
        yield asked
    finally:
        restore()
