"""Speed of the envs, off by default: pytest tests/benchmarks --benchmark-enable.

Each benchmark steps a whole batch once; the group is the batch size, so that pytest-benchmark's
table compares the backends, the memory floor and the baselines. Run plain, as in the test suite,
each contender makes one call, which keeps them working.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmaze.bench import contenders
from fastmaze.bench.envs import BenchConfig, rows
from fastmaze.bench.numpy_tmaze import NumpyTMaze
from fastmaze.specs import make_spec

SPEC = make_spec("PassiveTMaze", length=1000)
CONTENDERS = {row.name: row for row in rows(BenchConfig(peers=False, threads=2))}


@pytest.mark.parametrize("num_envs", [1, 64, 4096, 65536, 1048576])
@pytest.mark.parametrize("name", CONTENDERS)
def test_step(benchmark: Any, name: str, num_envs: int) -> None:
    row = CONTENDERS[name]
    outside = not row.least_envs <= num_envs <= row.most_envs
    if outside or (not benchmark.enabled and num_envs > 4096):
        pytest.skip("too large a batch for this contender or for a plain test run")
    step = row.make(SPEC, num_envs, row.threads)
    benchmark.group = f"num_envs={num_envs}"
    benchmark.extra_info["bytes_per_step"] = contenders.bytes_per_step(SPEC)
    benchmark(step)


@pytest.mark.parametrize("task", ["PassiveTMaze", "ActiveTMaze"])
def test_numpy_baseline_is_the_same_maze(task: str) -> None:
    """A baseline that computed something else would be no baseline."""
    spec = make_spec(task, length=7)
    core, (_, obs, reward, terminated, truncated, _) = contenders.seeded_backend(
        "native", spec, 100, 1
    )
    envs = NumpyTMaze(spec, 100)
    generator = np.random.default_rng(0)
    for episode in range(3):
        core.reset(obs, None, envs.goal)
        for t in range(spec.episode_length - 1):
            actions = generator.choice(4, 100, p=[0.7, 0.1, 0.1, 0.1])
            core.step(actions, obs, reward, terminated, truncated)
            seen, earned, ended = envs.step(actions)
            np.testing.assert_array_equal(seen, obs, f"episode {episode} step {t}")
            np.testing.assert_array_equal(earned, reward)
            np.testing.assert_array_equal(ended, terminated)
        core.step(actions, obs, reward, terminated, truncated)
        _, earned, ended = envs.step(actions)
        np.testing.assert_array_equal(earned, reward)
        assert ended.all()


@pytest.mark.parametrize("name", ["native", "numba"])
def test_unroll(benchmark: Any, name: str) -> None:
    """100 steps of 4,096 envs in one call."""
    core, arrays = contenders.seeded_backend(name, SPEC, 4096, 1)
    many = [np.zeros((100, *array.shape), array.dtype) for array in arrays]
    benchmark.group = "unroll 100 x 4096"
    benchmark(core.unroll, *many)


@pytest.mark.parametrize(
    ("field", "bad", "error"),
    [
        ("task", "TMaze", ValueError),
        ("length", 0, ValueError),
        ("num_envs", (), ValueError),
        ("num_envs", 64, ValueError),
        ("num_envs", (1, 0), ValueError),
        ("num_envs", (1, 2.0), TypeError),
        ("threads", -1, ValueError),
        ("threads", 1025, ValueError),
        ("rounds", 0, ValueError),
        ("rounds", True, TypeError),
        ("seconds", 0.0, ValueError),
        ("seconds", -1.0, ValueError),
        ("seconds", float("nan"), ValueError),
        ("seconds", "1", TypeError),
    ],
)
def test_config_refuses(field: str, bad: Any, error: type[Exception]) -> None:
    """Before anything is measured, by name."""
    with pytest.raises(error, match=f"^{field}: expected"):
        BenchConfig(**{field: bad})
