"""Where a run's figures go: a JSON line per round, TensorBoard, and the terminal."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

Line = dict[str, Any]

WALL_CLOCK = ("seconds",)
"""Keys of a line that differ between two runs that are otherwise the same."""


class RunLog:
    """Appends a line per round to log.jsonl and to TensorBoard's files in tensorboard/.

    Args:
        run_dir: an existing directory.
        position: bytes of log.jsonl that are kept; what a killed run wrote beyond its last
            checkpoint is cut off, since it will be written again.
        next_round: first round that will be logged; TensorBoard drops what it has from there on.
    """

    def __init__(self, run_dir: Path, position: int = 0, next_round: int = 0) -> None:
        self.path = run_dir / "log.jsonl"
        self._file = open(self.path, "ab")  # noqa: SIM115
        if self._file.seek(0, os.SEEK_END) < position:
            self._file.close()
            raise ValueError(
                f"{self.path}: expected at least {position} bytes, the file is shorter"
            )
        self._file.truncate(position)
        self._file.seek(position)
        purge = next_round if next_round > 0 else None
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=purge)

    @property
    def position(self) -> int:
        """Bytes written so far, for the checkpoint."""
        return self._file.tell()

    def write(self, line: Line) -> None:
        """Appends one line; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        for name, value in line.items():
            if name != "round" and value is not None:
                self._board.add_scalar(name, value, line["round"])

    def sync(self) -> None:
        """Waits until everything is on the disk: before a checkpoint that counts on it."""
        os.fsync(self._file.fileno())
        self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._board.close()


def read_log(run_dir: Path) -> list[Line]:
    """The lines of a run's log; a line cut short by a kill is left out."""
    path = run_dir / "log.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


class Progress:
    """Shows how a run goes: a bar on a terminal, elsewhere one line per evaluation.

    Args:
        total: rounds of the whole run.
        done: rounds done before.
        show: False for silence.
    """

    def __init__(self, total: int, done: int, show: bool) -> None:
        self.show, self.total = show, total
        self._bar = (
            tqdm(total=total, initial=done, unit="round", dynamic_ncols=True)
            if show and sys.stderr.isatty()
            else None
        )

    def update(self, line: Line) -> None:
        """One more round is done."""
        evaluated = line.get("eval_success") is not None
        if self._bar is not None:
            if evaluated:
                self._bar.set_postfix_str(_summary(line))
            self._bar.update()
        elif self.show and evaluated:
            print(f"round {line['round']:>5}/{self.total}  {_summary(line)}", flush=True)

    def note(self, text: str) -> None:
        """Says something without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text)
        elif self.show:
            print(text, flush=True)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _summary(line: Line) -> str:
    return (
        f"success {line['eval_success']:.3f}, return {line['eval_return']:+.2f}, "
        f"{line['env_steps']:,} steps, {line['seconds']:.0f} s"
    )
