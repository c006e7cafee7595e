"""Checkpoints: one safetensors file each, tensors and JSON, no pickle, replaced as a whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT: Final = "fastmaze-checkpoint"
VERSION: Final = 1

_OF_THE_FILE: Final = ("format", "version", "crc32")
"""Entries of the file's header that are not the writer's metadata."""


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or belongs to another configuration or version."""


class DamagedCheckpointError(CheckpointError):
    """A file is truncated, altered, or no checkpoint at all; an older one may still be whole."""


@dataclass(slots=True)
class Checkpoint:
    """What one file holds."""

    tensors: dict[str, Tensor]
    """By name; the parts are set apart by slashes, as in "target/head.0.weight"."""
    metadata: dict[str, Any]
    """JSON values: always "config"."""

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name/`, without it."""
        prefix = name + "/"
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }


def join_parts(**parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The opposite of `Checkpoint.part`: one dict of contiguous tensors on the CPU."""
    return {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint so that `path` holds either the old one or the new one, never a part.

    Raises:
        OSError: the disk is full or not writable; the old file is still there.
    """
    with prepared_checkpoint(path, checkpoint) as temporary:
        replace_file(temporary, path)


@contextlib.contextmanager
def prepared_checkpoint(path: Path, checkpoint: Checkpoint) -> Iterator[Path]:
    """A whole new file beside `path`, on the disk but not yet in its place.

    It lies in a directory of its own, always the same one, because safetensors writes by way of
    a file with a random name: what a killed process left there, the next one takes away.

    Raises:
        OSError: the disk is full or not writable; it names `path`.
    """
    metadata = {name: json.dumps(value) for name, value in checkpoint.metadata.items()}
    metadata |= {
        "format": FORMAT,
        "version": str(VERSION),
        "crc32": str(_checksum(checkpoint.tensors)),
    }
    scratch = path.with_name(f".{path.name}.tmp")
    _remove(scratch)
    try:
        temporary = scratch / path.name
        try:
            scratch.mkdir()
            save_file(checkpoint.tensors, temporary, metadata)
            os.chmod(temporary, 0o644)  # safetensors makes files that only their owner can read
            sync_file(temporary)
        except SafetensorError as error:
            raise _disk_error(error, path) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        yield temporary
    finally:
        _remove(scratch)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: the file is truncated, altered or foreign.
        CheckpointError: another version of the format, or no configuration inside.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint: expected a file, found none at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            if text.get("format") != FORMAT:
                raise DamagedCheckpointError(
                    f"{path}: expected a FastMaze checkpoint, got another safetensors file"
                )
            if text.get("version") != str(VERSION):
                raise CheckpointError(
                    f"{path}: expected checkpoint version {VERSION}, got {text.get('version')}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {
            name: json.loads(value) for name, value in text.items() if name not in _OF_THE_FILE
        }
    except (SafetensorError, json.JSONDecodeError) as error:
        raise DamagedCheckpointError(
            f"{path}: expected a FastMaze checkpoint, got a truncated or foreign file ({error})"
        ) from error
    if "crc32" in text and text["crc32"] != str(_checksum(tensors)):
        raise DamagedCheckpointError(
            f"{path}: expected contents with the checksum {text['crc32']}, got others: the file "
            "was altered after it was written"
        )
    if "config" not in metadata:
        raise CheckpointError(f"{path}: expected a configuration inside, found none")
    return Checkpoint(tensors, metadata)


def replace_file(temporary: Path, path: Path) -> None:
    """Puts a file that is on the disk in the place of `path`, at once and to stay."""
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def sync_file(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """Of all bytes, in the order of the names."""
    value = 0
    for name in sorted(tensors):
        data = tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data
        value = zlib.crc32(data, zlib.crc32(name.encode(), value))
    return value


def _disk_error(error: SafetensorError, path: Path) -> OSError:
    """As an error of the operating system, whose number safetensors gives in its text alone."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number) if found else str(error), str(path))


def _remove(scratch: Path) -> None:
    if scratch.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            scratch.unlink()
