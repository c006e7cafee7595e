"""Where a run's figures go: a JSON line per round, and TensorBoard."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fastmaze.training.config import TrainConfig
from fastmaze.training.tensorboard import EventFile

Line = dict[str, Any]

WALL_CLOCK = ("seconds", "env_steps_per_second", "tokens_per_second", "update_ms", "gpu_gib")
"""Keys of a line that differ between two runs that are otherwise the same."""


def rates(config: TrainConfig, collecting: float, learning: float, updates: int) -> Line:
    """How fast a round was: entries of its line.

    Args:
        config: the run.
        collecting: seconds of the round's rollouts, those of all processes at once.
        learning: seconds of its updates.
        updates: how many there were; their entries are left out where there were none.
    """
    hyper, T = config.hyper, config.spec.episode_length
    line: Line = {"env_steps_per_second": round(hyper.num_envs * T / collecting)}
    if updates:
        line["tokens_per_second"] = round(updates * hyper.batch_size * T / learning)
        line["update_ms"] = round(1e3 * learning / updates, 3)
    device = torch.device(config.device)
    if device.type == "cuda":  # the most that this process has taken so far
        line["gpu_gib"] = round(torch.cuda.max_memory_reserved(device) / 2**30, 3)
    return line


class RunLog:
    """Appends a line per round to log.jsonl and to TensorBoard's files in tensorboard/.

    Args:
        run_dir: an existing directory.
        position: bytes of log.jsonl that are kept; what a killed run wrote beyond its last
            checkpoint is cut off, since it will be written again.
        next_round: first round that will be logged; TensorBoard drops what it has from there on.

    Raises:
        ValueError: log.jsonl is shorter than `position`.
        OSError: the disk is full or not writable; it names the file, as do all methods.
    """

    def __init__(self, run_dir: Path, position: int = 0, next_round: int = 0) -> None:
        self.path, self._boards = run_dir / "log.jsonl", run_dir / "tensorboard"
        self._next_round = next_round
        self._board: EventFile | None = None
        with _named(self.path):
            self._file = open(self.path, "ab")  # noqa: SIM115
            size = self._file.seek(0, os.SEEK_END)
            if size < position:
                self._file.close()
                raise ValueError(
                    f"{self.path}: expected at least {position} bytes, the file is shorter"
                )
            if size > position:
                self._file.truncate(position)
            self._file.seek(position)

    @property
    def position(self) -> int:
        """Bytes written so far, for the checkpoint."""
        return self._file.tell()

    def write(self, line: Line) -> None:
        """Appends one line; it is on its way to the disk when this returns."""
        with _named(self.path):
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        with _named(self._boards):
            if self._board is None:
                self._board = EventFile(self._boards, self._next_round)
            scalars = {k: v for k, v in line.items() if k != "round" and v is not None}
            self._board.add(line["round"], scalars)

    def sync(self) -> None:
        """Waits until every line is on the disk: before a checkpoint that counts on them."""
        with _named(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files. Their lines were flushed before, or that has failed already."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Says which file an error of the disk is about."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_log(run_dir: Path) -> list[Line]:
    """The lines of a run's log; a line cut short by a kill is left out."""
    path = run_dir / "log.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]
