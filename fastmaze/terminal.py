"""A terminal as a keyboard and a screen, left as it was found whatever happens."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Final, TextIO

ARROW_KEYS: Final = {"A": "up", "B": "down", "C": "right", "D": "left"}
"""Last letter of an arrow key's escape sequence."""

_ESCAPE_SECONDS: Final = 0.05
"""How long the rest of an escape sequence may take; a lone Escape key sends no rest."""

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def is_interactive(stream: TextIO) -> bool:
    """Whether single keys can be read from the stream."""
    if not stream.isatty():
        return False
    try:
        import termios  # noqa: F401
    except ImportError:
        return False  # Not a POSIX system: lines will do.
    return True


@contextlib.contextmanager
def keyboard(stream: TextIO) -> Iterator[Iterator[str]]:
    """Keys one by one and unseen, for as long as the context lasts; Ctrl-C still interrupts.

    Yields:
        Keys as they are pressed: a character, or "up", "down", "right", "left", and "end" at last.
    """
    import termios
    import tty

    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield _read_keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read_keys(descriptor: int) -> Iterator[str]:
    while byte := os.read(descriptor, 1):
        yield _arrow(descriptor) if byte == b"\x1b" else byte.decode("latin-1")
    yield "end"


def _arrow(descriptor: int) -> str:
    """The key whose escape sequence has just begun; "" for all but arrow keys."""
    sequence = ""
    # ESC [ A, or ESC O A; parameters may come before the letter, as in ESC [ 1 ; 5 A.
    while select.select([descriptor], [], [], _ESCAPE_SECONDS)[0]:
        sequence += os.read(descriptor, 1).decode("latin-1")
        if len(sequence) > 1 and not sequence[-1].isdigit() and sequence[-1] != ";":
            break
    return ARROW_KEYS.get(sequence[-1:], "") if sequence[:1] in ("[", "O") else ""


class Screen:
    """Shows one text after another, on a terminal each in the place of the last.

    The last text stays on the screen; the cursor is hidden in between.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._height = 0
        self.colours = self._is_terminal and "NO_COLOR" not in os.environ

    def __enter__(self) -> Screen:
        if isinstance(self._stream, type(sys.__stdout__)) and self._stream is not None:
            # A maze that some symbol is missing of is better than none.
            self._stream.reconfigure(errors="replace")
        self._write(_HIDE_CURSOR if self._is_terminal else "")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._write(_SHOW_CURSOR if self._is_terminal else "")

    def show(self, text: str) -> None:
        """Shows a text of some lines."""
        lines = text.split("\n")
        if self._is_terminal:
            back = f"\x1b[{self._height}F" if self._height else ""
            # Each line is cleared to its end only after it is written, so that nothing flickers.
            self._write(back + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        else:
            self._write(text + "\n\n")
        self._height = len(lines)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
