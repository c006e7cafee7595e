"""The tuning finds the fastest tile that runs, and the benchmark gets it; with kernels of straw."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.bench import gpu_tuning
from fastmaze.bench.device_timing import Stopwatch
from fastmaze.bench.gpu_check_parts import Context, read_results
from fastmaze.bench.gpu_tuning import Group, sizes
from fastmaze.kernels import tiles
from fastmaze.kernels.tiles import Kernel, Tile, tile_for

CPU = torch.device("cpu")


DEFAULT, FAST, SLOW, BROKEN = (Tile(n, 64, 4, 2) for n in (128, 64, 32, 256))
SECONDS = {DEFAULT: 0.3, FAST: 0.2, SLOW: 0.9}


class Straw:
    """Stands for the tiles and the launchers: a launch takes as long as its tile says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.launched: list[tuple[str, Tile]] = []

    def _launch(self, kernel: Kernel, q: torch.Tensor, dropout_p: float) -> None:
        tile = tile_for(kernel, q.dtype, q.shape[-1], dropout_p > 0)
        if tile == BROKEN:
            raise RuntimeError("out of resource: shared memory")
        self.launched.append((kernel, tile))
        self.now += SECONDS[tile]

    def forward(self, q: torch.Tensor, k: Any, v: Any, seqlens: Any, seed: Any, p: float,
                scale: float, precision: str) -> Any:  # fmt: skip
        self._launch("forward", q, p)
        return q, q[..., 0]

    def backward(self, grad: Any, q: torch.Tensor, k: Any, v: Any, out: Any, lse: Any, seqlens: Any,
                 seed: Any, p: float, scale: float, precision: str) -> Any:  # fmt: skip
        assert grad.shape == out.shape == q.shape
        self._launch("backward_dkv", q, p)
        self._launch("backward_dq", q, p)


@pytest.fixture
def straw(monkeypatch: pytest.MonkeyPatch) -> Straw:
    straw = Straw()
    monkeypatch.setattr(tiles, "candidates", lambda *key, generation: [DEFAULT])
    monkeypatch.setattr(gpu_tuning, "candidates", lambda *key: [FAST, SLOW, BROKEN])
    monkeypatch.setattr(gpu_tuning, "triton_module", lambda name: straw)
    monkeypatch.setattr(gpu_tuning, "triton_missing", lambda: "")
    monkeypatch.setattr(time, "perf_counter", lambda: straw.now)
    return straw


@pytest.mark.parametrize(
    ("kernel", "gain"),
    # A backward kernel is timed with the other one, which keeps its default.
    [("forward", 0.3 / 0.2), ("backward_dkv", 0.6 / 0.5), ("backward_dq", 0.6 / 0.5)],
)
def test_the_fastest_tile_that_runs_wins(kernel: Kernel, gain: float, straw: Straw) -> None:
    group = Group(kernel, "bf16", 64, True)
    stopwatch = Stopwatch(CPU, rounds=2, seconds=0.1)
    found = gpu_tuning.time_group(group, [FAST, SLOW, BROKEN], stopwatch, reduced=True)
    assert found["best"] == sizes(FAST)
    assert found["default"] == sizes(DEFAULT)
    assert found["gain"] == pytest.approx(gain)
    assert set(found["milliseconds"]) == {str(tuple(sizes(tile))) for tile in (DEFAULT, FAST, SLOW)}
    assert "shared memory" in found["skipped"][str(tuple(sizes(BROKEN)))]
    assert {other for other, tile in straw.launched if tile != DEFAULT} == {kernel}


def test_the_benchmark_gets_what_was_found(tmp_path: Path, straw: Straw) -> None:
    here = Context("tuning", tmp_path, CPU, time.time() + 60)
    gpu_tuning.run_part(here)
    (group,) = gpu_tuning.groups(reduced=True)
    assert gpu_tuning.tuned_tiles(tmp_path) == {group.key: FAST}
    saved = read_results(tmp_path, "tuning")
    assert saved is not None
    assert saved["groups"][0]["best"] == sizes(FAST)


def test_compiling_tells_what_does_not_run(straw: Straw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tuning, "_BATCH", 1)
    group, later = Group("backward_dq", "fp16", 32, False), time.time() + 60
    assert gpu_tuning.compile_tile(group, FAST, later, "cpu") == ""
    assert ("backward_dq", FAST) in straw.launched
    assert "memory" in str(gpu_tuning.compile_tile(group, BROKEN, later, "cpu"))
    assert gpu_tuning.compile_tile(group, FAST, time.time() - 1, "cpu") is None


def test_out_of_time_it_keeps_what_it_has(tmp_path: Path, straw: Straw) -> None:
    here = Context("tuning", tmp_path, CPU, time.time() - 1)
    gpu_tuning.run_part(here)
    assert "1 groups not tuned" in here.results["stopped"]
    assert gpu_tuning.tuned_tiles(tmp_path) == {}
