"""The package bsuite, episode by episode, beside MemoryLength and UmbrellaLength."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.bench import peers
from tests.packages.replaying import load, recorded

pytest.importorskip("bsuite", reason="bsuite is not installed: pip install bsuite")


class Replayed:
    """Answers as NumPy's random generator, with what is put into `queue`."""

    def __init__(self) -> None:
        self.queue: list[Any] = []

    def binomial(self, n: int, p: float, size: int | None = None) -> Any:
        value = self.queue.pop(0)
        assert (n, p, np.size(value)) == (1, 0.5, 1 if size is None else size)
        return np.asarray(value)

    def randint(self, n: int) -> int:
        value: int = self.queue.pop(0)
        assert 0 <= value < n
        return value


@pytest.mark.parametrize(("length", "bits"), [(1, 1), (2, 1), (7, 1), (5, 4), (40, 3)])
def test_memory_chain(length: int, bits: int) -> None:
    theirs = load(
        "bsuite.environments.memory_chain",
        "MemoryChain",
        memory_length=length,
        num_bits=bits,
        seed=0,
    )
    theirs._rng = Replayed()
    for seed in range(20):
        seen, actions, rewards, ends = recorded("MemoryLength", seed, length=length, bits=bits)
        question = int(seen[length][1])
        theirs._rng.queue = [(seen[0, 2:] + 1) / 2, question]
        np.testing.assert_array_equal(theirs.reset().observation[0], seen[0])
        for t, action in enumerate(actions):
            step = theirs.step(action)
            assert (step.reward, step.last()) == (rewards[t], ends[t])
            # bsuite's last observation is made before its clock moves on, and so is ours.
            np.testing.assert_array_equal(step.observation[0], seen[t + 1])


@pytest.mark.parametrize(("length", "distractors"), [(1, 0), (2, 20), (9, 20), (30, 100)])
def test_umbrella_chain(length: int, distractors: int) -> None:
    theirs = load(
        "bsuite.environments.umbrella_chain",
        "UmbrellaChain",
        chain_length=length,
        n_distractor=distractors,
        seed=0,
    )
    theirs._rng = Replayed()
    for seed in range(20):
        options = {"length": length, "distractors": distractors}
        seen, actions, rewards, ends = recorded("UmbrellaLength", seed, **options)
        theirs._rng.queue = [int(seen[0, 0]), int(seen[0, 1]), seen[0, 3:]]
        np.testing.assert_array_equal(theirs.reset().observation[0], seen[0])
        for t, action in enumerate(actions):
            # A reward at random, but for the last one, then the distractors.
            random_reward = [] if ends[t] else [(rewards[t] + 1) / 2]
            theirs._rng.queue = [*random_reward, seen[t + 1, 3:]]
            step = theirs.step(action)
            assert (step.reward, step.last()) == (rewards[t], ends[t])
            np.testing.assert_array_equal(step.observation[0], seen[t + 1])


@pytest.mark.parametrize("task", ["MemoryLength", "UmbrellaLength"])
def test_the_benchmark_steps_it(task: str) -> None:
    _, make = peers.PUBLISHED[task]
    step = make(fastmaze.make_vec(task).task_spec, 3, 1)
    for _ in range(40):
        step()
