"""Protects rollouts of long episodes: 2,000 cached steps equal one pass over the whole sequence.

Sequences of one batch have different lengths, as episodes do that end or begin at different times.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastmaze.models.gpt import GPT, KeyValueCache
from fastmaze.models.lstm import LSTM

T, E, F = 2_000, 16, 32
LENGTHS = (2_000, 1_337, 640, 1)


def gpt(positions: str) -> GPT:
    return GPT(
        E,
        width=F,
        num_layers=1,
        num_heads=2,
        positions=positions,  # type: ignore[arg-type]
        max_length=T,
        dropout=0.0,
    )


def lstm() -> LSTM:
    return LSTM(E, width=F, num_layers=1, init="chrono", memory_length=T)


ENCODERS = {
    "gpt, no positions": lambda: gpt("none"),
    "gpt, sinusoidal positions": lambda: gpt("sinusoidal"),
    "gpt, rotary positions": lambda: gpt("rotary"),
    "lstm": lstm,
}


def unlike_initial(model: nn.Module) -> nn.Module:
    """Weights large enough for attention to pick and for gates to move."""
    for name, parameter in model.named_parameters():
        if "norm" not in name and parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.5 * parameter.shape[1] ** -0.5)
    return model.eval()


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return unlike_initial(ENCODERS[request.param]())


def padded() -> tuple[Tensor, Tensor]:
    """Sequences padded with rubbish, float32 [B, T, E], and which steps count, bool [B, T]."""
    x = torch.randn(len(LENGTHS), T, E)
    within = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    x[~within] = 100.0
    return x, within


@torch.no_grad()
def test_cached_steps_equal_one_pass_over_padded_sequences(encoder: nn.Module) -> None:
    torch.manual_seed(1)
    x, within = padded()
    whole = encoder(x)  # [B, T, F]
    state = encoder.initial_state(len(x), T)
    stepped = torch.empty_like(whole)
    for t in range(T):
        stepped[:, t], state = encoder.step(x[:, t], state)
    assert whole[within].std() > 0.02
    torch.testing.assert_close(stepped[within], whole[within], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_sequences_company_in_the_batch_makes_no_difference(encoder: nn.Module) -> None:
    torch.manual_seed(2)
    x, _ = padded()
    whole = encoder(x)
    for b, length in enumerate(LENGTHS):
        alone = encoder(x[b : b + 1, :length])[0]
        torch.testing.assert_close(alone, whole[b, :length], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
@torch.no_grad()
def test_sequences_of_different_ages_share_a_cache(positions: str) -> None:
    """Rows whose episode ends begin the next in the same cache, while the others go on."""
    torch.manual_seed(3)
    model = unlike_initial(gpt(positions))
    assert isinstance(model, GPT)
    x = torch.randn(len(LENGTHS), T, E)
    starts = torch.tensor([0, T - 1_337, T - 640, T - 1])  # the last episode of each row
    state = model.device_state(len(x), T)
    assert isinstance(state, KeyValueCache)
    assert isinstance(state.length, Tensor)
    stepped = torch.empty(len(x), T, F)
    for t in range(T):
        state.length.masked_fill_(starts == t, 0)
        stepped[:, t], state = model.step(x[:, t], state)
    assert state.length.tolist() == list(LENGTHS)
    for b, start in enumerate(starts.tolist()):
        whole = model(x[b : b + 1, start:])[0]
        torch.testing.assert_close(stepped[b, start:], whole, rtol=0, atol=1e-5)
