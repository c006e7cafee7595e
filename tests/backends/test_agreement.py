"""All backends give the same bits, whatever the task, the batch, the threads and the split."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmaze import _native
from fastmaze.envs.backends.base import Mode
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.numba_ import NumbaBackend
from fastmaze.envs.backends.reference_ import ReferenceBackend
from fastmaze.specs import TMazeSpec, make_spec
from tests.backends.population import COMPILED, FAST, Population, walk
from tests.backends.strategies import specs

modes = st.sampled_from(["NextStep", "SameStep", "Disabled"])
seeds = st.integers(0, 2**64 - 1)


@given(
    spec=specs(),
    mode=modes,
    num_envs=st.integers(1, 70),
    seed=seeds,
    offset=st.integers(0, 2**32 - 71),
    stagger=st.booleans(),
    dtype=st.sampled_from(["int64", "int32", "int8", "uint8"]),
)
def test_fast_backends_equal_the_specification(
    spec: TMazeSpec, mode: Mode, num_envs: int, seed: int, offset: int, stagger: bool, dtype: str
) -> None:
    actions = walk(seed % 1000, 45, num_envs, dtype)
    how = {"seed": seed, "env_offset": offset, "stagger": stagger}
    wanted = Population(ReferenceBackend, spec, num_envs, mode, **how).record(actions)
    for isa in _native.usable_isas():
        native = Population(NativeBackend, spec, num_envs, mode, isa=isa, **how)
        assert native.record(actions) == wanted, isa
    assert Population(NumbaBackend, spec, num_envs, mode, **how).record(actions) == wanted


@settings(max_examples=12)
@given(
    length=st.integers(1, 10_000),
    active=st.booleans(),
    mode=modes,
    num_envs=st.integers(1, 1000),
    threads=st.integers(1, 4),
    seed=seeds,
)
def test_long_corridors_and_large_batches(
    length: int, active: bool, mode: Mode, num_envs: int, threads: int, seed: int
) -> None:
    """A sample of envs against the specification, all envs across backends, at full size."""
    spec = make_spec("ActiveTMaze" if active else "PassiveTMaze", length=length)
    # Close to the junction nearly all the way: right but for a few steps.
    generator = np.random.default_rng(seed)
    actions = generator.choice(4, (60, num_envs), p=[0.97, 0.01, 0.01, 0.01])
    how = {"seed": seed, "stagger": True}
    shared = {"num_threads": threads, "least_per_thread": 64, **how}
    native = Population(NativeBackend, spec, num_envs, mode, **shared)
    numba = Population(NumbaBackend, spec, num_envs, mode, **shared)
    assert native.record(actions) == numba.record(actions)
    one = int(seed % num_envs)
    alone = Population(ReferenceBackend, spec, 1, mode, env_offset=one, **how)
    sample = Population(NativeBackend, spec, num_envs, mode, **how)
    for row in actions:
        alone.step(row[one : one + 1])
        sample.step(row)
        np.testing.assert_array_equal(sample.obs[one], alone.obs[0])
        assert sample.reward[one] == alone.reward[0]
        assert sample.terminated[one] == alone.terminated[0]


@pytest.mark.parametrize("make", FAST)
@given(data=st.data(), spec=specs(), mode=modes, seed=seeds)
@settings(max_examples=15)
def test_a_split_population_is_the_same_population(
    make: type, data: st.DataObject, spec: TMazeSpec, mode: Mode, seed: int
) -> None:
    num_envs = data.draw(st.integers(2, 50))
    cut = data.draw(st.integers(1, num_envs - 1))
    actions = walk(seed % 1000, 30, num_envs)
    how = {"seed": seed, "stagger": data.draw(st.booleans())}
    whole = Population(make, spec, num_envs, mode, **how)
    left = Population(make, spec, cut, mode, **how)
    right = Population(make, spec, num_envs - cut, mode, env_offset=cut, **how)
    for row in actions:
        whole.step(row)
        left.step(row[:cut])
        right.step(row[cut:])
        for name in ("obs", "reward", "terminated"):
            joined = np.concatenate([getattr(left, name), getattr(right, name)])
            np.testing.assert_array_equal(getattr(whole, name), joined)


def count_threads() -> int:
    """Threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


def threads_settle_at(wanted: int, seconds: float = 10.0) -> bool:
    """Whether the process comes to this many threads.

    A joined thread has ended, but the kernel may list it a moment longer.
    """
    deadline = time.monotonic() + seconds
    while count_threads() != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


@pytest.mark.parametrize("make", FAST)
def test_threads_do_not_change_a_bit(make: type) -> None:
    """Batches large enough that every thread gets a part, with a ragged end."""
    spec = make_spec("ActiveTMaze", length=9)
    num_envs = 4 * 4096 + 77
    actions = walk(3, 30, num_envs)
    wanted = Population(make, spec, num_envs, "SameStep", stagger=True).record(actions)
    before = count_threads()
    for threads in (2, 3, 4):
        many = Population(make, spec, num_envs, "SameStep", stagger=True, num_threads=threads)
        assert many.record(actions) == wanted
        assert threads_settle_at(before + threads - 1)
        many.backend.close()
        assert threads_settle_at(before)


@pytest.mark.parametrize("make", FAST)
@given(spec=specs(), num_envs=st.integers(1, 400), mode=modes, threads=st.integers(1, 4))
@settings(max_examples=15)
def test_unroll_is_many_steps(
    make: type, spec: TMazeSpec, num_envs: int, mode: Mode, threads: int
) -> None:
    steps = spec.episode_length if mode == "Disabled" else 40
    actions = walk(5, steps, num_envs)
    stepped = Population(make, spec, num_envs, mode)
    unrolled = Population(make, spec, num_envs, mode, num_threads=threads, least_per_thread=64)
    shape = (steps, num_envs)
    obs = np.empty((*shape, spec.obs_dim), np.float32)
    reward, final = np.empty(shape, np.float32), np.zeros_like(obs)
    terminated, truncated = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
    unrolled.backend.unroll(
        actions, obs, reward, terminated, truncated, final if mode == "SameStep" else None
    )
    for s in range(steps):
        stepped.step(actions[s])
        np.testing.assert_array_equal(obs[s], stepped.obs)
        np.testing.assert_array_equal(reward[s], stepped.reward)
        np.testing.assert_array_equal(terminated[s], stepped.terminated)
        if mode == "SameStep":
            ended = stepped.terminated
            np.testing.assert_array_equal(final[s][ended], stepped.final_obs[ended])
            assert not final[s][~ended].any()
    assert not truncated.any()
    before, after = stepped.backend.get_state(), unrolled.backend.get_state()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("make", [*FAST, *COMPILED])
def test_masked_reset_touches_only_the_mask(make: type) -> None:
    spec = make_spec("TMaze", corridor_length=6, oracle_length=1, episode_length=20)
    envs, twin = (Population(m, spec, 33, "Disabled") for m in (make, ReferenceBackend))
    for row in walk(1, 7, 33):
        envs.step(row)
        twin.step(row)
    mask = np.arange(33) % 3 == 0
    goals = np.where(np.arange(33) % 2, 1, -1).astype(np.int8)
    keys, indices = np.full(33, 99, np.uint64), np.zeros(33, np.uint32)
    before = envs.backend.positions()
    for population in (envs, twin):
        population.backend.reset(population.obs, mask, goals, False, keys, indices)
    after = envs.backend.positions()
    np.testing.assert_array_equal(after[~mask], before[~mask])
    np.testing.assert_array_equal(after[mask][:, 3], goals[mask])
    np.testing.assert_array_equal(after, twin.backend.positions())
    np.testing.assert_array_equal(envs.obs, twin.obs)


@pytest.mark.parametrize("make", [*FAST, *COMPILED])
def test_staggered_episodes_end_evenly(make: type) -> None:
    """Over one episode length, every step sees about its share of the ends."""
    spec = make_spec("PassiveTMaze", length=99)
    envs = Population(make, spec, 1000, "NextStep", stagger=True)
    ends = [envs.step(row) for row in walk(0, 100, 1000)]
    assert sum(ends) == 1000
    assert min(ends) >= 5
    assert max(ends) <= 15
