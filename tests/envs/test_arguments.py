"""What looks like an integer or a bool, but is none, is refused by its name everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.specs import check_integer

INTEGERS = [3, np.int8(3), np.uint64(3), np.array(3), np.array(3, np.uint8)]
NOT_INTEGERS = [
    True,
    np.True_,
    3.0,
    np.float64(3),
    "3",
    b"3",
    None,
    [3],
    np.array(True),
    np.array(3.0),
    np.array("3"),
    np.array([3]),
    np.array([3, 4]),
    np.array(3, object),
    np.timedelta64(3),
    np.array(3, "m8[s]"),
]
NOT_BOOLEANS = [0, 1, "no", "False", None, np.array(True), np.array([True])]


def refused(error: type[Exception], words: str, call: Any) -> None:
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_integers(value: Any) -> None:
    """Every kind of integer will do wherever one is asked for, and is kept as an int."""
    number = check_integer("x", value)
    assert number == 3
    assert type(number) is int
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=value, num_threads=value, length=value)
    assert (envs.num_envs, envs.task_spec.corridor_length) == (3, 3)
    expected, _ = envs.reset(seed=3)
    np.testing.assert_array_equal(envs.reset(seed=value)[0], expected)
    np.testing.assert_array_equal(envs.reset(seed=[value] * 3)[0], envs.reset(seed=[3] * 3)[0])
    env = fastmaze.make("PassiveTMaze", length=value, env_index=value)
    env.reset(seed=value)
    env.step(value)


@pytest.mark.parametrize("seed", INTEGERS, ids=repr)
def test_a_seed_of_any_kind_seeds_np_random(seed: Any) -> None:
    envs = fastmaze.make_vec("PassiveTMaze")
    envs.reset(seed=seed)
    assert envs.np_random_seed == 3


@pytest.mark.parametrize("value", NOT_INTEGERS, ids=repr)
def test_what_is_no_integer(value: Any) -> None:
    """Refused by name, with what was expected, in every place that takes an integer."""
    refused(TypeError, "^x: expected an integer, got", lambda: check_integer("x", value))
    env = fastmaze.make("PassiveTMaze", length=3)
    env.reset(seed=0)
    before = vars(env.maze).copy()
    refused(TypeError, "^action: expected an integer", lambda: env.step(value))
    if value is not None:
        refused(TypeError, "^seed: expected an integer", lambda: env.reset(seed=value))
        refused(TypeError, "goal_y.*expected", lambda: env.reset(options={"goal_y": value}))
    assert vars(env.maze) == before
    for name in ("num_envs", "num_threads", "env_offset"):
        refused(
            TypeError,
            f"^{name}: expected an integer",
            lambda name=name: fastmaze.make_vec("PassiveTMaze", **{name: value}),
        )
    refused(TypeError, "^env_index", lambda: fastmaze.make("PassiveTMaze", env_index=value))
    refused(TypeError, "^length", lambda: fastmaze.make_spec("PassiveTMaze", length=value))
    refused(TypeError, "^oracle_length", lambda: fastmaze.make_spec("TMaze", oracle_length=value))


@pytest.mark.parametrize(
    "seed", [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), "abcd", np.array(3.0), {1, 2, 3, 4}]
)
def test_what_is_no_seed_of_four_envs(seed: Any) -> None:
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=4)
    refused(TypeError, "^seed: expected an integer", lambda: envs.reset(seed=seed))


@pytest.mark.parametrize("seeds", [np.zeros((4, 1), np.int64), np.ones(4), [0, 1, 2, True]])
def test_what_is_no_list_of_seeds(seeds: Any) -> None:
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=4)
    refused(TypeError, r"^seed\[\d\]: expected an integer", lambda: envs.reset(seed=seeds))


@pytest.mark.parametrize("value", NOT_BOOLEANS, ids=repr)
def test_what_is_no_boolean(value: Any) -> None:
    for name in ("stagger", "copy", "add_timestep"):
        refused(
            TypeError,
            f"^{name}: expected True or False",
            lambda name=name: fastmaze.make_vec("PassiveTMaze", **{name: value}),
        )


def test_numpys_booleans_will_do() -> None:
    envs = fastmaze.make_vec("PassiveTMaze", copy=np.False_, add_timestep=np.True_)  # type: ignore[arg-type]
    first, _ = envs.reset(seed=0)
    assert envs.step(np.zeros(1, np.int64))[0] is first
    assert envs.task_spec.add_timestep is True


@pytest.mark.parametrize(
    "goals",
    [[[1, -1], [1]], np.array(1.0), np.True_, "up", [[1, 1]], np.array([1, -1, 1])],
    ids=repr,
)
def test_what_are_no_goals(goals: Any) -> None:
    envs = fastmaze.make_vec("PassiveTMaze", num_envs=2)
    with pytest.raises((TypeError, ValueError), match=r"goal_y.*expected"):
        envs.reset(seed=0, options={"goal_y": goals})


@pytest.mark.parametrize("options", [["goal_y"], [], "goal_y", 0])
def test_options_are_a_dict(options: Any) -> None:
    for env in (fastmaze.make("PassiveTMaze"), fastmaze.make_vec("PassiveTMaze")):
        refused(TypeError, "^options: expected a dict", lambda env=env: env.reset(options=options))


@pytest.mark.parametrize("backend", [["native"], None, {"native"}])
def test_a_backend_has_a_name(backend: Any) -> None:
    refused(
        TypeError,
        "^backend: expected one of",
        lambda: fastmaze.make_vec("PassiveTMaze", backend=backend),
    )


def test_a_population_needs_a_spec() -> None:
    refused(
        TypeError,
        "^task_spec: expected a TMazeSpec.*PassiveTMaze",
        lambda: fastmaze.FastMazeVectorEnv("PassiveTMaze"),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mode", [["ansi"], np.array(["ansi", "human"]), 1])
def test_what_is_no_render_mode(mode: Any) -> None:
    for make in (fastmaze.make, fastmaze.make_vec):
        refused(
            ValueError, "^render_mode", lambda make=make: make("PassiveTMaze", render_mode=mode)
        )


@pytest.mark.parametrize("backend", ["native", "numba", "device", "reference"])
def test_every_backend_takes_up_to_1024_threads(backend: str) -> None:
    """Refused before any is started, in the same words."""
    refused(
        ValueError,
        "^num_threads: expected an integer from 1 to 1024, got 1025",
        lambda: fastmaze.make_vec("PassiveTMaze", backend=backend, num_threads=1025),
    )


def test_an_instruction_set_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that it came from there."""
    monkeypatch.setenv("FASTMAZE_ISA", "nonsense")
    refused(
        ValueError,
        "FASTMAZE_ISA.*expected one of.*auto.*got 'nonsense'",
        lambda: fastmaze.make_vec("PassiveTMaze", backend="native"),
    )
    for isa in ("baseline", "auto", ""):
        monkeypatch.setenv("FASTMAZE_ISA", isa)
        fastmaze.make_vec("PassiveTMaze", backend="native").close()


def test_max_episode_steps_is_no_option() -> None:
    """An episode's length belongs to the task; the error says which option that is."""
    for make in (fastmaze.make, fastmaze.make_vec):
        refused(
            TypeError,
            "max_episode_steps.*part of the task.*episode_length",
            lambda make=make: make("PassiveTMaze", max_episode_steps=5),
        )
