"""Protects states of tensors alone: the same outputs, each sequence with a length of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastmaze.models.attention import attend_to_cache
from fastmaze.models.encoder import DeviceStepper
from fastmaze.models.gpt import GPT, POSITIONS
from fastmaze.models.lstm import LSTM

B, T, E = 3, 9, 12
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def gpt(positions: Any) -> GPT:
    torch.manual_seed(0)
    model = GPT(E, width=32, num_layers=2, num_heads=2, positions=positions, max_length=T,
                dropout=0.0)  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.to(DEVICE).eval()


def stepped(model: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Outputs [B, T, F] of stepping through x [B, T, E], and the state after it."""
    outputs = []
    for t in range(x.shape[1]):
        y, state = model.step(x[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_sequence_has_its_own_length(positions: str) -> None:
    """Begun 0, 2 and 5 steps ago, each goes on as it would alone; then all begin anew."""
    model, x = gpt(positions), torch.randn(B, T, E, device=DEVICE)
    whole, _ = stepped(model, x, model.initial_state(B, T))
    ages = [0, 2, 5]
    state = model.device_state(B, T)
    stepped(model, x[:, : max(ages)], state)
    state.length.copy_(torch.tensor(ages))
    for later in range(3):
        now = [age + later for age in ages]
        y, _ = model.step(x[range(B), now], state)
        torch.testing.assert_close(y, whole[range(B), now], rtol=1e-4, atol=1e-5)
        assert state.length.tolist() == [age + 1 for age in now]
    again, _ = stepped(model, x, model.device_state(B, T, state))
    torch.testing.assert_close(again, whole, rtol=1e-4, atol=1e-5)


def test_learned_positions_must_reach_as_far_as_the_cache() -> None:
    """Asked before any step, for no step's number is known here."""
    model = gpt("learned")
    with pytest.raises(ValueError, match="learned ones end at 9 steps, got step 10"):
        model.step(torch.randn(B, E, device=DEVICE), model.device_state(B, T + 1))


def test_the_lstms_state_is_set_back_in_place() -> None:
    torch.manual_seed(0)
    model = LSTM(E, width=8, num_layers=2, init="chrono", memory_length=T).to(DEVICE)
    x = torch.randn(B, T, E, device=DEVICE)
    state = model.device_state(B, T)
    assert state[0].data_ptr() != state[1].data_ptr()
    first, after = stepped(model, x, state)
    again = model.device_state(B, T, after)
    assert [part.data_ptr() for part in again] == [part.data_ptr() for part in after]
    torch.testing.assert_close(stepped(model, x, again)[0], first, rtol=0, atol=0)
    assert isinstance(model, DeviceStepper)


def test_dropout_over_lengths_on_the_device() -> None:
    """Drops weights of held slots, scales the rest, and reads nothing past the end."""
    H, D, p = 4, T, 0.5
    torch.manual_seed(0)
    q, k = torch.randn(2, B, H, D, device=DEVICE)
    keys, values = torch.full((2, B, H, T, D), torch.nan, device=DEVICE)
    lengths = torch.tensor([0, 3, T - 1], device=DEVICE)
    one_hot = torch.eye(T, device=DEVICE)
    for n, length in enumerate(lengths.tolist()):
        keys[n, :, :length] = torch.randn(H, length, D, device=DEVICE)
        values[n, :, :length] = one_hot[:length]  # the output is the weights
    v = one_hot[lengths][:, None].expand(B, H, D)
    caches = [(keys.clone(), values.clone()) for _ in range(2)]
    weights = attend_to_cache(q, k, v, *caches[0], lengths)
    dropped = attend_to_cache(q, k, v, *caches[1], lengths, dropout_p=p)
    for ours, theirs in zip(caches[1], caches[0], strict=True):
        assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))
    held = torch.arange(T, device=DEVICE) <= lengths[:, None]  # [B, T]
    assert not dropped[~held[:, None].expand(B, H, T)].any()
    share = (dropped == 0)[held[:, None].expand(B, H, T)].float().mean()
    assert 0.2 < share < 0.8  # 56 weights
    torch.testing.assert_close(dropped, (weights / (1 - p)).where(dropped != 0, 0))
