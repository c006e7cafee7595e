"""Where a transformer looks: attention's weights, which the kernels never write down."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fastmaze.models.gpt import GPT, Block, rotate


@torch.no_grad()
def last_step_weights(encoder: GPT, x: Tensor) -> Tensor:
    """How much the last step attends to each step, in every block and head, without dropout.

    Each block is given what the ones before it make of x; of its weights, T by T, only the last row
    is computed. In evaluation mode these are the weights that the output comes from.

    Args:
        encoder: the transformer, in evaluation mode.
        x: float32 [B, T, E], embedded steps, the first of which begins an episode.

    Returns:
        float32 [blocks, B, H, T]; each row of T sums to 1.
    """
    if encoder.training:
        raise ValueError("encoder: expected one in evaluation mode, got one in training mode")
    inputs: list[Tensor] = []

    def keep(block: nn.Module, args: tuple[Tensor]) -> None:
        inputs.append(args[0])

    hooks = [block.register_forward_pre_hook(keep) for block in encoder.blocks]
    try:
        encoder(x)
    finally:
        for hook in hooks:
            hook.remove()
    blocks = [cast(Block, block) for block in encoder.blocks]
    return torch.stack([block_weights(*pair) for pair in zip(blocks, inputs, strict=True)])


def block_weights(block: Block, x: Tensor) -> Tensor:
    """One block's weights of the last step: from its input, float32 [B, T, F], to [B, H, T]."""
    q, k, _ = (part.transpose(1, 2) for part in block.heads(x))  # [B, H, T, D]
    q = q[:, :, -1:]  # [B, H, 1, D]
    if block.rotary:
        q, k = rotate(q, x.shape[1] - 1), rotate(k, 0)
    scores = (q @ k.mT)[:, :, 0] * block.head_dim**-0.5  # [B, H, T]
    weights: Tensor = scores.softmax(dim=-1)
    return weights
