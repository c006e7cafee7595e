"""Closing, and what a backend refuses: Gymnasium's errors where it has some, and no env kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any, NoReturn

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

import fastmaze
from fastmaze.envs.backends.errors import Busy, Closed, NotReady

every_backend = pytest.mark.parametrize("backend", ["reference", "native", "numba", "device"])


def make(backend: str = "reference", **kwargs: Any) -> Any:
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=4, length=3, backend=backend, **kwargs)
    envs.reset(seed=0)
    return envs


@every_backend
@pytest.mark.parametrize("closed", [True, False])
def test_a_dropped_env_is_freed_at_once(backend: str, closed: bool) -> None:
    """Without the garbage collector: some versions of Gymnasium close what is dropped."""
    envs = make(backend, autoreset_mode="SameStep", render_mode="rgb_array")
    envs.step(np.zeros(4, np.int64))
    envs.render()
    gc.collect()
    gc.disable()
    try:
        if closed:
            envs.close()
        gone = weakref.ref(envs)
        del envs
        assert gone() is None
    finally:
        gc.enable()


@every_backend
def test_close_drops_the_arrays(backend: str) -> None:
    """Of a million envs they are megabytes; the statistics stay readable."""
    envs = make(backend, autoreset_mode="SameStep", copy=False, render_mode="rgb_array")
    obs, *_ = envs.step(np.zeros(4, np.int64))
    envs.render()
    kept = weakref.ref(obs)
    del obs, _
    envs.close()
    assert kept() is None
    assert envs._final_obs is None
    assert envs._renderer is None
    with pytest.raises(ClosedEnvironmentError):
        envs.step(np.zeros(4, np.int64))
    assert envs.statistics.length.tolist() == [0] * 4


REFUSALS = [
    (NotReady, ResetNeeded),
    (Closed, ClosedEnvironmentError),
    (Busy, Busy),
    (RuntimeError, RuntimeError),
    (OSError, OSError),
]


@pytest.mark.parametrize(("error", "expected"), REFUSALS)
def test_refusals_of_a_backend(
    error: type[Exception], expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gymnasium's name for what it knows; all else, such as a failed thread, is let through."""
    envs = make()

    def refuse(*_: Any) -> NoReturn:
        raise error("not now")

    monkeypatch.setattr(envs, "_step", refuse)
    monkeypatch.setattr(envs.backend, "unroll", refuse)
    actions = np.zeros(4, np.int64)
    into = [np.empty((4, 2), np.float32), np.empty(4, np.float32), *np.empty((2, 4), np.bool_)]
    for call in (
        lambda: envs.step(actions),
        lambda: envs.step_into(actions, *into),
        lambda: envs.unroll(actions[None]),
    ):
        with pytest.raises(expected, match="not now") as caught:
            call()
        assert caught.type is expected


@pytest.mark.parametrize("error", [Busy, RuntimeError])
def test_a_busy_backend_is_not_one_never_reset(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After such a `set_state` the next reset must not draw a new seed as the first one does."""
    envs = make()
    state = envs.get_state()

    def refuse(*_: Any) -> NoReturn:
        raise error("not now")

    with monkeypatch.context() as patch:
        patch.setattr(envs.backend, "observe", refuse)
        with pytest.raises(error, match="not now"):
            envs.set_state(state)
    before = envs.np_random.bit_generator.state
    envs.reset()
    assert envs.np_random.bit_generator.state == before
