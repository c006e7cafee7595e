"""FastMazeVecEnv keeps the contract of SB3's VecEnv, and plays the mazes of `fastmaze.make_vec`."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="nox -s sb3")

from gymnasium.error import ClosedEnvironmentError
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import fastmaze
from fastmaze.integrations.sb3 import FastMazeVecEnv
from fastmaze.reference.base import staggered_start

TASKS: list[tuple[str, dict[str, Any]]] = [
    ("PassiveTMaze", {"length": 3}),
    ("ActiveTMaze", {"length": 2}),
    ("PassiveVisualMatch", {"length": 2}),
    ("MemoryCards", {"pairs": 2}),  # no flag of its own
    ("BakkerTMaze", {"length": 3}),  # ends early
]
every_task = pytest.mark.parametrize(("task", "options"), TASKS, ids=[task for task, _ in TASKS])


def make(num_envs: int = 5, **kwargs: Any) -> FastMazeVecEnv:
    return FastMazeVecEnv("PassiveTMaze", num_envs=num_envs, **{"length": 3, "seed": 0, **kwargs})


def random_actions(envs: Any, steps: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(envs.action_space.n, size=(steps, envs.num_envs))


# The same mazes


@every_task
@pytest.mark.parametrize("stagger", [False, True])
def test_equals_the_vector_env_in_same_step(task: str, options: Any, stagger: bool) -> None:
    """Obs, rewards, ends and what the infos say of them, through several episodes."""
    ours = FastMazeVecEnv(task, 6, seed=7, stagger=stagger, env_offset=2, **options)
    theirs = fastmaze.make_vec(
        task, num_envs=6, autoreset_mode="SameStep", stagger=stagger, env_offset=2, **options
    )
    np.testing.assert_array_equal(ours.reset(), theirs.reset(seed=7)[0])
    spec, ends = theirs.task_spec, 0
    # Which first episodes begin at their beginning.
    whole = [not stagger or staggered_start(2 + i, spec.episode_length) == 0 for i in range(6)]
    for actions in random_actions(ours, 3 * spec.episode_length):
        obs, reward, done, infos = ours.step(actions)
        wanted_obs, wanted_reward, terminated, _, info = theirs.step(actions)
        assert obs.dtype == spec.obs_dtype
        assert reward.dtype == np.float32
        assert done.dtype == np.bool_
        np.testing.assert_array_equal(obs, wanted_obs)
        np.testing.assert_array_equal(reward, wanted_reward)
        np.testing.assert_array_equal(done, terminated)
        assert len(infos) == 6
        for i, ended in enumerate(done):
            if not ended:
                assert infos[i] == {}
                continue
            ends += 1
            final = info["final_info"]
            np.testing.assert_array_equal(
                infos[i].pop("terminal_observation"), info["final_obs"][i]
            )
            wanted = {"TimeLimit.truncated": False}
            if whole[i]:
                episode = infos[i].pop("episode")
                assert episode.pop("t") >= 0
                assert type(episode["r"]) is float
                assert type(episode["l"]) is int
                assert type(infos[i]["is_success"]) is bool
                assert episode == {"r": final["episode_return"][i], "l": final["episode_length"][i]}
                wanted["is_success"] = final["success"][i]
            whole[i] = True
            if spec.flag_name is not None:
                wanted[spec.flag_name] = final[spec.flag_name][i]
            assert infos[i] == wanted
    assert ends >= 12


@every_task
def test_equals_dummy_vec_env(task: str, options: Any) -> None:
    """SB3's own loop over our single envs says the same, in the same keys."""
    ours = FastMazeVecEnv(task, 3, seed=7, **options)
    theirs = DummyVecEnv(
        [lambda i=i: fastmaze.make(task, env_index=i, **options) for i in range(3)]
    )
    theirs._seeds = [7, 7, 7]  # SB3 itself would add the index
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for actions in random_actions(ours, 2 * ours.get_attr("task_spec")[0].episode_length + 2):
        obs, reward, done, infos = ours.step(actions)
        wanted_obs, wanted_reward, wanted_done, wanted_infos = theirs.step(actions)
        np.testing.assert_array_equal(obs, wanted_obs)
        np.testing.assert_array_equal(reward, wanted_reward)
        np.testing.assert_array_equal(done, wanted_done)
        for info, wanted, ended in zip(infos, wanted_infos, done, strict=True):
            if ended:
                np.testing.assert_array_equal(
                    info["terminal_observation"], wanted["terminal_observation"]
                )
                assert info["TimeLimit.truncated"] == wanted["TimeLimit.truncated"]
                assert info["is_success"] == wanted["success"]
                assert info["episode"]["l"] == wanted["episode_length"]
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space


@pytest.mark.parametrize("task", list(fastmaze.TASKS))
def test_sb3s_checker_of_single_envs(task: str) -> None:
    """`fastmaze.make` is an env that SB3 takes; it only advises that pictures are small."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(minimal resolution|image).*")
        check_env(fastmaze.make(task))


def test_a_spec_instead_of_a_name() -> None:
    spec = fastmaze.make_spec("PassiveTMaze", length=3)
    np.testing.assert_array_equal(FastMazeVecEnv(spec, 5, seed=0).reset(), make().reset())


# Seeds and options


def test_seeds() -> None:
    """One seed is one population; it is used once; SB3's `seed` and our argument are the same."""
    envs = make(64, seed=None)
    assert envs.seed(3) == [3] * 64
    first = envs.reset()
    np.testing.assert_array_equal(first, make(64, seed=3).reset())
    assert not np.array_equal(first, envs.reset())  # goes on to the next episodes
    envs.seed(3)
    np.testing.assert_array_equal(first, envs.reset())
    assert not np.array_equal(make(64, seed=None).reset(), make(64, seed=None).reset())


def test_a_seed_drawn_by_numpy() -> None:
    """As in SB3, `seed()` follows `set_random_seed`."""
    drawn = []
    for _ in range(2):
        np.random.seed(5)  # noqa: NPY002
        envs = make(64)
        drawn.append((envs.seed()[0], envs.reset()))
    assert drawn[0][0] == drawn[1][0]
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])


def test_options_of_the_next_reset() -> None:
    envs = make(3)
    envs.set_options([{"goal_y": 1}, {"goal_y": -1}, {"goal_y": 1}])
    np.testing.assert_array_equal(envs.reset()[:, 1], [1, -1, 1])
    envs.set_options({"goal_y": -1})
    np.testing.assert_array_equal(envs.reset()[:, 1], [-1, -1, -1])
    for nothing in (None, {}, [{}, {}, {}]):
        envs.set_options({"goal_y": -1})
        envs.set_options(nothing)
        envs.seed(0)
        np.testing.assert_array_equal(envs.reset(), make(3).reset())


def test_options_of_some_envs() -> None:
    """Where a task can draw for the others, None or nothing is a draw."""
    envs = FastMazeVecEnv("HeavenHell", 3, size=2, seed=0)
    same = fastmaze.make_vec("HeavenHell", num_envs=3, size=2, autoreset_mode="SameStep")
    envs.set_options([{"heaven": 1}, {}, {"heaven": None}])
    envs.reset()
    same.reset(seed=0, options={"heaven": [1, None, None]})
    np.testing.assert_array_equal(envs.population.get_state(), same.get_state())
    envs.set_options({"heaven": -1})
    envs.reset()
    same.reset(options={"heaven": [-1, -1, -1]})
    np.testing.assert_array_equal(envs.population.get_state(), same.get_state())


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, "expected -1 or +1", {"goal_y": 2}),
        (ValueError, "expected 3, one per env, got 2", [{}, {}]),
        (ValueError, "for all envs or for none", [{"goal_y": 1}, {}, {}]),
        (ValueError, "reset_mask", {"reset_mask": np.ones(3, bool)}),
        (TypeError, "expected a dict or a list", 3),
        (TypeError, "expected a dict", [1, 2, 3]),
    ],
)
def test_what_are_no_options(error: type[Exception], words: str, options: Any) -> None:
    envs = make(3)
    with pytest.raises(error, match=re.escape(words)):
        envs.set_options(options)
    np.testing.assert_array_equal(envs.reset(), make(3).reset())


# Private memory


def test_results_are_private_and_writable() -> None:
    """SB3 writes into rewards; a buffer that keeps a result must not see the next step in it."""
    envs, same = make(), make()
    kept = [envs.reset()]
    same.reset()
    for actions in random_actions(envs, 9):
        obs, reward, done, infos = envs.step(actions)
        wanted = same.step(actions)
        for array in (obs, reward, done):
            assert array.flags.owndata
            assert not any(np.shares_memory(array, other) for other in kept)
        kept += [obs, reward, done]
        ended = [info["terminal_observation"] for info in infos if info]
        for i, array in enumerate(ended):
            others = kept + ended[:i]
            assert not any(np.shares_memory(array, other) for other in others)
        kept += ended
        for array, expected in zip((obs, reward, done), wanted, strict=False):
            np.testing.assert_array_equal(array, expected)
        for array in (obs, reward, done, *ended):
            array[...] = 1  # what a wrapper does to its copy does not reach the mazes


@pytest.mark.parametrize("stagger", [False, True])
def test_a_kept_info_keeps_little_alive(stagger: bool) -> None:
    """Whoever keeps one info does not keep the last observations of the whole population."""
    envs = make(500, stagger=stagger)
    envs.reset()
    for _ in range(4):
        *_, done, infos = envs.step(np.zeros(500, np.int64))
        kept = [infos[i]["terminal_observation"] for i in np.flatnonzero(done)]
        assert all((obs if obs.base is None else obs.base).size <= 32 * 2 for obs in kept)
    assert len(kept) >= 100


def test_a_write_into_the_shared_info_is_refused() -> None:
    """A wrapper that writes into every info would otherwise write into all of them at once."""
    envs = make()
    envs.reset()
    *_, infos = envs.step(np.zeros(5, np.int64))
    assert all(info is infos[0] for info in infos)
    writes: list[Any] = [
        lambda info: info.__setitem__("key", 1),
        lambda info: info.update(key=1),
        lambda info: info.setdefault("key", 1),
        lambda info: info.__ior__({"key": 1}),
    ]
    for write in writes:
        with pytest.raises(TypeError, match=re.escape("infos = [dict(info) for info in infos]")):
            write(infos[0])
    assert infos[0] == {}
    for private in (dict(infos[0]), infos[0].copy(), {**infos[0]}, infos[0] | {}):
        private["key"] = 1  # copies are anyone's own
    assert infos[0] == {}
    assert infos[0].get("key") is None
    assert copy.deepcopy(infos) == pickle.loads(pickle.dumps(infos)) == [{}] * 5
    infos[0] = {"key": 1}  # the list is the caller's
    assert envs.step(np.zeros(5, np.int64))[3][0] == {}


def test_only_ended_envs_have_a_dict_of_their_own() -> None:
    envs = make(4, stagger=True)
    envs.reset()
    for actions in random_actions(envs, 8):
        *_, done, infos = envs.step(actions)
        assert (
            len({id(info) for info, ended in zip(infos, done, strict=True) if ended}) == done.sum()
        )
        assert len({id(info) for info, ended in zip(infos, done, strict=True) if not ended}) <= 1


# What else a VecEnv has


def test_attributes() -> None:
    envs = make(3)
    assert envs.get_attr("render_mode") == [None] * 3
    assert envs.get_attr("task_spec", indices=[0, -1]) == [envs.population.task_spec] * 2
    assert envs.get_attr("observation_space", 0) == [envs.observation_space]
    assert envs.has_attr("action_space")
    assert not envs.has_attr("action_masks")  # MaskablePPO asks
    with pytest.raises(IndexError):
        envs.get_attr("render_mode", indices=3)
    with pytest.raises(AttributeError, match="one population"):
        envs.set_attr("length", 20)
    with pytest.raises(AttributeError, match="one population"):
        envs.env_method("reset")
    assert envs.reset_infos == [{}] * 3


def test_counts_as_monitored() -> None:
    envs = make(3)
    assert envs.env_is_wrapped(Monitor) == [True] * 3
    assert envs.env_is_wrapped(VecNormalize) == [False] * 3
    assert envs.env_is_wrapped(Monitor, indices=1) == [True]


def test_pictures() -> None:
    """`render` tiles them; other modes give what the single env gives, one per env."""
    envs = make(3, render_mode="rgb_array")
    envs.reset()
    images = envs.get_images()
    height, width, _ = images[0].shape
    assert envs.render().shape == (2 * height, 2 * width, 3)
    single = fastmaze.make("PassiveTMaze", length=3, render_mode="rgb_array")
    single.reset(seed=0)
    np.testing.assert_array_equal(images[0], single.render())
    text = make(3, render_mode="ansi")
    text.reset()
    frames = text.env_method("render", indices=[2])
    assert len(frames) == 1
    assert "┌" in frames[0]
    with pytest.warns(UserWarning, match="render_mode 'rgb_array'"):
        assert text.get_images() == [None] * 3


def test_pickles_go_on_bit_for_bit() -> None:
    envs = make()
    envs.reset()
    actions = random_actions(envs, 8)
    for row in actions[:3]:
        envs.step(row)
    again = pickle.loads(pickle.dumps(envs))
    for row in actions[3:]:
        ours, theirs = envs.step(row), again.step(row)
        for a, b in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_close() -> None:
    envs = make()
    envs.reset()
    envs.close()
    envs.close()
    for call in (envs.reset, lambda: envs.step(np.zeros(5, np.int64))):
        with pytest.raises(ClosedEnvironmentError):
            call()
