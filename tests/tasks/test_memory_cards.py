"""Memory Cards' rules by hand, and what knowing, remembering and guessing earn."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.reference.memory_cards import MemoryCards
from fastmaze.specs import make_spec


def test_an_episode_step_by_step() -> None:
    env = MemoryCards(make_spec("MemoryCards", pairs=2, episode_length=20))
    deal = [2, 1, 1, 2]
    obs = env.reset(3, env.spec.encode_context("deal", deal))

    def hidden_but(shown: int, gone: set[int]) -> list[int]:
        return [3 if i in gone else deal[i] if i == shown else 0 for i in range(4)]

    np.testing.assert_array_equal(obs, hidden_but(env.shown, set()))
    first, partner = env.shown, {0: 3, 3: 0, 1: 2, 2: 1}
    other = next(i for i in range(4) if i not in (first, partner[first]))
    for wrong in (first, other):  # the card itself; one of another number
        first_shown = env.shown
        wrong = first_shown if wrong == first else next(
            i for i in range(4) if i not in (first_shown, partner[first_shown])
        )  # fmt: skip
        obs, reward, done = env.step(wrong)
        assert (reward, done) == (-1.0, False)
        np.testing.assert_array_equal(obs, hidden_but(env.shown, set()))
    gone = {env.shown, partner[env.shown]}
    obs, reward, done = env.step(partner[env.shown])
    assert (reward, done) == (0.0, False)
    np.testing.assert_array_equal(obs, hidden_but(env.shown, gone))
    assert env.shown not in gone
    obs, reward, done = env.step(min(gone))  # a card that is gone
    assert (reward, done) == (-1.0, False)
    obs, reward, done = env.step(partner[env.shown])
    assert (reward, done) == (0.0, True)
    np.testing.assert_array_equal(obs, [3] * 4)
    assert env.statistics()[:3] == (-3.0, 5, True)


def test_time_runs_out() -> None:
    env = MemoryCards(make_spec("MemoryCards", pairs=3, episode_length=4))
    env.reset(0)
    outcomes = [env.step(env.shown)[1:] for _ in range(4)]
    assert outcomes == [(-1.0, False)] * 3 + [(-1.0, True)]
    assert env.statistics()[:3] == (-4.0, 4, False)


def test_who_knows_the_deal_earns_all() -> None:
    """0, the most that there is, in p steps."""
    env = MemoryCards(make_spec("MemoryCards"))
    for seed in range(20):
        env.reset(seed)
        for step in range(5):
            partners = (
                i for i in range(10) if i != env.shown and env.deal[i] == env.deal[env.shown]
            )
            _, reward, done = env.step(next(partners))
            assert (reward, done) == (0.0, step == 4)
        assert env.statistics()[:3] == (0.0, 5, True)


def expected_of_a_guesser(pairs: int, length: int) -> float:
    """Each choice is right with chance 1/2p, whatever is left; the game ends with p of them."""
    right = 1 / (2 * pairs)
    goes_on = (
        sum(math.comb(t, k) * right**k * (1 - right) ** (t - k) for k in range(pairs))
        for t in range(length)
    )
    return -(1 - right) * sum(goes_on)


@pytest.mark.parametrize(("pairs", "length"), [(5, 50), (1, 50), (2, 7)])
def test_guessing(pairs: int, length: int) -> None:
    """The mean return of random choices is a sum of binomial chances."""
    n = 4096
    envs = fastmaze.make_vec(
        "MemoryCards", num_envs=n, pairs=pairs, episode_length=length, autoreset_mode="SameStep"
    )
    envs.reset(seed=4)
    generator = np.random.default_rng(1)
    returns = np.full(n, np.nan)
    for _ in range(length):
        info = envs.step(generator.integers(0, 2 * pairs, n))[4]
        if "final_info" in info:
            ended = info["_final_info"] & np.isnan(returns)
            returns[ended] = info["final_info"]["episode_return"][ended]
    error = 4 * returns.std() / n**0.5
    assert abs(returns.mean() - expected_of_a_guesser(pairs, length)) < error


def remembering(obs: np.ndarray, known: dict[int, set[int]], generator: Any) -> int:
    """Partner of the card that shows if it was seen, else any other card not seen yet."""
    gone = len(obs) / 2 + 1
    shown = int(np.flatnonzero((obs > 0) & (obs < gone))[0])
    known.setdefault(int(obs[shown]), set()).add(shown)
    partner = known[int(obs[shown])] - {shown}
    if partner:
        return partner.pop()
    seen = set().union(*known.values())
    return int(generator.choice([i for i in range(len(obs)) if obs[i] != gone and i not in seen]))


def test_remembering_pays() -> None:
    """Who remembers every card solves each game, and earns far more than a guesser."""
    env = MemoryCards(make_spec("MemoryCards"))
    generator = np.random.default_rng(0)
    returns = []
    for seed in range(60):
        obs, done, known = env.reset(seed), False, {}
        while not done:
            obs, _, done = env.step(remembering(obs, known, generator))
        assert env.statistics().success
        returns.append(env.statistics().episode_return)
    assert np.mean(returns) > expected_of_a_guesser(5, 50) + 15
    assert max(returns) < 0


def test_deals_and_cards_are_even() -> None:
    """Each place gets each number, and each place shows first, about as often as the others."""
    env = MemoryCards(make_spec("MemoryCards", pairs=3))
    env.reset(0)
    dealt, shown = np.zeros((6, 3)), np.zeros(6)
    for _ in range(900):
        for place, number in enumerate(env.deal):
            dealt[place, number - 1] += 1
        shown[env.shown] += 1
        env.reset()
    assert abs(dealt - 300).max() < 4 * (900 * 2 / 9) ** 0.5
    assert abs(shown - 150).max() < 4 * (900 * 5 / 36) ** 0.5


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_deal_can_be_set(backend: str) -> None:
    envs = fastmaze.make_vec("MemoryCards", num_envs=2, pairs=2, backend=backend)
    obs, _ = envs.reset(seed=0, options={"deal": [[1, 2, 2, 1], np.array([2, 2, 1, 1])]})
    deals = np.array([[1, 2, 2, 1], [2, 2, 1, 1]])
    np.testing.assert_array_equal(obs[obs > 0], deals[obs > 0])
    assert ((obs > 0).sum(1) == 1).all()
    for deal, error in (([1, 1, 1, 2], ValueError), ([1, 1], ValueError), ("1122", TypeError),
                        ([1, 1, 2, 2.0], TypeError), ([0, 1, 2, 2], ValueError)):  # fmt: skip
        with pytest.raises(error, match=re.escape("options['deal'][1]")):
            envs.reset(options={"deal": [None, deal]})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"pairs": 0}, ValueError, "pairs: expected an integer from 1 to 16"),
        ({"pairs": 17}, ValueError, "pairs"),
        ({"pairs": "5"}, TypeError, "pairs"),
        ({"episode_length": 0}, ValueError, "episode_length"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_spec("MemoryCards", **options)
