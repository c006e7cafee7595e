"""Protects rollouts that count tokens: they must be what a cache of all steps computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import fastmaze
from fastmaze.models.gpt import GPT, KeyValueCache
from fastmaze.models.token_counts import MOST_TOKENS, TokenCounts
from fastmaze.specs import NUM_ACTIONS
from fastmaze.training.config import TrainConfig
from fastmaze.training.network import build_network

WIDTH = 16


def model(**changes: Any) -> GPT:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "width": WIDTH, "num_layers": 1, "num_heads": 4, "positions": "none", "max_length": 300,
        "dropout": 0.0, "attention_std": 0.3, "query_std": 0.5,
    }  # fmt: skip
    return GPT(WIDTH, **options | changes)


def tokens(kinds: int, batch_size: int, length: int) -> Tensor:
    """Sequences of so many different tokens, float32 [B, T, F]."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(kinds, WIDTH, generator=generator)
    return table[torch.randint(kinds, (batch_size, length), generator=generator)]


def walk(gpt: GPT, x: Tensor) -> tuple[Tensor, Any]:
    """Steps through sequences: outputs float32 [B, T, F], and the last state."""
    state: Any = gpt.initial_state(len(x), x.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        y, state = gpt.step(x[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("kinds", [1, 5, MOST_TOKENS])
def test_counts_are_what_attention_over_all_steps_is(kinds: int) -> None:
    gpt, x = model(), tokens(kinds, 7, 150)
    counted, state = walk(gpt, x)
    assert isinstance(state, TokenCounts)
    assert state.counts.shape == (7, kinds)
    assert (state.counts.sum(1) == 150).all()
    with torch.no_grad():
        torch.testing.assert_close(counted, gpt(x), rtol=1e-5, atol=1e-5)
    cached, cache = walk(model(attention_impl="sdpa"), x)
    assert isinstance(cache, KeyValueCache)
    torch.testing.assert_close(counted, cached, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kinds", [MOST_TOKENS + 1, 10_000], ids=["late", "at-once"])
def test_too_many_tokens_go_on_with_a_cache(kinds: int) -> None:
    gpt, x = model(), tokens(kinds, 3 if kinds < 100 else 40, 100)
    outputs, state = walk(gpt, x)
    assert isinstance(state, KeyValueCache)
    assert state.length == 100
    with torch.no_grad():
        torch.testing.assert_close(outputs, gpt(x), rtol=1e-5, atol=1e-5)


def test_equal_tokens_are_one_in_whatever_row_they_come() -> None:
    x = tokens(3, 33, 4)
    state = TokenCounts(33, 4)
    rows = state.unseen(x[:, 0])
    assert rows is not None
    assert len(rows) == len(x[:, 0].unique(dim=0))
    parts = torch.zeros(len(rows), 1, 4)
    state.add(rows, parts, parts, parts)
    again = state.unseen(x[:, 0].flip(0))
    assert again is not None
    assert len(again) == 0


@pytest.mark.parametrize(
    "changes",
    [{"num_layers": 2}, {"positions": "sinusoidal"}, {"positions": "rotary"}, {"dropout": 0.1},
     {"attention_impl": "reference"}],
    ids=["layers", "sines", "rotary", "dropout", "asked"],
)  # fmt: skip
def test_what_depends_on_more_than_the_token_is_cached(changes: dict[str, Any]) -> None:
    assert isinstance(model(**changes).initial_state(2, 10), KeyValueCache)
    assert isinstance(model().initial_state(2, 10), TokenCounts)
    assert isinstance(model(dropout=0.1).eval().initial_state(2, 10), TokenCounts)


def test_a_maze_shows_few_tokens_at_any_length() -> None:
    seen = []
    for length in (20, 200):
        network = build_network(TrainConfig(length=length))
        envs = fastmaze.make_vec("PassiveTMaze", num_envs=8, length=length)
        obs = envs.reset(seed=0)[0]
        state: Any = network.initial_state(8, length + 1)
        action = torch.full((8,), NUM_ACTIONS)  # none before the first step
        for t in range(length):
            _, state = network.step(torch.from_numpy(obs), action, state)
            action = torch.full((8,), t % 2 * 2)  # right, left, right, …
            obs = envs.step(action.numpy())[0]
        seen.append(state.counts.shape[1])
        envs.close()
    assert seen[0] == seen[1] <= 8
