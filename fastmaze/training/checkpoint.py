"""Checkpoints: one safetensors file each, tensors and JSON, no pickle, replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT: Final = "fastmaze-checkpoint"
VERSION: Final = 1


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or belongs to another configuration."""


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
    metadata = {name: json.dumps(value) for name, value in checkpoint.metadata.items()}
    metadata |= {"format": FORMAT, "version": str(VERSION)}
    # The same name each time: what a killed run left behind is overwritten by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            save_file(checkpoint.tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # safetensors makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, or is no FastMaze checkpoint of this version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint: expected a file, found none at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            if text.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: expected a FastMaze checkpoint, got another safetensors file"
                )
            if text.get("version") != str(VERSION):
                raise CheckpointError(
                    f"{path}: expected checkpoint version {VERSION}, got {text.get('version')}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {
            name: json.loads(value)
            for name, value in text.items()
            if name not in ("format", "version")
        }
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path}: expected a FastMaze checkpoint, got a truncated or foreign file ({error})"
        ) from error
    if "config" not in metadata:
        raise CheckpointError(f"{path}: expected a configuration inside, found none")
    return Checkpoint(tensors, metadata)
