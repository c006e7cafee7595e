"""The pixel grid-worlds follow the published environments frame by frame (recorded episodes)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.reference.pixel_world import PixelWorld
from fastmaze.specs import make_spec
from fastmaze.specs.pixel_worlds import KeyToDoorSpec, VisualMatchSpec

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "key_to_door_sr": ("KeyToDoor", {}),
    "key_to_door_cca": ("KeyToDoor", {"room": "cca"}),
    "visual_match_passive": ("PassiveVisualMatch", {}),
    "visual_match_active": ("ActiveVisualMatch", {}),
}
"""Name in a recording's `config` to ours."""

Recording = dict[str, Any]


@pytest.fixture(scope="module")
def recordings(pixel_parity_files: list[Path]) -> list[Recording]:
    loaded = []
    for file in pixel_parity_files:
        with np.load(file) as arrays:
            record = {"file": file.name, **{key: arrays[key] for key in arrays.files}}
        config = json.loads(str(record["config"]))
        frames = config["max_frames"]
        task, options = TASKS[config["task"]]
        record["task"], record["options"] = task, {**options, "length": frames["distractor"]}
        record["spec"] = spec = make_spec(task, flat=True, **record["options"])
        record["contexts"] = [json.loads(str(context)) for context in record["context"]]
        # The recordings are of the options that are ours by default.
        assert (frames["explore"], frames["reward"]) == (spec.explore_frames, spec.reward_frames)
        for name in ("apple_reward", "final_reward", "respawn_every", "num_apples"):
            assert config[name] == getattr(spec, name)
        loaded.append(record)
    return loaded


def test_specification_replays_recordings(recordings: list[Recording]) -> None:
    """Some episodes of each file; the native core, which replays all of them, equals it."""
    for record in recordings:
        env = PixelWorld(record["spec"])
        for e in range(0, len(record["contexts"]), 12):
            context = record["spec"].encode_context("context", record["contexts"][e])
            np.testing.assert_array_equal(env.reset(0, context), record["obs"][e, 0])
            for t, action in enumerate(record["actions"][e]):
                obs, reward, done = env.step(int(action))
                where = f"{record['file']} episode {e} step {t}"
                np.testing.assert_array_equal(obs, record["obs"][e, t + 1], where)
                assert (reward, done) == (record["reward"][e, t], record["done"][e, t]), where
            assert env.statistics().success == record["success"][e]
            assert env.statistics().episode_return == record["reward"][e].sum()


@pytest.mark.parametrize("flat", [True, False])
def test_native_core_replays_every_recording(recordings: list[Recording], flat: bool) -> None:
    for record in recordings:
        recorded = record["obs"]
        if not flat:
            recorded = recorded.reshape(*recorded.shape[:2], 3, 5, 5)
        envs = fastmaze.make_vec(
            record["task"], num_envs=len(recorded), autoreset_mode="Disabled", flat=flat,
            **record["options"],
        )  # fmt: skip
        obs, _ = envs.reset(seed=1, options={"context": record["contexts"]})
        np.testing.assert_array_equal(obs, recorded[:, 0], record["file"])
        for t in range(recorded.shape[1] - 1):
            actions = np.ascontiguousarray(record["actions"][:, t])
            obs, reward, terminated, truncated, info = envs.step(actions)
            where = f"{record['file']} step {t}"
            np.testing.assert_array_equal(obs, recorded[:, t + 1], where)
            np.testing.assert_array_equal(reward, record["reward"][:, t], where)
            np.testing.assert_array_equal(terminated, record["done"][:, t], where)
            assert not truncated.any()
        np.testing.assert_array_equal(info["success"], record["success"])
        np.testing.assert_array_equal(info["episode_return"], record["reward"].sum(1))


def test_what_the_recordings_show(recordings: list[Recording]) -> None:
    """They exercise what is easy to get wrong: respawned apples, both successes, the indicator."""
    white = 0
    for record in recordings:
        length = record["spec"].episode_length
        assert record["obs"].shape[1] == length + 1
        assert 0 < record["success"].sum() < len(record["success"])
        if isinstance(record["spec"], KeyToDoorSpec):
            pixels = record["obs"].reshape(len(record["obs"]), length + 1, 3, 25)
            white += (pixels == 255).all(axis=2).any(axis=2).sum()
        else:
            assert isinstance(record["spec"], VisualMatchSpec)
    assert white > 0
    assert max(record["reward"].sum(1).max() for record in recordings) > 10
