"""The last checkpoints of a run: which are kept, which one is gone on from, when one is due."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

from fastmaze.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    load_checkpoint,
    prepared_checkpoint,
    replace_file,
)

CHECKPOINT_FILE: Final = "checkpoint.safetensors"
"""The newest; the ones before it are checkpoint-1.safetensors, checkpoint-2.safetensors …"""

MOST_OF_THE_TIME: Final = 0.05
"""Checkpoints by time take no more than this share of a run's time."""


class CheckpointSeries:
    """The newest checkpoint of a run and those before it.

    A process may be killed at any moment: each file appears as a whole, and the newest complete
    one is always found.

    Args:
        run_dir: an existing directory.
        keep: how many.
    """

    def __init__(self, run_dir: Path, keep: int) -> None:
        self.paths = [
            run_dir / (f"checkpoint-{age}.safetensors" if age else CHECKPOINT_FILE)
            for age in range(keep)
        ]
        self._damaged: list[Path] = []

    def save(self, checkpoint: Checkpoint) -> None:
        """Adds one, and lets go of the oldest.

        Raises:
            OSError: the disk is full or not writable; those there are stay as they are.
        """
        newest = self.paths[0]
        with prepared_checkpoint(newest, checkpoint) as temporary:
            for path in self._damaged:
                path.unlink(missing_ok=True)
            self._damaged = []
            self._make_room()
            # A process killed before the next line leaves no newest file, but the one before it.
            replace_file(temporary, newest)

    def _make_room(self) -> None:
        """Moves each to the place of the one before it, up to the first place that is free."""
        places = self.paths
        free = next((i for i, path in enumerate(places) if not path.exists()), len(places) - 1)
        for age in range(free, 0, -1):
            os.replace(places[age - 1], places[age])

    def load(self) -> Checkpoint | None:
        """The newest that is whole; a damaged one is passed over, with a line that says so.

        Returns:
            None if there is none at all.

        Raises:
            DamagedCheckpointError: all there are are damaged.
            CheckpointError: the newest is of another version.
        """
        self._damaged = []
        first: DamagedCheckpointError | None = None
        for path in self.paths:
            if not path.is_file():
                continue
            try:
                checkpoint = load_checkpoint(path)
            except DamagedCheckpointError as error:
                first = first or error
                self._damaged.append(path)
                continue
            if first is not None:
                print(f"{first}; going on from the one before it, {path}", file=sys.stderr)
            return checkpoint
        if first is not None:
            raise first
        return None


class CheckpointPace:
    """When the next checkpoint is due: after so many rounds, or so much time.

    Writing a large replay takes long. So that checkpoints by time never take more than 5 % of a
    run, the wait is at least nineteen times as long as the last one took to write. Those asked for
    by rounds are always written.

    Args:
        seconds: between two checkpoints.
        rounds: between two checkpoints, or None.
    """

    def __init__(self, seconds: float, rounds: int | None) -> None:
        self.seconds, self.rounds = seconds, rounds
        self.wait = seconds
        """Seconds from the last checkpoint to the next."""
        self._last = time.monotonic()

    def due(self, round_: int) -> bool:
        """Whether one is due after this round."""
        if self.rounds is not None and round_ % self.rounds == 0:
            return True
        return time.monotonic() - self._last > self.wait

    def saved(self, took: float) -> None:
        """One was written, in so many seconds."""
        self.wait = max(self.seconds, took * (1 / MOST_OF_THE_TIME - 1))
        self._last = time.monotonic()
