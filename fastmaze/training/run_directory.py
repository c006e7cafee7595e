"""A run's directory: taken by one process at a time, never written over, found again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fastmaze.training.checkpoint import replace_file, sync_file
from fastmaze.training.config import TrainConfig

CONFIG_FILE: Final = "config.json"
LOCK_FILE: Final = ".lock"
BEST_FILE: Final = "best.safetensors"

_BEFORE_THE_CONFIG: Final = {LOCK_FILE, f".{CONFIG_FILE}.tmp"}
"""All that a process killed at its very start leaves behind: the directory is as good as empty."""


def read_config(run_dir: Path) -> TrainConfig:
    """The configuration of a run.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: config.json is no configuration.
    """
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"run_dir: expected a run with a {CONFIG_FILE}, found none in {run_dir}"
            + _suggestion(run_dir)
        )
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return TrainConfig.from_json(values)


def _suggestion(run_dir: Path) -> str:
    """Where a run may have been meant instead: around the path, or in it."""
    if run_dir.is_file() and (run_dir.parent / CONFIG_FILE).is_file():
        return f", which is a file; the run is {run_dir.parent}"
    for where in (run_dir, run_dir.parent):
        runs = [file.parent for file in where.glob(f"*/{CONFIG_FILE}")]
        runs.sort(key=lambda run: (run / CONFIG_FILE).stat().st_mtime, reverse=True)
        if runs:
            more = ", …" if len(runs) > 3 else ""
            return f"; the newest runs there: {', '.join(map(str, runs[:3]))}{more}"
    return ""


def write_config(run_dir: Path, config: TrainConfig) -> None:
    """Writes config.json, the whole of it or none."""
    path = run_dir / CONFIG_FILE
    temporary = path.with_name(f".{CONFIG_FILE}.tmp")
    text = json.dumps(config.to_json(), indent=2) + "\n"
    try:
        temporary.write_text(text, encoding="utf-8")
        sync_file(temporary)
        replace_file(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_free(config: TrainConfig) -> None:
    """Refuses a directory that was asked for and holds files or cannot be made, before any work.

    Raises:
        ValueError: so it is, or it cannot be read.
    """
    run_dir = config.run_dir
    if run_dir is None:
        return
    try:
        held = {path.name for path in run_dir.iterdir()} if run_dir.exists() else set()
        above = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
        if not os.access(above, os.W_OK) or not above.is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _not_writable(run_dir, error) from error
    if held - _BEFORE_THE_CONFIG:
        raise ValueError(
            f"run_dir: expected a new or empty directory, {run_dir} holds files; go on with "
            f"`fastmaze train --resume {run_dir}`, or choose another"
        )


@contextlib.contextmanager
def new_directory(config: TrainConfig) -> Iterator[Path]:
    """Makes the directory of a new run and keeps it locked.

    The default one, if it is taken, has a number behind it: DIRECTORY-2, DIRECTORY-3 …

    Raises:
        ValueError: it holds files, cannot be written to, or another process was faster.
    """
    run_dir = config.directory
    try:
        if config.run_dir is None:
            run_dir = _make_first_free(run_dir)
        else:
            run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(run_dir, error) from error
    with locked(run_dir):
        check_free(config)
        yield run_dir


def _make_first_free(run_dir: Path) -> Path:
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    free, number = run_dir, 1
    while True:
        try:
            free.mkdir()
        except FileExistsError:
            number += 1
            free = run_dir.with_name(f"{run_dir.name}-{number}")
        else:
            return free


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keeps a second process from training in the same directory; a killed one lets go of it.

    Raises:
        ValueError: another process trains there, or the directory cannot be written to.
    """
    try:
        file = open(run_dir / LOCK_FILE, "w")  # noqa: SIM115
    except OSError as error:
        raise _not_writable(run_dir, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"run_dir: another process is training in {run_dir}; wait for its end, or give "
                "this run a --run-dir of its own"
            ) from error
        except OSError:
            pass  # A file system without locks: nothing to hold on to.
        yield


def _not_writable(run_dir: Path, error: OSError) -> ValueError:
    return ValueError(f"run_dir: cannot write to {run_dir}: {error.strerror}")
