"""Every backend follows the published environments step for step (recorded episodes)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import make_spec
from tests.backends.population import COMPILED, FAST, Population


@pytest.fixture(scope="module")
def recordings(parity_files: list[Path]) -> list[dict[str, np.ndarray]]:
    loaded = []
    for file in parity_files:
        with np.load(file) as arrays:
            loaded.append({"file": file.name, **{key: arrays[key] for key in arrays.files}})
    return loaded


def test_specification_replays_every_recording(recordings: list[dict[str, np.ndarray]]) -> None:
    for record in recordings:
        maze = TMaze(make_spec("TMaze", **json.loads(str(record["config"]))))
        for e, goal in enumerate(record["goal_y"]):
            np.testing.assert_array_equal(maze.reset(seed=0, goal_y=int(goal)), record["obs"][e, 0])
            for t, action in enumerate(record["actions"][e]):
                obs, reward, done = maze.step(int(action))
                where = f"{record['file']} episode {e} step {t}"
                np.testing.assert_array_equal(obs, record["obs"][e, t + 1], where)
                assert np.float32(reward) == np.float32(record["reward"][e, t]), where
                assert done == record["done"][e, t], where
                assert (maze.x, maze.y) == tuple(record["position"][e, t + 1]), where


@pytest.mark.parametrize("make", [*FAST, *COMPILED])
def test_backend_replays_every_recording(
    make: type, recordings: list[dict[str, np.ndarray]]
) -> None:
    for record in recordings:
        spec = make_spec("TMaze", **json.loads(str(record["config"])))
        goals = record["goal_y"].astype(np.int8)
        envs = Population(make, spec, len(goals), "Disabled", goals=goals)
        np.testing.assert_array_equal(envs.obs, record["obs"][:, 0], record["file"])
        for t in range(spec.episode_length):
            envs.step(record["actions"][:, t])
            where = f"{record['file']} step {t}"
            np.testing.assert_array_equal(envs.obs, record["obs"][:, t + 1], where)
            np.testing.assert_array_equal(envs.reward, record["reward"][:, t].astype("f4"), where)
            np.testing.assert_array_equal(envs.terminated, record["done"][:, t], where)
            position = envs.backend.positions()[:, :2]
            np.testing.assert_array_equal(position, record["position"][:, t + 1], where)
            assert not envs.truncated.any()
