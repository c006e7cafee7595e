"""Speed of the envs, off by default: pytest tests/benchmarks --benchmark-enable.

Each benchmark steps a whole batch once; the group is the batch size, so that pytest-benchmark's
table compares the backends, the memory floor and the baselines. Run plain, as in the test suite,
each contender makes one call, which keeps them working.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastmaze.bench import contenders
from fastmaze.bench.envs import BenchConfig, rows, run
from fastmaze.specs import make_spec

SPEC = make_spec("PassiveTMaze", length=1000)
CONTENDERS = {row.name: row for row in rows(BenchConfig(peers=False, threads=2))}


@pytest.mark.parametrize("num_envs", [1, 64, 4096, 65536, 1048576])
@pytest.mark.parametrize("name", CONTENDERS)
def test_step(benchmark: Any, name: str, num_envs: int) -> None:
    row = CONTENDERS[name]
    if num_envs > row.most_envs or (not benchmark.enabled and num_envs > 4096):
        pytest.skip("too large a batch for this contender or for a plain test run")
    step = row.make(SPEC, num_envs, row.threads)
    benchmark.group = f"num_envs={num_envs}"
    benchmark.extra_info["bytes_per_step"] = contenders.bytes_per_step(SPEC)
    benchmark(step)


@pytest.mark.parametrize("name", ["native", "numba"])
def test_unroll(benchmark: Any, name: str) -> None:
    """100 steps of 4,096 envs in one call."""
    import numpy as np

    core, arrays = contenders.seeded_backend(name, SPEC, 4096, 1)
    many = [np.zeros((100, *array.shape), array.dtype) for array in arrays]
    benchmark.group = "unroll 100 x 4096"
    benchmark(core.unroll, *many)


def test_bench_command_measures_and_writes(tmp_path: Any, capsys: Any) -> None:
    path = tmp_path / "envs.json"
    figures = run(
        BenchConfig(num_envs=(1, 64), rounds=1, seconds=0.001, threads=1, peers=False, json=path)
    )
    assert path.exists()
    names = {row["name"] for row in figures["rows"]}
    assert {"native", "numba", "floor: memcpy", "NumPy baseline", "specification env"} <= names
    assert all(row["steps_per_second"] > 0 for row in figures["rows"])
    assert "native /" in capsys.readouterr().out
