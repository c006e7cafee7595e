"""The single env: Gymnasium's contract, and the same mazes as a population."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env

import fastmaze
from fastmaze.envs.registration import env_id

every_task = pytest.mark.parametrize("task", list(fastmaze.TASKS))


@every_task
def test_gymnasiums_checker(task: str) -> None:
    """No error and, as warnings are errors here, no warning."""
    check_env(gymnasium.make(env_id(task)).unwrapped)
    check_env(gymnasium.make(env_id(task), render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize(
    "options",
    [{"expose_goal": True, "oracle_length": 3, "add_timestep": True}, {"ambiguous_position": True}],
)
def test_checker_with_other_observations(options: dict[str, Any]) -> None:
    check_env(gymnasium.make("fastmaze/TMaze-v0", corridor_length=300, **options).unwrapped)


@every_task
def test_made_through_gymnasium(task: str) -> None:
    """With the passive checker around it, and without a wrapper that ends episodes."""
    env = gymnasium.make(env_id(task))
    assert isinstance(env.unwrapped, fastmaze.TMazeEnv)
    assert env.spec is not None
    assert env.spec.max_episode_steps is None
    env.reset(seed=0)
    ended, steps = False, 0
    while not ended:
        _, _, ended, truncated, info = env.step(env.action_space.sample())
        assert not truncated
        steps += 1
    spec = env.unwrapped.task_spec
    assert steps <= spec.episode_length if spec.ends_early else steps == spec.episode_length
    assert info.keys() == set(spec.info_names)


@every_task
@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_equals_its_copy_in_a_population(task: str, seed: int) -> None:
    """`env_index=i` plays the mazes of env i, episode after episode."""
    envs = fastmaze.make_vec(task, num_envs=7, env_offset=3)
    singles = [fastmaze.make(task, env_index=3 + i) for i in range(7)]
    obs, _ = envs.reset(seed=seed)
    np.testing.assert_array_equal(obs, [env.reset(seed=seed)[0] for env in singles])
    rng = np.random.default_rng(0)
    over = np.zeros(7, bool)
    for _ in range(3 * (envs.task_spec.episode_length + 1)):
        actions = rng.integers(0, envs.task_spec.num_actions, 7)
        obs, reward, terminated, _, _ = envs.step(actions)
        # Where an episode has ended, the step after it is a reset.
        steps: list[Any] = [
            (env.reset()[0], 0.0, False) if ended else env.step(action)
            for env, action, ended in zip(singles, actions, over, strict=True)
        ]
        over = terminated
        np.testing.assert_array_equal(obs, [step[0] for step in steps])
        np.testing.assert_array_equal(reward, np.float32([step[1] for step in steps]))
        np.testing.assert_array_equal(terminated, [step[2] for step in steps])


@pytest.mark.parametrize("goal_y", [-1, 1, np.int8(-1), np.int64(1)])
def test_goal_is_taken(goal_y: Any) -> None:
    env = fastmaze.make("PassiveTMaze")
    obs, _ = env.reset(seed=0, options={"goal_y": goal_y})
    assert obs[1] == goal_y


def test_unseeded_resets_are_random() -> None:
    """64 envs, each with its own random first maze, do not all agree."""
    goals = {fastmaze.make("PassiveTMaze").reset()[0][1] for _ in range(64)}
    assert goals == {-1, 1}


def test_copies_continue_alike() -> None:
    env = fastmaze.make("ActiveTMaze", length=4, render_mode="ansi")
    env.reset(seed=3)
    env.step(2)
    env.render()
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin.render() == env.render()
        mine, theirs = copy.deepcopy(env), twin
        for action in (0, 0, 1, 3, 0, 0):
            np.testing.assert_array_equal(mine.step(action)[0], theirs.step(action)[0])
        np.testing.assert_array_equal(mine.reset()[0], theirs.reset()[0])


def test_misuse() -> None:
    """Each mistake has its own clear error and changes nothing."""
    env = fastmaze.make("PassiveTMaze", length=2, render_mode="ansi")
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(0)
    with pytest.raises(ResetNeeded, match="reset"):
        env.render()
    env.reset(seed=0)
    before = vars(env.maze).copy()
    calls: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "action.*4", lambda: env.step(4)),
        (ValueError, "action.*-1", lambda: env.step(-1)),
        (TypeError, "action", lambda: env.step(0.0)),
        (TypeError, "action", lambda: env.step("right")),
        (TypeError, "action", lambda: env.step(True)),
        (ValueError, "seed", lambda: env.reset(seed=-1)),
        (ValueError, "seed", lambda: env.reset(seed=2**64)),
        (TypeError, "seed", lambda: env.reset(seed=0.5)),  # type: ignore[arg-type]
        (ValueError, "goal_y", lambda: env.reset(options={"goal_y": 2})),
        (TypeError, "goal_y", lambda: env.reset(options={"goal_y": "up"})),
        (ValueError, "gaol", lambda: env.reset(options={"gaol": 1})),
    ]
    for error, words, call in calls:
        with pytest.raises(error, match=words):
            call()
        assert vars(env.maze) == before
    for _ in range(3):
        env.step(0)
    with pytest.raises(ResetNeeded, match="over"):
        env.step(0)
    env.close()
    env.close()
    for call in (lambda: env.step(0), lambda: env.reset(), lambda: env.render()):
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("error", "words", "kwargs"),
    [
        (ValueError, "render_mode", {"render_mode": "human"}),
        (ValueError, "env_index", {"env_index": -1}),
        (ValueError, "env_index", {"env_index": 2**32}),
        (TypeError, "env_index", {"env_index": 1.0}),
        (TypeError, "lenght", {"lenght": 3}),
    ],
)
def test_refused_arguments(error: type[Exception], words: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        fastmaze.make("PassiveTMaze", **kwargs)


def test_render_without_a_mode_says_so() -> None:
    env = fastmaze.make("PassiveTMaze")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
