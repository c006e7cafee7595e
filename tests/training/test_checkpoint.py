"""Protects checkpoint files: exact contents, whole or not at all, and clear refusals."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fastmaze.training import checkpoint as module
from fastmaze.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    DamagedCheckpointError,
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


@pytest.mark.parametrize("leftover", [".c.safetensors.tmp", ".c.safetensors.tmp/.tmpA1b2C3"])
def test_a_killed_writes_leftover_is_taken_away(tmp_path: Path, leftover: str) -> None:
    """A file as safetensors names it, or as an older version of this package did."""
    path = tmp_path / "c.safetensors"
    (tmp_path / leftover).parent.mkdir(exist_ok=True)
    (tmp_path / leftover).write_bytes(b"half")
    save_checkpoint(path, example())
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_the_writer_leaves_files_where_leftovers_are_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever names safetensors gives them: it writes beside the file it is asked for."""
    original, seen = module.save_file, []

    def look(tensors: dict[str, torch.Tensor], target: Path, metadata: dict[str, str]) -> None:
        original(tensors, target, metadata)
        seen.extend(os.listdir(tmp_path))

    monkeypatch.setattr(module, "save_file", look)
    save_checkpoint(tmp_path / "c.safetensors", example())
    assert seen == [".c.safetensors.tmp"]


def test_altered_contents_are_refused(tmp_path: Path) -> None:
    """One bit of any tensor, in a file that is otherwise in order."""
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, example())
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    for place in range(begin, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DamagedCheckpointError, match="the file was altered"):
            load_checkpoint(path)


def test_the_error_of_a_full_disk_has_its_number_and_the_path(tmp_path: Path) -> None:
    """safetensors tells of it in words alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "c.safetensors"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(OSError, match="File too large") as stop:
            save_checkpoint(path, example())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (stop.value.errno, stop.value.filename) == (errno.EFBIG, str(path))
    assert os.listdir(tmp_path) == []


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
