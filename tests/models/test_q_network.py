"""Protects the Q-network: its inputs, its head, and that any memory model can be plugged in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastmaze.models.embedders import StepEmbedder
from fastmaze.models.gpt import GPT
from fastmaze.models.q_network import QNetwork

B, T, D, A = 4, 11, 2, 4


class RunningMean(nn.Module):
    """The simplest memory model: the mean of all that was seen."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.output_dim = input_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]

    def initial_state(self, batch_size: int, max_length: int) -> tuple[Tensor, int]:
        return torch.zeros(batch_size, self.output_dim), 0

    def step(self, x: Tensor, state: tuple[Tensor, int]) -> tuple[Tensor, tuple[Tensor, int]]:
        total, n = state[0] + x, state[1] + 1
        return total / n, (total, n)


def network(encoder: str = "gpt") -> QNetwork:
    embedder = StepEmbedder(D, A, 10, 6)
    model: nn.Module = RunningMean(16)
    if encoder == "gpt":
        model = GPT(
            16,
            width=16,
            num_layers=1,
            num_heads=1,
            positions="sinusoidal",
            max_length=T,
            dropout=0.0,
        )
    return QNetwork(embedder, model, A, (32,))  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ["gpt", "running-mean"])
def test_stepping_through_an_episode_gives_the_values_of_the_whole(encoder: str) -> None:
    net = network(encoder)
    obs, actions = torch.randn(B, T, D), torch.randint(0, A, (B, T - 1))
    whole = net(obs, actions)
    state, previous = net.initial_state(B, T), torch.full((B,), A)
    for t in range(T):
        q, state = net.step(obs[:, t], previous, state)
        torch.testing.assert_close(q, whole[:, t], rtol=1e-4, atol=1e-6)
        previous = actions[:, t] if t < T - 1 else previous
    assert whole.shape == (B, T, A)


def test_each_action_is_seen_from_the_next_step_on() -> None:
    net = network("running-mean")
    obs, actions = torch.randn(1, T, D), torch.zeros(1, T - 1, dtype=torch.int64)
    other = actions.clone()
    other[0, 5] = 3
    changed = (net(obs, actions) != net(obs, other)).any(-1)[0]
    assert changed.tolist() == [False] * 6 + [True] * 5


def test_the_embedder_multiplies_a_one_hot_action() -> None:
    embedder = StepEmbedder(D, A, 10, 6)
    obs = torch.randn(A + 1, D)
    embedded = embedder(obs, torch.arange(A + 1))
    # The last row, no action, is the zero vector.
    one_hot = torch.cat([torch.eye(A), torch.zeros(1, A)])
    expected = torch.cat([embedder.obs(obs), embedder.action(one_hot)], -1).relu()
    torch.testing.assert_close(embedded, expected)


def test_all_actions_start_out_alike() -> None:
    q = network()(torch.randn(B, T, D), torch.randint(0, A, (B, T - 1)))
    assert q.abs().max() < 0.05


def test_an_encoder_that_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"encoder: expected a torch\.nn\.Module, got object"):
        QNetwork(StepEmbedder(D, A, 2, 2), object(), A)  # type: ignore[arg-type]
