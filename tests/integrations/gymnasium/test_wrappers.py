"""Gymnasium's wrappers around our envs do what they do around its own loop over our single envs.

A wrapper that refuses an autoreset mode must refuse it for both alike; `MODES` says which modes
each works in, as docs/plug-ins.md does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

import fastmaze

VERSION = tuple(map(int, gymnasium.__version__.split(".")[:2]))
pytestmark = pytest.mark.skipif(VERSION < (1, 1), reason="needs gymnasium >= 1.1")

NUM_ENVS, T = 3, 4
MAZE: tuple[str, dict[str, Any]] = ("PassiveTMaze", {"length": T - 1})
VIEWS: tuple[str, dict[str, Any]] = ("MiniGridMemory", {"size": 7})
ALL = ("NextStep", "SameStep", "Disabled")
NOT_SAME_STEP = ("NextStep", "Disabled")


def double(x: Any) -> Any:
    return 2 * x


def mirror(action: Any) -> Any:
    return 3 - action


WIDE = Box(-2, 2, (2,), np.float32)
WRAPPERS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    # Anything but observations: every mode.
    "RecordEpisodeStatistics": (ALL, wrappers.RecordEpisodeStatistics),
    "DictInfoToList": (ALL, wrappers.DictInfoToList),
    "NormalizeReward": (ALL, wrappers.NormalizeReward),
    "TransformReward": (ALL, lambda e: wrappers.TransformReward(e, double)),
    "ClipReward": (ALL, lambda e: wrappers.ClipReward(e, -0.1, 0.5)),
    "VectorizeTransformReward": (
        ALL,
        lambda e: wrappers.VectorizeTransformReward(
            e, gymnasium.wrappers.TransformReward, func=double
        ),
    ),
    "TransformAction": (ALL, lambda e: wrappers.TransformAction(e, mirror)),
    "VectorizeTransformAction": (
        ALL,
        lambda e: wrappers.VectorizeTransformAction(
            e,
            gymnasium.wrappers.TransformAction,
            func=mirror,
            action_space=e.single_action_space,
        ),
    ),
    "a stack": (
        ALL,
        lambda e: wrappers.DictInfoToList(
            wrappers.NormalizeReward(wrappers.RecordEpisodeStatistics(e))
        ),
    ),
    # Observations: not where the last one of an episode comes in the infos.
    "TransformObservation": (
        NOT_SAME_STEP,
        lambda e: wrappers.TransformObservation(e, double, single_observation_space=WIDE),
    ),
    "VectorizeTransformObservation": (
        NOT_SAME_STEP,
        lambda e: wrappers.VectorizeTransformObservation(
            e, gymnasium.wrappers.TransformObservation, func=double, observation_space=WIDE
        ),
    ),
    "FlattenObservation": (NOT_SAME_STEP, wrappers.FlattenObservation),
    "ReshapeObservation": (NOT_SAME_STEP, lambda e: wrappers.ReshapeObservation(e, (1, 2))),
    "RescaleObservation": (NOT_SAME_STEP, lambda e: wrappers.RescaleObservation(e, 0.0, 1.0)),
    "DtypeObservation": (NOT_SAME_STEP, lambda e: wrappers.DtypeObservation(e, np.float16)),
    "GrayscaleObservation": (NOT_SAME_STEP, wrappers.GrayscaleObservation),
    "ResizeObservation": (NOT_SAME_STEP, lambda e: wrappers.ResizeObservation(e, (14, 14))),
    # It has statistics of all envs together, which a partial reset would spoil.
    "NormalizeObservation": (("NextStep",), wrappers.NormalizeObservation),
}
OF_PICTURES = ("GrayscaleObservation", "ResizeObservation")
CASES = [(name, mode) for name in WRAPPERS for mode in ALL]


def make_both(mode: str, task: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Our vector env, and Gymnasium's loop over the same copies."""
    ours = fastmaze.make_vec(task, num_envs=NUM_ENVS, autoreset_mode=mode, **options)
    copy = functools.partial(fastmaze.make, task, **options)
    return ours, SyncVectorEnv([copy] * NUM_ENVS, autoreset_mode=AutoresetMode(mode))


def play(envs: Any, mode: str, num_steps: int) -> Iterator[tuple[Any, ...]]:
    """What reset and steps return, with the same actions for everyone."""
    yield envs.reset(seed=list(range(NUM_ENVS)))
    rng = np.random.default_rng(0)
    for _ in range(num_steps):
        result = envs.step(rng.integers(4, size=NUM_ENVS) % envs.single_action_space.n)
        yield result
        ended = np.asarray(result[2])
        if mode == "Disabled" and ended.any():
            yield envs.reset(options={"reset_mask": ended})


def assert_same(ours: Any, theirs: Any, where: str = "result") -> None:
    """Equal, rewards up to the rounding of float32; `final_obs` where there is one."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs.keys() - {"t"}:  # seconds
            if key == "final_obs" and theirs[key].dtype == object:
                mask = theirs["_final_obs"]
                assert_same(ours[key][mask], np.stack(theirs[key][mask]), "final_obs")
            else:
                assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), where
        for i, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(our, their, f"{where}[{i}]")
    else:
        assert np.shape(ours) == np.shape(theirs), where
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=where)


# Gymnasium warns of its own casts of bounds.
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning")
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_wrapper_of_a_population(name: str, mode: str) -> None:
    """The same results as around SyncVectorEnv through three episodes, or the same refusal."""
    modes, wrap = WRAPPERS[name]
    if name == "a stack" and VERSION < (1, 2):
        pytest.skip("DictInfoToList of 1.1 cannot take apart what RecordEpisodeStatistics adds")
    if name == "ResizeObservation":
        pytest.importorskip("cv2", reason="nox -s gymnasium")
    ours, theirs = make_both(mode, *(VIEWS if name in OF_PICTURES else MAZE))
    if mode not in modes:
        with pytest.raises((ValueError, AssertionError)) as their_refusal:
            wrap(theirs)
        with pytest.raises(their_refusal.type) as our_refusal:
            wrap(ours)
        # The message names the mode that it needs, and the one that it got; before Gymnasium 1.4
        # it has no words.
        for words in ("NEXT_STEP", AutoresetMode(mode).name) if VERSION >= (1, 4) else ():
            assert words in str(our_refusal.value)
        return
    ours, theirs = wrap(ours), wrap(theirs)
    assert ours.single_observation_space == theirs.single_observation_space
    for number, (our, their) in enumerate(
        zip(play(ours, mode, 3 * (T + 1)), play(theirs, mode, 3 * (T + 1)), strict=True)
    ):
        assert_same(our, their, f"result {number}")
        # NormalizeObservation of 1.1 keeps the space that it found.
        assert ours.observation_space.contains(our[0]) == theirs.observation_space.contains(
            their[0]
        )


@pytest.mark.parametrize("mode", ALL)
def test_torch_tensors(mode: str) -> None:
    """NumpyToTorch converts all, with the infos of the ends; SyncVectorEnv's it could not."""
    # Not in this trainer's environment, which is to be cheap; where the whole test suite runs.
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat", reason="pip install array-api-compat")
    ours, _ = make_both(mode, *MAZE)
    plain, _ = make_both(mode, *MAZE)
    envs = wrappers.NumpyToTorch(ours)
    obs, _ = envs.reset(seed=0)
    wanted, _ = plain.reset(seed=0)
    assert isinstance(obs, torch.Tensor)
    np.testing.assert_array_equal(obs.numpy(), wanted)
    for _ in range(T):
        actions = np.zeros(NUM_ENVS, np.int64)
        *result, info = envs.step(torch.from_numpy(actions))
        *expected, plain_info = plain.step(actions)
        for tensor, array in zip(result, expected, strict=True):
            assert isinstance(tensor, torch.Tensor)
            np.testing.assert_array_equal(tensor.numpy(), array)
    assert_same(info, plain_info, "info")


@pytest.mark.parametrize("mode", ALL)
def test_video_of_a_population(mode: str, tmp_path: Path) -> None:
    """One frame a state; in SameStep the last one is missing, and Gymnasium warns of that."""
    count = pytest.importorskip("imageio_ffmpeg", reason="nox -s gymnasium").count_frames_and_secs
    pytest.importorskip("moviepy", reason="nox -s gymnasium")
    if not hasattr(wrappers, "RecordVideo"):
        pytest.skip("this gymnasium has no RecordVideo for vector envs")
    task, options = MAZE
    envs = fastmaze.make_vec(
        task, num_envs=NUM_ENVS, autoreset_mode=mode, render_mode="rgb_array", **options
    )
    record = functools.partial(
        wrappers.RecordVideo, envs, str(tmp_path / "videos"), episode_trigger=lambda i: i == 0
    )
    if mode == "SameStep":
        with pytest.warns(UserWarning, match="same-step"):
            recorded = record()
    else:
        recorded = record()
    for _ in play(recorded, mode, T + 1):
        pass
    recorded.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert count(str(video))[0] == (T if mode == "SameStep" else T + 1)


# The single env


def test_single_env_in_a_stack_of_wrappers() -> None:
    """Statistics, limit and stacked frames: the limit truncates, an episode's end does not."""
    plain = fastmaze.make("PassiveTMaze", length=T - 1)
    first, _ = plain.reset(seed=0)
    for limit, ended, cut in ((T + 1, True, False), (T - 1, False, True)):
        env: Any = gymnasium.make("fastmaze/PassiveTMaze-v0", length=T - 1)
        env = gymnasium.wrappers.TimeLimit(env, limit)
        env = gymnasium.wrappers.FrameStackObservation(env, 3, padding_type="zero")
        env = gymnasium.wrappers.RecordEpisodeStatistics(env)
        obs, _ = env.reset(seed=0)
        assert obs.shape == (3, 2)
        np.testing.assert_array_equal(obs[-1], first)
        np.testing.assert_array_equal(obs[:-1], 0)
        steps, terminated, truncated = 0, False, False
        while not (terminated or truncated):
            obs, _, terminated, truncated, info = env.step(0)
            steps += 1
        assert (terminated, truncated, steps) == (ended, cut, min(limit, T))
        assert info["episode"]["l"] == steps
        if ended:
            assert info["episode"]["r"] == pytest.approx(info["episode_return"])


def test_video_of_a_single_env(tmp_path: Path) -> None:
    count = pytest.importorskip("imageio_ffmpeg", reason="nox -s gymnasium").count_frames_and_secs
    pytest.importorskip("moviepy", reason="nox -s gymnasium")
    env: Any = gymnasium.make(
        "fastmaze/ActiveTMaze-v0", length=T - 3, render_mode="rgb_array", disable_env_checker=True
    )
    env = gymnasium.wrappers.RecordVideo(
        env, str(tmp_path / "videos"), episode_trigger=lambda i: i == 0
    )
    env.reset(seed=0)
    for _ in range(T):
        *_, terminated, _, _ = env.step(0)
    assert terminated
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert count(str(video))[0] == T + 1
