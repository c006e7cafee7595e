"""The package minigrid, episode by episode, beside MiniGridMemory: every view, reward and end."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.bench import peers
from tests.packages.replaying import load

pytest.importorskip("minigrid", reason="minigrid is not installed: pip install minigrid")

EPISODES = int(os.environ.get("FASTMAZE_PACKAGE_EPISODES", "12"))
"""Of each configuration."""

REGISTERED = [(17, True), (13, True), (13, False), (11, False), (9, False), (7, False)]
"""(size, random length) of the ids MiniGrid-Memory…-v0, and two that have none below."""


def context_of(env: Any) -> dict[str, Any]:
    """What the package has drawn, as the option of our reset."""
    end, middle = int(env.success_pos[0]) - 1, env.height // 2
    return {
        "hallway_end": end,
        "start": int(env.agent_pos[0]),
        "cue": env.grid.get(1, middle - 1).type,
        "upper": env.grid.get(end + 1, middle - 2).type,
    }


@pytest.mark.parametrize(("size", "random_length"), [*REGISTERED, (7, True), (21, True)])
def test_replay(size: int, random_length: bool) -> None:
    options = {"size": size, "random_length": random_length}
    theirs = load("minigrid.envs.memory", "MemoryEnv", **options)
    ours = [
        fastmaze.make_vec("MiniGridMemory", backend=name, autoreset_mode="Disabled", **options)
        for name in ("native", "reference")
    ]
    assert ours[0].task_spec.episode_length == theirs.max_steps
    generator = np.random.default_rng(size)
    ends = {"right": 0, "wrong": 0, "time": 0}
    for episode in range(EPISODES):
        seen = theirs.reset(seed=episode)[0]["image"]
        for envs in ours:
            obs, _ = envs.reset(options={"context": [context_of(theirs)]})
            np.testing.assert_array_equal(obs[0], seen)
        # The more often ahead, the farther they get; the first ones wander until time is up.
        ahead = (episode % 4) / 5
        chances = [(1 - ahead) / 7 + ahead * share for share in (0.2, 0.2, 0.6, 0, 0, 0, 0)]
        done = False
        while not done:
            action = generator.choice(7, p=chances)
            found, reward, terminated, truncated, _ = theirs.step(action)
            done = terminated or truncated
            for envs in ours:
                obs, paid, ended, _, info = envs.step(np.array([action]))
                np.testing.assert_array_equal(obs[0], found["image"])
                assert paid[0] == np.float32(reward)
                assert ended[0] == done
                assert not done or info["episode_return"][0] == reward
                assert not done or info["success"][0] == (reward > 0)
        ends["right" if reward > 0 else "wrong" if terminated else "time"] += 1
    assert ends["right"] > 0
    assert ends["wrong"] > 0


def test_the_benchmark_steps_it() -> None:
    _, make = peers.PUBLISHED["MiniGridMemory"]
    step = make(fastmaze.make_vec("MiniGridMemory", episode_length=9).task_spec, 3, 1)
    for _ in range(20):
        step()
