"""What holds for every registered task: its native core is its specification env, bit for bit.

A new task is tested here as soon as it is in the registry and in `strategies.OPTIONS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmaze
from fastmaze._native import usable_isas
from fastmaze.envs.backends.base import Mode
from fastmaze.envs.backends.errors import NotReady
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.reference_ import ReferenceBackend
from fastmaze.envs.backends.state import COMMON_FIELDS
from fastmaze.envs.spaces import observation_space
from fastmaze.specs import TASKS, TaskSpec
from tests.backends.population import Population
from tests.tasks.strategies import OPTIONS, specs

MODES = ("NextStep", "SameStep", "Disabled")
SEEDS = st.integers(0, 2**64 - 1)
every_task = pytest.mark.parametrize("task", list(TASKS))


def walk(spec: TaskSpec, seed: int, steps: int, num_envs: int, dtype: str = "int64") -> np.ndarray:
    """Random actions; a step is often repeated, so that walks get somewhere."""
    generator = np.random.default_rng(seed)
    actions = generator.integers(0, spec.num_actions, (steps, num_envs))
    for s in range(1, steps):
        same = generator.random(num_envs) < 0.4
        actions[s, same] = actions[s - 1, same]
    return actions.astype(dtype)


def test_every_task_has_random_options() -> None:
    assert OPTIONS.keys() == TASKS.keys()


@every_task
def test_names_of_the_state_do_not_collide(task: str) -> None:
    """A saved batch keeps the clock and the task's own members under their names."""
    names = [name for name, _ in COMMON_FIELDS]
    names += [name for name, _, _ in TASKS[task].spec.state_fields]
    assert len(names) == len(set(names))


@every_task
@given(
    data=st.data(),
    mode=st.sampled_from(MODES),
    num_envs=st.integers(1, 12),
    seed=SEEDS,
    offset=st.integers(0, 2**32 - 13),
    stagger=st.booleans(),
    dtype=st.sampled_from(["int64", "int32", "int8", "uint8"]),
)
@settings(max_examples=12)
def test_native_equals_the_specification(
    task: str, data: Any, mode: Mode, num_envs: int, seed: int, offset: int, stagger: bool,
    dtype: str,
) -> None:  # fmt: skip
    """Observations, rewards, flags, final observations and statistics, over several episodes."""
    spec = data.draw(specs(task))
    actions = walk(spec, seed % 1000, 60, num_envs, dtype)
    how = {"seed": seed, "env_offset": offset, "stagger": stagger}
    wanted = Population(ReferenceBackend, spec, num_envs, mode, **how)
    native = Population(NativeBackend, spec, num_envs, mode, **how)
    assert native.record(actions) == wanted.record(actions)
    np.testing.assert_array_equal(native.backend.get_state(), wanted.backend.get_state())


@every_task
@given(data=st.data(), mode=st.sampled_from(MODES), num_envs=st.integers(1, 150), seed=SEEDS,
       stagger=st.booleans())  # fmt: skip
@settings(max_examples=6)
def test_every_instruction_set_gives_the_same_bits(
    task: str, data: Any, mode: Mode, num_envs: int, seed: int, stagger: bool
) -> None:
    spec = data.draw(specs(task))
    actions = walk(spec, seed % 1000, 50, num_envs)
    recorded = {}
    for isa in usable_isas():
        how = {"isa": isa, "seed": seed, "stagger": stagger}
        envs = Population(NativeBackend, spec, num_envs, mode, **how)
        recorded[isa] = (envs.record(actions), envs.backend.get_state().tobytes())
    assert all(record == recorded["baseline"] for record in recorded.values())


@every_task
@given(data=st.data(), mode=st.sampled_from(MODES), seed=SEEDS, threads=st.integers(1, 4))
@settings(max_examples=8)
def test_threads_and_splits_do_not_change_a_bit(
    task: str, data: Any, mode: Mode, seed: int, threads: int
) -> None:
    spec = data.draw(specs(task))
    num_envs = data.draw(st.integers(2, 400))
    cut = data.draw(st.integers(1, num_envs - 1))
    actions = walk(spec, seed % 1000, 40, num_envs)
    how = {"seed": seed, "stagger": data.draw(st.booleans())}
    whole = Population(NativeBackend, spec, num_envs, mode, num_threads=threads,
                       least_per_thread=64, **how)  # fmt: skip
    left = Population(NativeBackend, spec, cut, mode, **how)
    right = Population(NativeBackend, spec, num_envs - cut, mode, env_offset=cut, **how)
    for row in actions:
        whole.step(row)
        left.step(row[:cut])
        right.step(row[cut:])
        for name in ("obs", "reward", "terminated"):
            joined = np.concatenate([getattr(left, name), getattr(right, name)])
            np.testing.assert_array_equal(getattr(whole, name), joined)


@every_task
@given(data=st.data(), mode=st.sampled_from(MODES), num_envs=st.integers(1, 150),
       threads=st.integers(1, 3))  # fmt: skip
@settings(max_examples=8)
def test_unroll_is_many_steps(
    task: str, data: Any, mode: Mode, num_envs: int, threads: int
) -> None:
    spec = data.draw(specs(task))
    steps = (1 if spec.ends_early else spec.episode_length) if mode == "Disabled" else 40
    actions = walk(spec, 5, steps, num_envs)
    stepped = Population(NativeBackend, spec, num_envs, mode)
    rolled = Population(
        NativeBackend, spec, num_envs, mode, num_threads=threads, least_per_thread=64
    )
    shape = (steps, num_envs)
    obs, reward = np.zeros((*shape, *spec.obs_shape), spec.obs_dtype), np.empty(shape, np.float32)
    terminated, truncated, final = *np.empty((2, *shape), np.bool_), np.zeros_like(obs)
    wanted_final = final if mode == "SameStep" else None
    rolled.backend.unroll(actions, obs, reward, terminated, truncated, wanted_final)
    for s in range(steps):
        stepped.step(actions[s])
        np.testing.assert_array_equal(obs[s], stepped.obs)
        np.testing.assert_array_equal(reward[s], stepped.reward)
        np.testing.assert_array_equal(terminated[s], stepped.terminated)
        if mode == "SameStep":
            ended = stepped.terminated
            np.testing.assert_array_equal(final[s][ended], stepped.final_obs[ended])
    assert not truncated.any()
    np.testing.assert_array_equal(stepped.backend.get_state(), rolled.backend.get_state())


@every_task
@pytest.mark.parametrize(("make", "other"), [(NativeBackend, ReferenceBackend),
                                             (ReferenceBackend, NativeBackend)])  # fmt: skip
@given(data=st.data(), mode=st.sampled_from(MODES), pause=st.integers(0, 50))
@settings(max_examples=6)
def test_a_saved_batch_continues_bit_for_bit(
    task: str, make: type, other: type, data: Any, mode: Mode, pause: int
) -> None:
    spec, num_envs = data.draw(specs(task)), 5
    actions = walk(spec, 2, pause + 30, num_envs)
    whole = Population(make, spec, num_envs, mode, stagger=True)
    for row in actions[:pause]:
        whole.step(row)
    resumed = Population(other, spec, num_envs, mode, seed=1)
    resumed.backend.set_state(whole.backend.get_state())
    for name in ("obs", "reward", "terminated", "truncated", "final_obs"):
        getattr(resumed, name)[...] = getattr(whole, name)
    seen = np.empty_like(whole.obs)
    resumed.backend.observe(seen)
    np.testing.assert_array_equal(seen, whole.obs)
    for row in actions[pause:]:
        whole.step(row)
        resumed.step(row)
        for name in ("obs", "reward", "terminated"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(resumed, name))
    np.testing.assert_array_equal(whole.backend.get_state(), resumed.backend.get_state())


@every_task
@given(data=st.data(), mode=st.sampled_from(MODES), steps=st.integers(0, 40), seed=SEEDS)
@settings(max_examples=20)
def test_both_refuse_the_same_states(
    task: str, data: Any, mode: Mode, steps: int, seed: int
) -> None:
    """A byte changed anywhere: both take the state and show the same, or both refuse it."""
    spec = data.draw(specs(task))
    native, reference = (
        Population(make, spec, 2, mode, stagger=True) for make in (NativeBackend, ReferenceBackend)
    )
    for row in walk(spec, 3, steps, 2):
        native.step(row)
    state = native.backend.get_state()
    generator = np.random.default_rng(seed)
    for _ in range(30):
        damaged = state.copy()
        at = int(generator.integers(32, len(state)))  # behind the header
        byte = int(damaged[at])
        damaged[at] = generator.choice([0, 1, 255, byte ^ 1, (byte + 1) % 256])
        outcomes = []
        for backend in (native.backend, reference.backend):
            before = backend.get_state()
            try:
                backend.set_state(damaged)
            except ValueError:
                np.testing.assert_array_equal(backend.get_state(), before)
                outcomes.append(b"refused")
                continue
            np.testing.assert_array_equal(backend.get_state(), damaged)
            try:
                seen = np.empty_like(native.obs)
                backend.observe(seen)
                outcomes.append(seen.tobytes())
            except NotReady:
                outcomes.append(b"never reset")
        assert outcomes[0] == outcomes[1], at


@every_task
@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("mode", MODES)
def test_equals_sync_vector_env(task: str, backend: str, mode: str) -> None:
    """Gymnasium's own loop over our single envs says the same, info included."""
    options = {TASKS[task].dial: 3}
    ours = fastmaze.make_vec(task, num_envs=3, backend=backend, autoreset_mode=mode, **options)
    theirs = SyncVectorEnv(
        [lambda i=i: fastmaze.make(task, env_index=i, **options) for i in range(3)],
        autoreset_mode=ours.autoreset_mode,
    )
    spec = ours.task_spec
    seen, _ = ours.reset(seed=5)
    np.testing.assert_array_equal(seen, theirs.reset(seed=[5] * 3)[0])
    assert seen in ours.observation_space
    for row in walk(spec, 0, spec.episode_length, 3):
        mine, wanted = ours.step(row), theirs.step(row)
        for ours_is, theirs_is in zip(mine[:4], wanted[:4], strict=True):
            np.testing.assert_array_equal(ours_is, theirs_is.astype(ours_is.dtype))
        assert mine[0] in ours.observation_space
        assert mine[4].keys() == wanted[4].keys()
    told, said = (info.get("final_info", info) for info in (mine[4], wanted[4]))
    for name in spec.info_names:
        np.testing.assert_array_equal(told[name], said[name])


@every_task
@given(data=st.data(), seed=SEEDS)
@settings(max_examples=10)
def test_observations_fit_the_space(task: str, data: Any, seed: int) -> None:
    spec = data.draw(specs(task))
    space = observation_space(spec)
    envs = Population(NativeBackend, spec, 4, "SameStep", seed=seed)
    for row in walk(spec, 1, 30, 4):
        assert all(obs in space for obs in envs.obs)
        envs.step(row)


@every_task
def test_bad_actions_change_nothing(task: str) -> None:
    envs = fastmaze.make_vec(task, num_envs=3)
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros(3, np.int64))
    envs.reset(seed=0)
    before = envs.get_state()
    for bad in (envs.task_spec.num_actions, -1, 2**32):
        with pytest.raises(ValueError, match="actions"):
            envs.step(np.array([0, 0, bad]))
        np.testing.assert_array_equal(envs.get_state(), before)
    with pytest.raises(ValueError, match="options"):
        envs.reset(options={"nonsense": 1})
    with pytest.raises(TypeError, match="has no option"):
        fastmaze.make_vec(task, nonsense=1)


@every_task
@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_pictures(task: str, mode: str) -> None:
    """Of one size from the first frame to the last, the same from a population and a single env."""
    envs = fastmaze.make_vec(task, num_envs=2, render_mode=mode, autoreset_mode="SameStep")
    single = fastmaze.make(task, env_index=1, render_mode=mode)
    envs.reset(seed=3)
    single.reset(seed=3)
    for row in walk(envs.task_spec, 4, min(envs.task_spec.episode_length, 80), 2):
        frames = envs.render()
        np.testing.assert_array_equal(frames[1], single.render())
        if mode == "rgb_array":
            assert (frames[0].dtype, frames[0].shape) == (np.uint8, frames[1].shape)
        else:
            assert len({len(frame.split("\n")) for frame in frames}) == 1
        envs.step(row)
        if single.step(row[1])[2]:
            single.reset()


@every_task
def test_backends_that_a_task_lacks_are_refused_by_name(task: str) -> None:
    having = TASKS[task].family.backends
    for backend in {"numba", "device"} - set(having):
        with pytest.raises(ValueError, match=r"backend: expected one of .*native.* for this task"):
            fastmaze.make_vec(task, backend=backend)
    assert {"native", "reference"} <= set(having)
