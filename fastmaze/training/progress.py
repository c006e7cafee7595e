"""How a run goes, for whoever watches: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Final

from tqdm import tqdm

from fastmaze.training.logging import Line

QUIET_SECONDS: Final = 30.0
"""Without a terminal, a line is printed at least this often, even in the middle of a round."""


class Progress:
    """Shows how a run goes: a bar on a terminal, elsewhere a line per evaluation or half minute.

    Args:
        total: rounds of the whole run.
        done: rounds done before.
        show: False for silence.
        quiet_seconds: the longest time without a line where there is no terminal.
    """

    def __init__(
        self, total: int, done: int, show: bool, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        self.show, self.total, self.done = show, total, done
        self._bar = (
            tqdm(total=total, initial=done, unit="round", dynamic_ncols=True)
            if show and sys.stderr.isatty()
            else None
        )
        self._quiet = quiet_seconds
        self._spoken = self._round_began = time.monotonic()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None
        if show and self._bar is None:
            # A round of long episodes can take minutes: a thread says that it is under way.
            self._watch = threading.Thread(target=self._break_silence, daemon=True)
            self._watch.start()

    def update(self, line: Line) -> None:
        """One more round is done."""
        self.done, self._round_began = line["round"], time.monotonic()
        evaluated = line.get("eval_success") is not None
        if self._bar is not None:
            if evaluated:
                self._bar.set_postfix_str(_summary(line))
            self._bar.update()
        elif evaluated or self._round_began - self._spoken >= self._quiet:
            self._say(f"round {self.done:>5}/{self.total}  {_summary(line)}")

    def note(self, text: str) -> None:
        """Says something without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            self._say(text)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._closed.set()
        if self._watch is not None:
            self._watch.join()
        if self._bar is not None:
            self._bar.close()

    def _say(self, text: str) -> None:
        self._spoken = time.monotonic()
        if self.show:
            print(text, flush=True)

    def _break_silence(self) -> None:
        while not self._closed.wait(max(0.0, self._spoken + self._quiet - time.monotonic())):
            now = time.monotonic()
            if now - self._spoken < self._quiet:
                continue
            under_way = now - self._round_began
            # Whoever reads may be gone; the run itself finds out when it next says something.
            with contextlib.suppress(OSError, ValueError):
                self._say(f"round {self.done + 1:>5}/{self.total}  under way for {under_way:.0f} s")


def _summary(line: Line) -> str:
    if line.get("eval_success") is not None:
        how = f"success {line['eval_success']:.3f}, return {line['eval_return']:+.2f}"
    else:
        how = f"exploring: {line['train_success']:.3f}, return {line['train_return']:+.2f}"
    return f"{how}, {line['env_steps']:,} steps, {line['seconds']:.0f} s"
