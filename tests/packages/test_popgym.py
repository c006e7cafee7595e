"""The package popgym, episode by episode, beside RepeatFirst and Autoencode."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import fastmaze
from fastmaze.bench import peers
from tests.packages.replaying import load, recorded

pytest.importorskip("popgym", reason="popgym is not installed: pip install popgym")


def stack(deck: Any, suits: list[int]) -> None:
    """Has the package deal cards of these suits, in this order, from the next reset on."""
    piles = [[i for i, suit in enumerate(deck.suits_idx) if suit == s] for s in range(4)]
    order = np.array([piles[suit].pop() for suit in suits])
    assert sorted(order) == list(range(deck.num_cards))
    shuffle = type(deck).reset

    def reset(**options: Any) -> None:
        shuffle(deck, **options)
        deck.idx = order[::-1].copy()  # it deals from the end

    deck.reset = reset


@pytest.mark.parametrize("decks", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("task", "module"), [("RepeatFirst", "repeat_first"), ("Autoencode", "autoencode")]
)
def test_replay(task: str, module: str, decks: int) -> None:
    if task == "Autoencode" and decks > 3:
        pytest.skip("Autoencode has at most three decks")
    theirs = load(f"popgym.envs.{module}", task, num_decks=decks)
    for seed in range(6):
        seen, actions, rewards, ends = recorded(task, seed, decks=decks)
        stack(theirs.deck, seen[: theirs.deck.num_cards, -4:].argmax(1).tolist())
        told = theirs.reset(seed=seed)[0]
        for t in range(len(seen)):
            flat = gymnasium.spaces.flatten(theirs.observation_space, told)
            np.testing.assert_array_equal(flat, seen[t])
            if t == len(actions):
                break
            told, reward, terminated, truncated, _ = theirs.step(actions[t])
            assert np.float32(reward) == np.float32(rewards[t])
            assert (terminated, truncated) == (ends[t], False)
    assert len(actions) == theirs.max_episode_length


@pytest.mark.parametrize("task", ["RepeatFirst", "Autoencode"])
def test_the_benchmark_steps_it(task: str) -> None:
    _, make = peers.PUBLISHED[task]
    step = make(fastmaze.make_vec(task).task_spec, 2, 1)
    for _ in range(120):
        step()
