"""A wrong argument is refused by name and changes nothing; so is a call at the wrong time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmaze.envs.backends.errors import Busy, Closed, NotReady
from fastmaze.specs import make_spec
from tests.backends.population import ALL, DEVICE, FAST, Population

EVERY = [*ALL, DEVICE[0]]
N = 6
SPEC = make_spec("ActiveTMaze", length=4)


def arguments() -> dict[str, Any]:
    return {
        "actions": np.zeros(N, np.int64),
        "obs": np.zeros((N, 2), np.float32),
        "reward": np.zeros(N, np.float32),
        "terminated": np.zeros(N, np.bool_),
        "truncated": np.zeros(N, np.bool_),
        "final_obs": np.zeros((N, 2), np.float32),
    }


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def positions(population: Population) -> np.ndarray:
    rows: np.ndarray = population.backend.positions()
    return rows


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize(
    ("name", "bad", "error"),
    [
        ("actions", [0] * N, TypeError),
        ("actions", np.zeros(N, np.float32), TypeError),
        ("actions", np.zeros(N, np.int16), TypeError),
        ("actions", np.zeros(N, ">i8"), TypeError),
        ("actions", np.zeros(N + 1, np.int64), ValueError),
        ("actions", np.zeros((N, 1), np.int64), ValueError),
        ("actions", np.zeros(2 * N, np.int64)[::2], ValueError),
        ("actions", np.array([0, 0, 0, 0, 0, 4]), ValueError),
        ("actions", np.array([-1, 0, 0, 0, 0, 0]), ValueError),
        ("actions", np.array([0, 0, 2**32, 0, 0, 0]), ValueError),
        ("actions", np.array([0, 0, -128, 0, 0, 0], np.int8), ValueError),
        ("actions", np.array([0, 0, 255, 0, 0, 0], np.uint8), ValueError),
        ("obs", np.zeros((N, 2)), TypeError),
        ("obs", np.zeros((N, 3), np.float32), ValueError),
        ("obs", np.zeros((2, N), np.float32).T, ValueError),
        ("obs", read_only(np.zeros((N, 2), np.float32)), ValueError),
        ("reward", np.zeros(N), TypeError),
        ("reward", read_only(np.zeros(N, np.float32)), ValueError),
        ("terminated", np.zeros(N, np.uint8), TypeError),
        ("terminated", read_only(np.zeros(N, np.bool_)), ValueError),
        ("truncated", np.zeros(N - 1, np.bool_), ValueError),
        ("final_obs", np.zeros((N, 2), np.int32), TypeError),
        ("final_obs", np.zeros((N, 3), np.float32), ValueError),
        ("reward", np.zeros(4 * N + 8, np.uint8)[1 : 4 * N + 1].view(np.float32), ValueError),
    ],
)  # fmt: skip
def test_step_refuses(make: type, name: str, bad: Any, error: type) -> None:
    envs = Population(make, SPEC, N, "SameStep")
    before = envs.backend.get_state()
    with pytest.raises(error, match=name):
        envs.backend.step(**{**arguments(), name: bad})
    np.testing.assert_array_equal(envs.backend.get_state(), before)
    assert envs.backend.step(**arguments()) == 0


@pytest.mark.parametrize("make", EVERY)
def test_unroll_refuses_a_bad_action_in_its_last_row(make: type) -> None:
    envs = Population(make, SPEC, N)
    before = envs.backend.get_state()
    rows = {k: np.stack([v] * 3) for k, v in arguments().items() if k != "final_obs"}
    rows["actions"][2, 5] = 7
    with pytest.raises(ValueError, match="actions"):
        envs.backend.unroll(**rows)
    np.testing.assert_array_equal(envs.backend.get_state(), before)


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize(
    "pair", [("terminated", "truncated"), ("obs", "reward"), ("obs", "final_obs")]
)
def test_refuses_shared_memory(make: type, pair: tuple[str, str]) -> None:
    envs = Population(make, SPEC, N, "SameStep")
    given = arguments()
    wanted = given[pair[1]].shape
    given[pair[1]] = given[pair[0]].reshape(-1)[: given[pair[1]].size].reshape(wanted)
    before = envs.backend.get_state()
    with pytest.raises(ValueError, match="shared memory"):
        envs.backend.step(**given)
    np.testing.assert_array_equal(envs.backend.get_state(), before)


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize(
    ("given", "error", "name"),
    [
        ({"mask": np.ones(N + 1, np.bool_)}, ValueError, "mask"),
        ({"mask": np.ones(N, np.uint8)}, TypeError, "mask"),
        ({"goals": np.ones(N)}, TypeError, "goals"),
        ({"goals": np.array([1, 1, 1, 2, 1, 1], np.int8)}, ValueError, "goal"),
        ({"obs": np.zeros((N, 2))}, TypeError, "obs"),
    ],
)
def test_reset_refuses(make: type, given: dict[str, Any], error: type, name: str) -> None:
    envs = Population(make, SPEC, N)
    before = positions(envs)
    with pytest.raises(error, match=name):
        envs.backend.reset(**{"obs": envs.obs, **given})
    np.testing.assert_array_equal(positions(envs), before)


@pytest.mark.parametrize("make", EVERY)
def test_refuses_calls_at_the_wrong_time(make: type) -> None:
    never = make(SPEC, N, "NextStep")
    with pytest.raises(NotReady, match="reset"):
        never.step(**arguments())
    over = Population(make, SPEC, N, "Disabled")
    for _ in range(SPEC.episode_length):
        over.step(np.zeros(N, np.int64))
    with pytest.raises(NotReady, match="reset"):
        over.backend.step(**arguments())
    over.backend.close()
    with pytest.raises(Closed, match="closed"):
        over.backend.step(**arguments())


@pytest.mark.parametrize("make", [*FAST, DEVICE[0]])
def test_statistics_are_read_only_or_private(make: type) -> None:
    """Nobody can break a batch through its views after it was closed."""
    envs = Population(make, SPEC, N)
    statistics = envs.backend.statistics
    envs.backend.close()
    del envs
    assert float(np.sum(statistics.episode_return)) == 0.0


@pytest.mark.parametrize("make", FAST)
def test_a_second_thread_is_refused_not_let_in(make: type) -> None:
    """While one thread is inside a long call, every call of another is refused by name."""
    envs = Population(make, make_spec("PassiveTMaze", length=50), 50_000)
    steps = 300
    rows = [np.empty((steps, *a.shape), a.dtype) for a in (envs.obs, envs.reward)]
    flags = np.empty((2, steps, 50_000), np.bool_)
    actions = np.zeros((steps, 50_000), np.uint8)
    state = envs.backend.get_state()
    calls = {
        "step": lambda: envs.step(np.zeros(50_000, np.int64)),
        "unroll": lambda: envs.backend.unroll(actions, *rows, *flags),
        "reset": lambda: envs.backend.reset(envs.obs),
        "observe": lambda: envs.backend.observe(envs.obs),
        "get_state": lambda: envs.backend.get_state(),
        "set_state": lambda: envs.backend.set_state(state),
        "positions": lambda: envs.backend.positions(),
        "close": lambda: envs.backend.close(),
    }
    refused = set()
    for name, call in calls.items():
        started = threading.Event()

        def work(started: threading.Event = started) -> None:
            started.set()
            calls["unroll"]()

        for _ in range(20):  # until the other thread is seen inside its call
            thread = threading.Thread(target=work)
            thread.start()
            started.wait()
            time.sleep(0.005)
            try:
                busy = thread.is_alive()
                if busy:
                    call()
            except Busy:
                refused.add(name)
            finally:
                thread.join()
            if name in refused:
                break
    assert refused == set(calls)
    envs.backend.set_state(envs.backend.get_state())  # checks every value


@pytest.mark.parametrize("make", EVERY)
def test_read_only_and_odd_inputs_that_are_right(make: type) -> None:
    """Inputs are only read: read-only ones will do, such as arrays that another library lent."""
    envs, twin = Population(make, SPEC, N, "SameStep"), Population(make, SPEC, N, "SameStep")
    actions = np.array([0, 1, 2, 3, 0, 2])
    given = {**arguments(), "actions": read_only(actions.copy())}
    envs.backend.step(**given)
    twin.backend.step(**{**arguments(), "actions": actions})
    np.testing.assert_array_equal(envs.backend.get_state(), twin.backend.get_state())
    envs.backend.reset(
        envs.obs,
        read_only(np.ones(N, np.bool_)),
        read_only(np.ones(N, np.int8)),
        keys=read_only(np.ones(N, np.uint64)),
        indices=read_only(np.ones(N, np.uint32)),
        seed_mask=read_only(np.ones(N, np.bool_)),
    )
    assert (positions(envs)[:, 3] == 1).all()


@pytest.mark.parametrize("make", FAST)
def test_close_frees_the_state(make: type) -> None:
    import resource

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    closed, before = [], resident()
    for _ in range(10):
        envs = Population(make, SPEC, 1 << 20).backend
        envs.close()
        closed.append(envs)
    # The statistics, 18 MiB each, stay; the states, 40 MiB each, do not.
    assert resident() - before < 10 * 40 << 20


@pytest.mark.parametrize("make", FAST)
def test_a_forked_child_has_threads_of_its_own(make: type) -> None:
    import multiprocessing
    import warnings

    envs = Population(make, make_spec("PassiveTMaze", length=9), 20_000, num_threads=2)
    envs.step(np.zeros(20_000, np.int64))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        envs.step(np.zeros(20_000, np.int64))
        answers.put(envs.backend.get_state().tobytes())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        process = context.Process(target=child)
        process.start()
    answer = answers.get(timeout=60)
    process.join(60)
    envs.step(np.zeros(20_000, np.int64))
    assert process.exitcode == 0
    assert answer == envs.backend.get_state().tobytes()
