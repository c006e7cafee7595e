"""TensorBoard's event files, written without a thread, so that a full disk is told at once."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]


class EventFile:
    """One file of scalars; a directory may hold several, which TensorBoard joins.

    Args:
        directory: made if it is not there.
        first_step: TensorBoard drops what older files have from this step on.

    Raises:
        OSError: it cannot be written; so do all methods.
    """

    def __init__(self, directory: Path, first_step: int) -> None:
        directory.mkdir(exist_ok=True)
        now = time.time()
        # TensorBoard reads files in the order of their names; the last part sets two apart that
        # begin in the same second, in the same process.
        name = f"{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns() % 10**9:09d}"
        self.path = directory / f"events.out.tfevents.{name}"
        self._file = open(self.path, "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=now, step=first_step, session_log=start))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Adds scalars by name; TensorBoard sees them when this returns."""
        values = [
            Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()
        ]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
