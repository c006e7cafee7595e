"""A saved batch continues bit for bit, in the same backend or the other one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmaze.envs.backends.base import Mode
from fastmaze.envs.backends.state import BYTES_PER_ENV, keep_rows
from fastmaze.specs import TMazeSpec, make_spec
from tests.backends.population import ALL, DEVICE, FAST, Population, walk
from tests.backends.strategies import specs


@pytest.mark.parametrize("make", [*ALL, DEVICE[0]])
@pytest.mark.parametrize("other", [*ALL, DEVICE[0]])
@given(
    spec=specs(),
    mode=st.sampled_from(["NextStep", "SameStep", "Disabled"]),
    num_envs=st.integers(1, 40),
    pause=st.integers(0, 25),
)
@settings(max_examples=8)
def test_continues_bit_for_bit(
    make: type, other: type, spec: TMazeSpec, mode: Mode, num_envs: int, pause: int
) -> None:
    actions = walk(2, 50, num_envs)
    whole = Population(make, spec, num_envs, mode, stagger=True)
    for row in actions[:pause]:
        whole.step(row)
    state = whole.backend.get_state()
    resumed = Population(other, spec, num_envs, mode, seed=1)
    resumed.backend.set_state(state)
    for name in ("obs", "reward", "terminated", "truncated", "final_obs"):
        getattr(resumed, name)[...] = getattr(whole, name)
    seen = np.empty_like(whole.obs)
    resumed.backend.observe(seen)
    np.testing.assert_array_equal(seen, whole.obs)
    for row in actions[pause:]:
        whole.step(row)
        resumed.step(row)
        np.testing.assert_array_equal(whole.obs, resumed.obs)
        np.testing.assert_array_equal(whole.reward, resumed.reward)
        np.testing.assert_array_equal(whole.terminated, resumed.terminated)
    np.testing.assert_array_equal(whole.backend.get_state(), resumed.backend.get_state())


@pytest.mark.parametrize("task", ["PassiveTMaze", "MemoryLength", "PassiveVisualMatch"])
def test_kept_rows_go_on_from_where_they_were(task: str) -> None:
    """Envs that keep their row of an older state continue it, and the others the newer one."""
    spec, num_envs = make_spec(task), 9
    rows = np.arange(num_envs) % 3 == 0
    envs, older, newer = (Population(FAST[0], spec, num_envs, "NextStep", seed=4) for _ in range(3))
    before, after = walk(2, 5, num_envs, "int64") % 2, walk(3, 60, num_envs, "int64") % 2
    kept = envs.backend.get_state()
    for row in before:
        envs.step(row)
        newer.step(row)
    mixed = keep_rows(envs.backend.get_state(), kept, rows, spec, num_envs)
    envs.backend.set_state(mixed)
    for row in after:
        for population in (envs, older, newer):
            population.step(row)
        for name in ("obs", "reward", "terminated"):
            mine, old, new = (getattr(each, name) for each in (envs, older, newer))
            np.testing.assert_array_equal(mine[rows], old[rows])
            np.testing.assert_array_equal(mine[~rows], new[~rows])


@pytest.mark.parametrize("make", FAST)
def test_is_small(make: type) -> None:
    envs = Population(make, make_spec("PassiveTMaze", length=9), 1000)
    assert envs.backend.get_state().nbytes < 1000 * BYTES_PER_ENV + 64
    assert BYTES_PER_ENV == 40


@pytest.mark.parametrize("make", [*ALL, DEVICE[0]])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s[:-1], "expected shape"),
        (lambda s: s[:10], "expected shape"),
        (lambda s: s.reshape(1, -1), "expected shape"),
        (lambda s: s.view(np.int8), "uint8"),
        (lambda s: s.tolist(), "uint8"),
        (lambda s: np.concatenate([s[:1] ^ 1, s[1:]]), "this version"),
        (lambda s: np.concatenate([s[:-70], np.full(70, 255, np.uint8)]), "no episode"),
    ],
)
def test_refuses_what_is_not_its_state(make: type, damage: object, message: str) -> None:
    envs = Population(make, make_spec("PassiveTMaze", length=9), 5)
    state = envs.backend.get_state()
    with pytest.raises((TypeError, ValueError), match=message):
        envs.backend.set_state(damage(state))  # type: ignore[operator]
    np.testing.assert_array_equal(envs.backend.get_state(), state)


@pytest.mark.parametrize("make", [*ALL, DEVICE[0]])
def test_refuses_another_batch(make: type) -> None:
    spec = make_spec("PassiveTMaze", length=9)
    envs = Population(make, spec, 5)
    for stranger, message in (
        (Population(make, spec, 6), "num_envs=5"),
        (Population(make, spec, 5, "Disabled"), "autoreset_mode=NextStep"),
        (Population(make, make_spec("PassiveTMaze", length=8), 5), "another task"),
    ):
        with pytest.raises(ValueError, match=message):
            envs.backend.set_state(stranger.backend.get_state())
