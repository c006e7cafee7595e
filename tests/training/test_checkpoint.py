"""Protects checkpoint files: exact contents, whole or not at all, and clear refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fastmaze.training import checkpoint as module
from fastmaze.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    join_parts,
    load_checkpoint,
    save_checkpoint,
)


def example(value: float = 1.0) -> Checkpoint:
    tensors = join_parts(
        online={"a": torch.full((3, 2), value), "b": torch.arange(5)},
        replay={"obs": torch.zeros(2, 3, dtype=torch.int8), "next": torch.tensor(7)},
    )
    return Checkpoint(tensors, {"config": {"seed": 3}, "list": [1, 2.5, None, "x"]})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example(1 / 3))
    loaded = load_checkpoint(path)
    assert loaded.metadata == example().metadata
    assert loaded.tensors.keys() == example().tensors.keys()
    for name, tensor in example(1 / 3).tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)
    assert loaded.part("online").keys() == {"a", "b"}
    assert os.listdir(tmp_path) == ["c.safetensors"], "nothing temporary is left"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example(1.0))

    def half_a_file(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", half_a_file)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, example(2.0))
    assert load_checkpoint(path).tensors["online/a"][0, 0] == 1.0
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_a_killed_writes_leftover_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    (tmp_path / ".c.safetensors.tmp").write_bytes(b"half")
    save_checkpoint(path, example())
    assert os.listdir(tmp_path) == ["c.safetensors"]


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_files_are_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"c\.safetensors: .*truncated or foreign"):
        load_checkpoint(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_text("hello " * 100)
    with pytest.raises(CheckpointError, match="truncated or foreign"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="got another safetensors file"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path, {"format": "fastmaze-checkpoint", "version": "99"})
    with pytest.raises(CheckpointError, match="expected checkpoint version 1, got 99"):
        load_checkpoint(path)
    save_file({"x": torch.zeros(1)}, path, {"format": "fastmaze-checkpoint", "version": "1"})
    with pytest.raises(CheckpointError, match="expected a configuration inside"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="found none at"):
        load_checkpoint(tmp_path / "nothing")
