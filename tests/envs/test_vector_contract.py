"""Gymnasium's vector contract: what wrappers and trainers rely on, on every backend.

The oracle is Gymnasium itself: SyncVectorEnv over our own single envs. Ours may differ from it in
three ways only: rewards are float32, `final_obs` is one plain array, and `reset_mask` stays in the
caller's options.
"""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import fastmaze

BACKENDS = ("reference", "native", "numba", "device")
MODES = ("NextStep", "SameStep", "Disabled")
TASKS: list[tuple[str, dict[str, Any]]] = [
    ("PassiveTMaze", {"length": 3}),
    ("ActiveTMaze", {"length": 2}),
    (
        "TMaze",
        {
            "corridor_length": 2,
            "oracle_length": 2,
            "episode_length": 5,
            "penalty": -0.25,
            "distract_reward": 0.5,
            "expose_goal": True,
            "add_timestep": True,
        },
    ),
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_mode = pytest.mark.parametrize("mode", MODES)
every_task = pytest.mark.parametrize(("task", "options"), TASKS, ids=[task for task, _ in TASKS])


def make(backend: str = "native", mode: str = "NextStep", **kwargs: Any) -> Any:
    task = kwargs.pop("task", "PassiveTMaze")
    kwargs = {"num_envs": 5, **({"length": 3} if task == "PassiveTMaze" else {}), **kwargs}
    return fastmaze.make_vec(task, backend=backend, autoreset_mode=mode, **kwargs)


def make_sync(task: str, num_envs: int, mode: str, **options: Any) -> SyncVectorEnv:
    """Gymnasium's own loop over copies 0 to num_envs - 1 of a population."""

    def factory(index: int) -> Any:
        return lambda: fastmaze.make(task, env_index=index, **options)

    return SyncVectorEnv([factory(i) for i in range(num_envs)], autoreset_mode=AutoresetMode(mode))


def assert_same(ours: Any, theirs: Any, where: str = "result") -> None:
    """Equal values, dtypes and structure, bit for bit; `final_obs` rows where masked."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            if key == "final_obs":
                assert isinstance(ours[key], np.ndarray)
                assert ours[key].dtype == np.float32
                mask = theirs["_final_obs"]
                np.testing.assert_array_equal(ours[key][mask], np.stack(theirs[key][mask]))
                np.testing.assert_array_equal(ours[key][~mask], 0)
            else:
                assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    else:
        assert ours.dtype == theirs.dtype, where
        np.testing.assert_array_equal(ours, theirs, err_msg=where)


def assert_same_step(ours: Any, theirs: Any) -> None:
    obs, reward, terminated, truncated, info = theirs
    assert_same(ours[0], obs, "obs")
    assert_same(ours[1], reward.astype(np.float32), "reward")
    assert_same(ours[2], terminated, "terminated")
    assert_same(ours[3], truncated, "truncated")
    assert_same(ours[4], info, "info")


# Equal to Gymnasium's own loop


@every_backend
@every_mode
@every_task
def test_equals_sync_vector_env(backend: str, mode: str, task: str, options: Any) -> None:
    """Obs, rewards, flags and infos through several episodes, and on after a new seed."""
    ours = make(backend, mode, task=task, num_envs=4, **options)
    theirs = make_sync(task, 4, mode, **options)
    rng = np.random.default_rng(0)
    length = ours.task_spec.episode_length
    for seed in ([7, 8, 9, 2**64 - 1], [5, None, 6, None], None):
        # A list's seeds make every env index 0, so the single envs must be copies 0 from here.
        for i, env in enumerate(theirs.envs):
            if seed is not None and seed[i] is not None:
                env.maze.env_index = 0
        assert_same(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for k in range(1, 3 * length):
            actions = rng.integers(0, 4, 4)
            assert_same_step(ours.step(actions), theirs.step(actions))
            if mode == "Disabled" and k % length == 0:
                assert_same(ours.reset()[0], theirs.reset()[0])


@every_backend
@every_task
def test_integer_seed_equals_copies_with_that_seed(backend: str, task: str, options: Any) -> None:
    """Copy i of a population draws as the single env with `env_index=i`, not as seed + i."""
    ours = make(backend, task=task, num_envs=4, **options)
    theirs = make_sync(task, 4, "NextStep", **options)
    assert_same(ours.reset(seed=11)[0], theirs.reset(seed=[11] * 4)[0])
    rng = np.random.default_rng(1)
    for _ in range(20):
        actions = rng.integers(0, 4, 4)
        assert_same_step(ours.step(actions), theirs.step(actions))


@every_backend
@every_mode
def test_partial_resets_equal_sync_vector_env(backend: str, mode: str) -> None:
    """`reset_mask` at random times, with seeds and goals, moves the masked envs and no other."""
    ours, theirs = make(backend, mode, num_envs=4), make_sync("PassiveTMaze", 4, mode, length=3)
    rng = np.random.default_rng(2)
    for env in theirs.envs:
        env.maze.env_index = 0
    assert_same(ours.reset(seed=[1, 2, 3, 4])[0], theirs.reset(seed=[1, 2, 3, 4])[0])
    ended = np.zeros(4, np.bool_)
    for k in range(60):
        mask = ended | (rng.random(4) < 0.2) if mode == "Disabled" else rng.random(4) < 0.3
        if mask.any():
            seed = None if k % 3 else rng.integers(0, 2**63, 4).tolist()
            options = {"reset_mask": mask, **({} if k % 2 else {"goal_y": 1})}
            kept = dict(options)
            mine = ours.reset(seed=seed, options=options)
            assert options == kept, "the caller's options changed"
            assert_same(mine[0], theirs.reset(seed=seed, options=dict(options))[0])
        actions = rng.integers(0, 4, 4)
        mine = ours.step(actions)
        ended = mine[2]
        assert_same_step(mine, theirs.step(actions))


# Spaces, ids and metadata


@every_mode
def test_declares_its_mode(mode: str) -> None:
    """Wrappers look for the mode in both places, as the enum."""
    for given in (mode, AutoresetMode(mode)):
        envs = make(mode=given)
        assert envs.metadata["autoreset_mode"] is AutoresetMode(mode)
        assert envs.autoreset_mode is AutoresetMode(mode)
    assert "autoreset_mode" not in fastmaze.FastMazeVectorEnv.metadata


@every_backend
@every_mode
@every_task
def test_observations_and_actions_fit_the_spaces(
    backend: str, mode: str, task: str, options: Any
) -> None:
    envs = make(backend, mode, task=task, **options)
    assert envs.observation_space.shape == (5, envs.task_spec.obs_dim)
    assert envs.single_observation_space.shape == (envs.task_spec.obs_dim,)
    obs, info = envs.reset(seed=3)
    assert info == {}
    assert obs in envs.observation_space
    envs.action_space.seed(3)
    for _ in range(envs.task_spec.episode_length):
        obs, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert obs in envs.observation_space
        assert all(row in envs.single_observation_space for row in obs)
        assert (reward.dtype, reward.shape) == (np.float32, (5,))
        assert (terminated.dtype, terminated.shape) == (np.bool_, (5,))
        assert (truncated.dtype, truncated.shape) == (np.bool_, (5,))
    assert terminated.all()
    assert not truncated.any()


@pytest.mark.parametrize("task", list(fastmaze.TASKS))
def test_gymnasium_make_vec(task: str) -> None:
    envs = gymnasium.make_vec(f"fastmaze/{task}-v0", num_envs=8)
    assert isinstance(envs, fastmaze.FastMazeVectorEnv)
    assert envs.num_envs == 8
    assert envs.spec is not None
    assert envs.spec.id == f"fastmaze/{task}-v0"
    assert envs.spec.max_episode_steps is None
    again = gymnasium.make_vec(envs.spec)  # all of the options are in the spec
    assert again.num_envs == 8


def test_gymnasium_make_vec_passes_options_on() -> None:
    envs = gymnasium.make_vec("fastmaze/PassiveTMaze-v0", num_envs=8, length=20, copy=False)
    assert envs.unwrapped.task_spec == fastmaze.make_spec("PassiveTMaze", length=20)


@every_mode
def test_gymnasiums_statistics_wrapper(mode: str) -> None:
    """RecordEpisodeStatistics keeps its own key, "episode", and agrees with ours."""
    envs = RecordEpisodeStatistics(make(mode=mode))
    envs.reset(seed=0)
    for _ in range(4):
        *_, info = envs.step(np.zeros(5, np.int64))
    ours = info["final_info"] if mode == "SameStep" else info
    np.testing.assert_array_equal(info["episode"]["l"], ours["episode_length"])
    np.testing.assert_allclose(info["episode"]["r"], ours["episode_return"], atol=1e-6)


@every_mode
def test_gymnasiums_info_wrapper(mode: str) -> None:
    """DictInfoToList takes the infos apart without loss."""
    envs = DictInfoToList(make(mode=mode, num_envs=2))
    envs.reset(seed=0)
    for _ in range(4):
        *_, infos = envs.step(np.zeros(2, np.int64))
    assert len(infos) == 2
    for info in infos:
        inner = info["final_info"] if mode == "SameStep" else info
        assert inner["episode_length"] == 4
        assert inner["cue_seen"]
        assert ("final_obs" in info) == (mode == "SameStep")


# Seeds and options


@every_backend
def test_same_seed_same_mazes_whatever_the_split(backend: str) -> None:
    whole = make(backend, num_envs=9)
    expected = whole.reset(seed=5)[0]
    parts = [make(backend, num_envs=n, env_offset=at) for at, n in ((0, 2), (2, 6), (8, 1))]
    for _ in range(3):
        np.testing.assert_array_equal(expected, np.concatenate([e.reset(seed=5)[0] for e in parts]))
        for _ in range(5):  # through the end of the episode into the next one
            expected = whole.step(np.zeros(9, np.int64))[0]
            got = [e.step(np.zeros(e.num_envs, np.int64))[0] for e in parts]
            np.testing.assert_array_equal(expected, np.concatenate(got))
        expected = whole.reset(seed=5)[0]


def test_unseeded_resets_differ_and_np_random_decides() -> None:
    """Without a seed the first mazes are random; with a generator given, they are its draw."""
    obs = [make(num_envs=64).reset()[0] for _ in range(2)]
    assert (obs[0] != obs[1]).any()
    drawn = []
    for _ in range(2):
        envs = make(num_envs=64)
        envs.np_random = np.random.default_rng(1)
        drawn.append(envs.reset()[0])
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_list_with_none_on_the_first_reset() -> None:
    """Envs without a seed of their own get a random stream, the others theirs."""
    twice = [make(num_envs=64).reset(seed=[4] + [None] * 63)[0] for _ in range(2)]
    np.testing.assert_array_equal(twice[0][0], fastmaze.make("PassiveTMaze").reset(seed=4)[0])
    assert (twice[0] != twice[1]).any()


@every_backend
def test_goals_are_taken(backend: str) -> None:
    envs = make(backend, num_envs=4)
    for goals in (np.array([1, -1, 1, -1]), [1, -1, -1, 1], np.ones(4, np.int8), -1):
        obs, _ = envs.reset(seed=0, options={"goal_y": goals})
        np.testing.assert_array_equal(obs[:, 1], np.broadcast_to(goals, 4))


@every_backend
def test_staggered_starts_spread_the_ends(backend: str) -> None:
    """At most a few of 64 envs end on any one step, in the first episode and in later ones."""
    envs = make(backend, "SameStep", num_envs=64, length=31, stagger=True)
    envs.reset(seed=0)
    ends = np.array([envs.step(np.zeros(64, np.int64))[2].sum() for _ in range(64)])
    assert ends.sum() == 128
    assert ends.max() <= 3
    lengths = envs.statistics.length
    assert (lengths == 32).all()  # the second episode of each env is a whole one


def test_staggered_starts_only_at_resets_of_all() -> None:
    """An env that is reset alone, as in mode Disabled, gets its full episode."""
    envs = make(mode="Disabled", num_envs=2, stagger=True)
    envs.reset(seed=0)
    envs.reset(options={"reset_mask": np.array([False, True])})
    assert envs.backend.positions()[1, 2] == 0


# Arrays


@every_backend
@every_mode
def test_results_are_fresh_unless_asked_otherwise(backend: str, mode: str) -> None:
    """Nothing that was returned changes later; with copy=False it does, and says so."""
    envs = make(backend, mode)
    kept = [envs.reset(seed=0)[0]]
    for _ in range(4):
        *arrays, info = envs.step(np.zeros(5, np.int64))
        kept += arrays
        flat = {**info, **info.pop("final_info", {})}
        kept += [value for value in flat.values() if isinstance(value, np.ndarray)]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(kept, 2))
    before = [array.copy() for array in kept]
    envs.reset(seed=1)
    envs.step(np.ones(5, np.int64))
    for array, copied in zip(kept, before, strict=True):
        np.testing.assert_array_equal(array, copied)

    envs = make(backend, mode, copy=False)
    first = envs.reset(seed=0)[0]
    assert envs.step(np.zeros(5, np.int64))[0] is first


@every_backend
@every_mode
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
def test_step_into_and_unroll_equal_step(backend: str, mode: str, dtype: Any) -> None:
    """Three ways to take the same steps."""
    n, steps = 5, 4 if mode == "Disabled" else 11
    actions = np.random.default_rng(0).integers(0, 4, (steps, n)).astype(dtype)
    envs = [make(backend, mode) for _ in range(3)]
    for each in envs:
        each.reset(seed=9)
    trajectory = envs[0].unroll(actions)
    obs, final_obs = np.empty((2, n, 2), np.float32)
    reward = np.empty(n, np.float32)
    terminated, truncated = np.empty((2, n), np.bool_)
    for s in range(steps):
        *expected, info = envs[1].step(actions[s])
        count = envs[2].step_into(actions[s], obs, reward, terminated, truncated, final_obs)
        assert count == expected[2].sum()
        for got, rolled, want in zip(
            (obs, reward, terminated, truncated), trajectory, expected, strict=False
        ):
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(rolled[s], want)
        if mode == "SameStep":
            assert trajectory.final_obs is not None
            want = info.get("final_obs", np.zeros((n, 2), np.float32))
            np.testing.assert_array_equal(trajectory.final_obs[s], want)
            np.testing.assert_array_equal(final_obs[terminated], want[terminated])
        else:
            assert trajectory.final_obs is None


def test_statistics_cannot_be_written() -> None:
    envs = make()
    for column in envs.statistics:
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


# Saving


@every_backend
@every_mode
def test_state_pickle_and_deepcopy_continue_bit_for_bit(backend: str, mode: str) -> None:
    """In the middle of an episode, and into the next ones."""
    envs = make(backend, mode, render_mode="ansi", stagger=mode != "Disabled")
    envs.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(3 if mode == "Disabled" else 6):
        envs.step(rng.integers(0, 4, 5))
    other = make(backend, mode)
    other.set_state(envs.get_state())
    copies = [copy.deepcopy(envs), pickle.loads(pickle.dumps(envs))]
    for twin in copies:
        assert twin.spec == envs.spec
        assert twin.render() == envs.render()
    twins = [other, *copies]
    for _ in range(1 if mode == "Disabled" else 9):
        actions = rng.integers(0, 4, 5)
        expected = envs.step(actions)
        for twin in twins:
            assert_same_step(twin.step(actions), expected)
    expected = envs.reset()
    for twin in copies:
        np.testing.assert_array_equal(twin.reset()[0], expected[0])


@every_backend
def test_state_from_before_the_first_reset(backend: str) -> None:
    """It is restored as such: steps are refused, and the first reset draws a random seed."""
    fresh = make(backend, num_envs=64).get_state()
    envs = make(backend, num_envs=64)
    envs.reset(seed=0)
    envs.set_state(fresh)
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros(64, np.int64))
    assert (envs.reset()[0] != make(backend, num_envs=64).reset()[0]).any()


# Misuse


def misuse(envs: Any) -> list[tuple[type[Exception], str, Any]]:
    """(error, words in its message, call) for all that a caller can get wrong in `step`."""
    n = envs.num_envs
    good = np.zeros(n, np.int64)
    read_only = np.zeros(n, np.float32)
    read_only.flags.writeable = False

    def into(**wrong: Any) -> Any:
        arrays: dict[str, Any] = {
            "actions": good,
            "obs": np.empty((n, 2), np.float32),
            "reward": np.empty(n, np.float32),
            "terminated": np.empty(n, np.bool_),
            "truncated": np.empty(n, np.bool_),
            **wrong,
        }
        return lambda: envs.step_into(**arrays)

    return [
        (TypeError, "actions", lambda: envs.step(np.zeros(n, np.float64))),
        (TypeError, "actions", lambda: envs.step(np.zeros(n, np.bool_))),
        (TypeError, "actions", lambda: envs.step("up")),
        (ValueError, "actions", lambda: envs.step(np.zeros(n + 1, np.int64))),
        (ValueError, "actions", lambda: envs.step(np.zeros((n, 1), np.int64))),
        (ValueError, "actions", lambda: envs.step(np.zeros(2 * n, np.int64)[::2])),
        (ValueError, "actions", lambda: envs.step(np.full(n, 4))),
        (ValueError, "actions", lambda: envs.step(np.array([0] * (n - 1) + [-1]))),
        (ValueError, "actions", lambda: envs.step(np.full(n, 2**32))),
        (ValueError, "actions", lambda: envs.unroll(good)),
        (ValueError, "actions", lambda: envs.unroll(np.full((2, n), 9))),
        (TypeError, "actions", into(actions=[0] * n)),
        (TypeError, "obs", into(obs=np.empty((n, 2), np.float64))),
        (ValueError, "obs", into(obs=np.empty((n, 3), np.float32))),
        (ValueError, "obs", into(obs=np.empty((2, n), np.float32).T)),
        (TypeError, "reward", into(reward=np.empty(n, np.float64))),
        (ValueError, "reward", into(reward=read_only)),
        (TypeError, "terminated", into(terminated=np.empty(n, np.uint8))),
        (ValueError, "truncated", into(truncated=np.empty(1, np.bool_))),
        (ValueError, "final_obs", into(final_obs=np.empty((1, 2), np.float32))),
    ]


@every_backend
@every_mode
def test_a_refused_step_changes_nothing(backend: str, mode: str) -> None:
    envs = make(backend, mode)
    envs.reset(seed=0)
    envs.step(np.zeros(5, np.int64))
    state = envs.get_state()
    for error, words, call in misuse(envs):
        with pytest.raises(error, match=words):
            call()
        np.testing.assert_array_equal(envs.get_state(), state)


@every_backend
def test_a_refused_reset_changes_nothing(backend: str) -> None:
    envs = make(backend)
    envs.reset(seed=0)
    state = envs.get_state()
    mask = np.array([True] * 5)
    for error, words, seed, options in (
        (ValueError, "seed", -1, None),
        (ValueError, "seed", 2**64, None),
        (TypeError, "seed", 1.5, None),
        (TypeError, "seed", "1", None),
        (TypeError, "seed", True, None),
        (ValueError, "5 seeds", [1, 2], None),
        (ValueError, r"seed\[4\]", [1, 2, 3, 4, -5], None),
        (ValueError, "goal", 1, {"goal": 1}),
        (ValueError, "goal_y", 1, {"goal_y": 0}),
        (ValueError, "goal_y", 1, {"goal_y": [1, 1]}),
        (TypeError, "goal_y", 1, {"goal_y": 1.0}),
        (TypeError, "reset_mask", 1, {"reset_mask": [True] * 5}),
        (TypeError, "reset_mask", 1, {"reset_mask": mask.astype(int)}),
        (ValueError, "reset_mask", 1, {"reset_mask": mask[:2]}),
        (ValueError, "reset_mask", 1, {"reset_mask": ~mask}),
    ):
        with pytest.raises(error, match=words):
            envs.reset(seed=seed, options=options)
        np.testing.assert_array_equal(envs.get_state(), state)


@every_backend
def test_a_refused_state_changes_nothing(backend: str) -> None:
    envs = make(backend)
    envs.reset(seed=0)
    state = envs.get_state()
    other_task, other_mode = make(backend, length=4), make(backend, "SameStep")
    fewer = make(backend, num_envs=4)
    for other in (other_task, other_mode, fewer):
        other.reset(seed=0)
        with pytest.raises(ValueError, match="state"):
            envs.set_state(other.get_state())
    for wrong in (state[:-1], state[:3], state[:0], np.zeros_like(state), state[None]):
        with pytest.raises(ValueError, match="state"):
            envs.set_state(wrong)
    for wrong in (state.astype(np.int64), bytes(state), None):
        with pytest.raises(TypeError, match="state"):
            envs.set_state(wrong)
    np.testing.assert_array_equal(envs.get_state(), state)


@every_backend
def test_step_needs_a_reset(backend: str) -> None:
    envs = make(backend, "Disabled", render_mode="ansi")
    actions = np.zeros(5, np.int64)
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(actions)
    with pytest.raises(ResetNeeded, match="reset"):
        envs.unroll(actions[None])
    with pytest.raises(ResetNeeded, match="reset"):
        envs.render()
    with pytest.raises(ResetNeeded, match="reset"):
        envs.reset(options={"reset_mask": np.array([True, False, True, True, True])})
    envs.reset(seed=0)
    with pytest.raises(ResetNeeded, match="steps"):
        envs.unroll(np.zeros((5, 5), np.int64))  # the episode has four steps
    envs.unroll(np.zeros((4, 5), np.int64))
    with pytest.raises(ResetNeeded, match="reset"):
        envs.step(actions)


@every_backend
def test_closed(backend: str) -> None:
    envs = make(backend, render_mode="ansi")
    envs.reset(seed=0)
    state = envs.get_state()
    envs.close()
    envs.close()
    actions = np.zeros(5, np.int64)
    for call in (
        lambda: envs.reset(),
        lambda: envs.step(actions),
        lambda: envs.step_into(actions, None, None, None, None),
        lambda: envs.unroll(actions[None]),
        lambda: envs.get_state(),
        lambda: envs.set_state(state),
        lambda: envs.render(),
        lambda: pickle.dumps(envs),
    ):
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("error", "words", "kwargs"),
    [
        (ValueError, "num_envs", {"num_envs": 0}),
        (TypeError, "num_envs", {"num_envs": 2.0}),
        (ValueError, "num_threads", {"num_threads": 0}),
        (ValueError, "backend", {"backend": "cuda"}),
        (ValueError, "autoreset_mode", {"mode": "Never"}),
        (ValueError, "render_mode", {"render_mode": "human"}),
        (ValueError, "env_offset", {"env_offset": -1}),
        (ValueError, "env_offset", {"env_offset": 2**32 - 2}),
        (TypeError, "env_offset", {"env_offset": None}),
        (ValueError, "PasiveTMaze.*PassiveTMaze", {"task": "PasiveTMaze"}),
        (ValueError, "length", {"length": 0}),
        (TypeError, "length", {"length": "3"}),
        (TypeError, "lenght", {"lenght": 3}),
        (ValueError, "penalty", {"penalty": 0.1}),
    ],
)
def test_refused_arguments(error: type[Exception], words: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        make(**kwargs)
