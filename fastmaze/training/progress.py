"""How a run goes, for whoever watches: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from typing import Final

from tqdm import tqdm

from fastmaze.training.logging import Line

QUIET_SECONDS: Final = 30.0
"""Without a terminal, a line is printed at least this often, even in the middle of a round."""


_BAR: Final = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
_BAR_COLUMNS: Final = 46
"""Of the bar without what it says of the run."""


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
            tqdm(total=total, initial=done, unit="round", dynamic_ncols=True, bar_format=_BAR)
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
                room = shutil.get_terminal_size().columns - _BAR_COLUMNS
                self._bar.set_postfix_str(_fitting(_summary(line), room))
            self._bar.update()
        elif evaluated or self._round_began - self._spoken >= self._quiet:
            self._say(f"round {self.done:>5}/{self.total}  {', '.join(_summary(line))}")

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


def _fitting(parts: list[str], room: int) -> str:
    """As many of the parts, the first ones, as fit into so many columns; at least one."""
    text = parts[0]
    for part in parts[1:]:
        if len(text) + len(part) + 2 > room:
            break
        text += f", {part}"
    return text


def _summary(line: Line) -> list[str]:
    """How the round went, what it cost, and how far the run is; what a line lacks is left out."""
    parts = []
    if line.get("eval_success") is not None:
        parts += [f"success {line['eval_success']:.3f}"]
        parts += [
            f"{name} {line[f'eval_{key}']:.2f}" for name, key in _SHARES if f"eval_{key}" in line
        ]
        parts += [f"return {line['eval_return']:+.2f}"]
    else:
        parts += [f"exploring: {line['train_success']:.3f}"]
        parts += [
            f"{name} {line[f'train_{key}']:.2f}" for name, key in _SHARES if f"train_{key}" in line
        ]
        parts += [f"return {line['train_return']:+.2f}"]
    if line.get("epsilon"):
        parts += [f"eps {line['epsilon']:.3g}"]
    if "entropy" in line:
        parts += [f"entropy {line['entropy']:.2f}"]
    parts += [f"{short(line[key])} {unit}" for unit, key in _RATES if key in line]
    if "update_ms" in line:
        parts += [f"{line['update_ms']:.3g} ms/update"]
    if "gpu_gib" in line:
        parts += [f"{line['gpu_gib']:.1f} GiB"]
    return [*parts, f"{short(line['env_steps'])} steps", f"{line['seconds']:.0f} s"]


_SHARES: Final = (("junction", "junction"), ("recall", "recall"), ("key", "key_taken"))
_RATES: Final = (("tokens/s", "tokens_per_second"), ("env steps/s", "env_steps_per_second"))


def short(number: float) -> str:
    """Three digits and a unit: 950, 12.3k, 4.56M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"
