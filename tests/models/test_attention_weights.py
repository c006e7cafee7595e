"""Protects the picture of attention: its weights are those that the model's output comes from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fastmaze.models.attention_weights import block_weights, last_step_weights
from fastmaze.models.gpt import GPT, rotate

B, T, E = 3, 17, 12


def gpt(positions: str, num_layers: int = 2) -> GPT:
    torch.manual_seed(0)
    options: dict[str, Any] = dict(width=32, num_layers=num_layers, num_heads=4, max_length=T)
    model = GPT(E, positions=positions, dropout=0.1, **options)  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_a_blocks_weights_are_the_softmax_written_out(positions: str) -> None:
    """From the projection's own numbers, one pair of steps at a time."""
    block: Any = gpt(positions).blocks[0]
    x = torch.randn(B, T, 32)
    weights = block_weights(block, x)
    assert weights.shape == (B, 4, T)
    F, D = 32, 8
    projected = block.norm1(x) @ block.qkv.weight.T + block.qkv.bias  # [B, T, 3F]
    for head in range(4):
        q = projected[..., head * D : (head + 1) * D]
        k = projected[..., F + head * D : F + (head + 1) * D]
        if positions == "rotary":
            q, k = (rotate(part[:, None], 0)[:, 0] for part in (q, k))
        scores = torch.stack([(q[:, -1] * k[:, t]).sum(-1) for t in range(T)], dim=-1) / D**0.5
        expected = scores.exp() / scores.exp().sum(-1, keepdim=True)
        torch.testing.assert_close(weights[:, head], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("positions", ["none", "learned", "rotary"])
def test_the_models_output_comes_from_these_weights(positions: str) -> None:
    """The last step of each block is made again from its weights and values: the same output."""
    model = gpt(positions)
    x = torch.randn(B, T, E)
    with torch.no_grad():
        weights = last_step_weights(model, x)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, B, 4))
        h = model._with_positions(model.embed(x), 0, T)
        for i, module in enumerate(model.blocks):
            block: Any = module
            v = block.heads(h)[2]  # [B, T, H, D]
            attended = torch.einsum("bht,bthd->bhd", weights[i], v).flatten(1)
            remade = block.rest(h[:, -1], attended)
            h = block(h)
            torch.testing.assert_close(remade, h[:, -1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.final_norm(remade), model(x)[:, -1], rtol=1e-4, atol=1e-4)


def test_nothing_is_left_on_the_model() -> None:
    model = gpt("none", num_layers=1)
    last_step_weights(model, torch.randn(1, 1, E))
    assert not any(block._forward_pre_hooks for block in model.blocks)
    with pytest.raises(ValueError, match="encoder: expected one in evaluation mode"):
        last_step_weights(model.train(), torch.randn(1, 1, E))
