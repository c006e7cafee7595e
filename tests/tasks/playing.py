"""Plays specification envs with a policy, for the tests of what can be earned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmaze.reference.base import SpecificationEnv
from fastmaze.specs import FAMILIES, make_spec

Policy = Callable[[Any], int]
"""The action for an env, whose hidden state it may look at."""


def make_env(task: str, **options: Any) -> Any:
    """The specification env of a task."""
    spec = make_spec(task, **options)
    return FAMILIES[spec.family].load("reference")(spec)


def play(env: SpecificationEnv, policy: Policy, seed: int) -> float:
    """The return of one episode, which must be what the env's statistics say."""
    env.reset(seed)
    earned, done = 0.0, False
    while not done:
        _, reward, done = env.step(policy(env))
        earned += reward
    statistics = env.statistics()
    assert abs(statistics.episode_return - earned) < 1e-9
    assert statistics.length == env.t
    return earned


def returns(env: SpecificationEnv, policy: Policy, episodes: int) -> list[float]:
    """The returns of some episodes, each with its own seed."""
    return [play(env, policy, seed) for seed in range(episodes)]


def uniform(num_actions: int) -> Policy:
    """Any action, as often as the others."""
    generator = np.random.default_rng(0)
    return lambda env: int(generator.integers(num_actions))


def assert_mean(values: list[float], expected: float) -> None:
    """The mean lies within four standard errors of what is expected."""
    error = float(np.std(values)) / len(values) ** 0.5
    assert abs(float(np.mean(values)) - expected) <= 4 * error, (np.mean(values), error)
