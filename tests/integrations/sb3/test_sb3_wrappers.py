"""SB3's own wrappers around FastMazeVecEnv do what they do around SB3's loop over single envs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="nox -s sb3")

from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

import fastmaze
from fastmaze.integrations.sb3 import FastMazeVecEnv

MAZE: tuple[str, dict[str, Any]] = ("PassiveTMaze", {"length": 3})
PIXELS: tuple[str, dict[str, Any]] = ("PassiveVisualMatch", {"length": 2})
VIEWS: tuple[str, dict[str, Any]] = ("MiniGridMemory", {"size": 7})
NUM_ENVS = 3
# VecMonitor says that its statistics replace those that are in the infos already.
monitored = pytest.mark.filterwarnings("ignore:The environment is already wrapped:UserWarning")

WRAPPERS: dict[str, tuple[Any, Callable[[Any], VecEnvWrapper]]] = {
    "VecMonitor": (MAZE, VecMonitor),
    "VecMonitor, keywords": (MAZE, lambda e: VecMonitor(e, info_keywords=("cue_seen",))),
    "VecNormalize": (MAZE, VecNormalize),
    "VecNormalize, pixels": (PIXELS, VecNormalize),
    "VecFrameStack": (MAZE, lambda e: VecFrameStack(e, 4)),
    "VecFrameStack, pixels": (PIXELS, lambda e: VecFrameStack(e, 2)),
    "VecCheckNan": (MAZE, lambda e: VecCheckNan(e, raise_exception=True)),
    "VecTransposeImage": (VIEWS, VecTransposeImage),
    "a stack": (MAZE, lambda e: VecNormalize(VecFrameStack(VecMonitor(VecCheckNan(e)), 2))),
}


@monitored
@pytest.mark.parametrize("name", WRAPPERS)
def test_equals_the_wrapper_around_dummy_vec_env(name: str) -> None:
    """Obs, rewards, ends and last observations through several episodes."""
    (task, options), wrap = WRAPPERS[name]
    dummy = DummyVecEnv(
        [lambda i=i: fastmaze.make(task, env_index=i, **options) for i in range(NUM_ENVS)]
    )
    dummy._seeds = [0] * NUM_ENVS  # SB3 itself would add the index
    theirs, ours = wrap(dummy), wrap(FastMazeVecEnv(task, NUM_ENVS, seed=0, **options))
    assert ours.observation_space == theirs.observation_space
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng, ends = np.random.default_rng(0), 0
    for _ in range(2 * ours.get_attr("task_spec")[0].episode_length + 3):
        actions = rng.integers(ours.action_space.n, size=NUM_ENVS)
        obs, reward, done, infos = ours.step(actions)
        wanted_obs, wanted_reward, wanted_done, wanted_infos = theirs.step(actions)
        np.testing.assert_array_equal(obs, wanted_obs)
        np.testing.assert_array_equal(reward, wanted_reward)
        np.testing.assert_array_equal(done, wanted_done)
        for i in np.flatnonzero(done):
            ends += 1
            np.testing.assert_array_equal(
                infos[i]["terminal_observation"], wanted_infos[i]["terminal_observation"]
            )
            for key in ("r", "l", "cue_seen"):
                episode = wanted_infos[i].get("episode", {})
                if key in episode:
                    assert infos[i]["episode"][key] == pytest.approx(episode[key])
    assert ends >= 2 * NUM_ENVS


def test_vec_monitor_says_that_it_is_too_much() -> None:
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        VecMonitor(FastMazeVecEnv("PassiveTMaze", 2, length=3))


def test_returns_do_not_depend_on_normalised_rewards() -> None:
    """What the infos say of an episode is the task's own return, whatever a wrapper makes of it."""
    envs = VecNormalize(FastMazeVecEnv("PassiveTMaze", 8, length=3, seed=0))
    goals = envs.reset()
    goals = envs.get_original_obs()[:, 1]
    for _ in range(3):
        envs.step(np.zeros(8, np.int64))
    _, reward, done, infos = envs.step(np.where(goals > 0, 1, 3))
    assert done.all()
    assert [info["episode"]["r"] for info in infos] == [1.0] * 8
    assert not np.array_equal(reward, np.ones(8))


def test_video(tmp_path: Path) -> None:
    count = pytest.importorskip("imageio_ffmpeg", reason="nox -s sb3").count_frames_and_secs
    envs = FastMazeVecEnv("PassiveTMaze", 4, length=3, seed=0, render_mode="rgb_array")
    recorder = VecVideoRecorder(
        envs, str(tmp_path), record_video_trigger=lambda step: step == 0, video_length=5
    )
    recorder.reset()
    for _ in range(6):
        recorder.step(np.zeros(4, np.int64))
    recorder.close()
    (video,) = tmp_path.glob("*.mp4")
    assert count(str(video))[0] == 5
