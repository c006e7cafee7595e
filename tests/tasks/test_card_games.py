"""Repeat First and Autoencode by hand: decks are decks, memory earns 1, a guess -1/2."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.reference_ import ReferenceBackend
from fastmaze.specs import make_spec
from tests.backends.population import Population
from tests.tasks.playing import assert_mean, make_env, play, returns, uniform


def suits_shown(env: Any, seed: int) -> list[int]:
    """Suits of all cards in the order in which they are dealt."""
    shown = [env.reset(seed)]
    for _ in range(env.spec.cards - 1):
        shown.append(env.step(0)[0])
    return [int(np.argmax(obs[-4:])) for obs in shown]


@pytest.mark.parametrize("task", ["RepeatFirst", "Autoencode"])
def test_a_deck_has_as_many_cards_of_each_suit(task: str) -> None:
    """Drawn without replacement, in an order that is even and without pattern."""
    env = make_env(task, decks=2)
    decks = np.array([suits_shown(env, seed) for seed in range(250)])
    for deck in decks[:10]:
        assert Counter(deck.tolist()) == dict.fromkeys(range(4), 26)
    # Any place holds any suit as often, four standard errors; 416 cells: five.
    share = np.array([(decks == suit).mean(0) for suit in range(4)])
    assert abs(share - 0.25).max() < 5 * (3 / 16 / 250) ** 0.5
    # Neighbours are alike a little less often than a quarter: 25 of the other 103.
    alike = (decks[:, 1:] == decks[:, :-1]).mean()
    assert abs(alike - 25 / 103) < 4 * (3 / 16 / decks[:, 1:].size) ** 0.5


def test_repeat_first_step_by_step() -> None:
    env = make_env("RepeatFirst")
    first = env.reset(3)
    suit = int(np.argmax(first))
    assert first.tolist() == np.eye(4)[suit].tolist()
    for t in range(1, 52):
        obs, reward, done = env.step(suit if t % 2 else (suit + 1) % 4)
        assert reward == (1 / 51 if t % 2 else -1 / 51)
        assert obs.sum() == 1
        assert done == (t == 51)
    assert env.statistics().episode_return == 1 / 51
    assert not env.statistics().success


def test_autoencode_step_by_step() -> None:
    """51 steps to watch, the last of which says play; 52 to name, last card first."""
    env = make_env("Autoencode")
    shown = [env.reset(4)]
    for t in range(1, 52):
        obs, reward, done = env.step(0)
        shown.append(obs)
        assert (reward, done) == (0, False)
        assert obs[:2].tolist() == ([0, 1] if t < 51 else [1, 0])
    suits = [int(np.argmax(obs[2:])) for obs in shown]
    for k, suit in enumerate(reversed(suits)):
        wrong = k == 7
        obs, reward, done = env.step((suit + wrong) % 4)
        assert reward == (-1 / 52 if wrong else 1 / 52)
        assert obs.tolist() == [1, 0, 1, 0, 0, 0]  # in play, no card is shown
        assert done == (k == 51)
    assert env.statistics().episode_return == 50 / 52
    assert not env.statistics().success


ORACLES = {
    "RepeatFirst": lambda env: env.first,
    "Autoencode": lambda env: (
        env.dealt[2 * env.spec.cards - 2 - env.t] if env.t >= env.spec.cards - 1 else 0
    ),
}


@pytest.mark.parametrize("task", ["RepeatFirst", "Autoencode"])
def test_returns(task: str) -> None:
    """The oracle earns 1 in every episode; a guesser is right once in four, which makes -1/2."""
    env = make_env(task)
    for seed in range(10):
        assert abs(play(env, ORACLES[task], seed) - 1) < 1e-9
        assert env.statistics().success
        assert env.statistics().episode_return == 1
    assert_mean(returns(env, uniform(4), 150), -0.5)


@pytest.mark.parametrize("task", ["RepeatFirst", "Autoencode"])
@pytest.mark.parametrize("decks", [1, 3])
def test_whole_episodes_in_the_core(task: str, decks: int) -> None:
    """The property tests are too short to play a deck back."""
    spec = make_spec(task, decks=decks)
    steps = spec.episode_length + 5
    actions = np.random.default_rng(0).integers(0, 4, (steps, 2))
    native, reference = (
        Population(make, spec, 2, "SameStep") for make in (NativeBackend, ReferenceBackend)
    )
    assert native.record(actions) == reference.record(actions)
