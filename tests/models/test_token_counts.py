"""Protects rollouts that count tokens: they must be what a cache of all steps computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastmaze
from fastmaze.models.gpt import GPT, KeyValueCache
from fastmaze.models.histories import MOST_TOKENS
from fastmaze.models.q_network import QNetwork
from fastmaze.models.token_counts import TokenCounts
from fastmaze.specs import NUM_ACTIONS
from fastmaze.training.config import TrainConfig
from fastmaze.training.network import build_network

WIDTH = 16
OPTIONS: dict[str, Any] = {
    "width": WIDTH, "num_layers": 1, "num_heads": 4, "positions": "none", "max_length": 300,
    "dropout": 0.0, "attention_std": 0.3, "query_std": 0.5,
}  # fmt: skip


class Table(nn.Module):
    """An embedder of which token a step is: an observation is its number."""

    output_dim = WIDTH

    def __init__(self, kinds: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.table = nn.Parameter(torch.randn(kinds, WIDTH, generator=generator))

    def forward(self, obs: Tensor, prev_action: Tensor) -> Tensor:
        return self.table[obs[..., 0].long()]


def model(kinds: int = 5, **changes: Any) -> QNetwork:
    torch.manual_seed(0)
    embedder: Any = Table(kinds)
    return QNetwork(embedder, GPT(WIDTH, **OPTIONS | changes), num_actions=4)


def tokens(kinds: int, batch_size: int, length: int) -> Tensor:
    """Sequences of so many different tokens' numbers, float32 [B, T, 1]; stretches of one."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(kinds, (batch_size, length, 1), generator=generator)
    return torch.where(torch.rand(drawn.shape, generator=generator) < 0.7, drawn, 0).float()


def walk(network: QNetwork, obs: Tensor) -> tuple[Tensor, Any]:
    """Steps through sequences: values float32 [B, T, A], and the last state."""
    B, T = obs.shape[:2]
    state, values = network.initial_state(B, T), []
    for t in range(T):
        q, state = network.step(obs[:, t], torch.zeros(B, dtype=torch.int64), state)
        values.append(q)
    return torch.stack(values, dim=1), state


def of_all_steps(network: QNetwork, obs: Tensor) -> Tensor:
    with torch.no_grad():
        return network(obs, torch.zeros(obs.shape[0], obs.shape[1] - 1, dtype=torch.int64))


@pytest.mark.parametrize("kinds", [1, 5, MOST_TOKENS])
def test_counts_are_what_attention_over_all_steps_is(kinds: int) -> None:
    network, obs = model(kinds), tokens(kinds, 7, 150)
    counted, state = walk(network, obs)
    assert isinstance(state, TokenCounts)
    assert state.counts.shape == (7, kinds)
    assert (state.counts.sum(1) == 150).all()
    torch.testing.assert_close(counted, of_all_steps(network, obs), rtol=1e-5, atol=1e-5)
    cached, cache = walk(model(kinds, attention_impl="sdpa"), obs)
    assert isinstance(cache, KeyValueCache)
    torch.testing.assert_close(counted, cached, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kinds", [MOST_TOKENS + 1, 10_000], ids=["late", "at-once"])
def test_too_many_tokens_go_on_with_a_cache(kinds: int) -> None:
    network, obs = model(kinds), tokens(kinds, 3 if kinds < 100 else 60, 100)
    values, state = walk(network, obs)
    assert isinstance(state, KeyValueCache)
    assert state.length == 100
    torch.testing.assert_close(values, of_all_steps(network, obs), rtol=1e-5, atol=1e-5)


def test_sequences_that_have_seen_the_same_are_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = []
    encode = GPT.encode_counts

    def watched(gpt: GPT, prepared: Any, newest: Tensor, counts: Tensor) -> Tensor:
        rows.append(len(newest))
        return encode(gpt, prepared, newest, counts)

    monkeypatch.setattr(GPT, "encode_counts", watched)
    network = model(3)
    obs = torch.tensor([[0, 1, 2, 2], [0, 2, 1, 2], [0, 1, 1, 1]]).float()[..., None]
    values, _ = walk(network, obs)
    assert rows == [1, 2, 3, 2]
    assert torch.equal(values[0, 3], values[1, 3])
    torch.testing.assert_close(values, of_all_steps(network, obs), rtol=1e-5, atol=1e-6)


def test_equal_tokens_are_one_in_whatever_row_they_come() -> None:
    prints = torch.tensor([7, 7, 3, 9, 3])
    state = TokenCounts(GPT(WIDTH, **OPTIONS), 5, 4)
    rows = state.unseen(prints)
    assert rows is not None
    assert prints[rows].tolist() == [7, 3, 9]
    state.add(prints[rows], torch.zeros(3, 2))
    again = state.unseen(prints.flip(0))
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
