"""What a loss is computed from, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Whole episodes, shorter ones padded at the end."""

    obs: Tensor
    """float32 [B, T + 1, D], or uint8 [B, T + 1, channels, rows, columns]."""
    actions: Tensor
    """int64 [B, T]."""
    rewards: Tensor
    """float32 [B, T]."""
    terminated: Tensor
    """bool [B, T]: the episode ends with this step, and no value follows."""
    mask: Tensor
    """bool [B, T]: False for padding."""


class Loss(NamedTuple):
    """The loss and what one likes to watch of it: float32 scalars, the rest without gradient."""

    loss: Tensor
    q_mean: Tensor
    """Mean predicted value of the actions taken."""
    target_mean: Tensor
    """Mean target."""
    entropy: Tensor | None = None
    """Mean entropy of the policy, in nats; None where there is none."""


def step_weights(mask: Tensor, edge_share: float) -> Tensor:
    """What each step's loss counts for; an episode's weights add up to its length.

    Args:
        mask: float32 [B, T], 0 for padding.
        edge_share: share of an episode that its first and its last step have each, at least 1 / T,
            which all others have; 0 for that.

    Returns:
        float32 [B, T].
    """
    if not edge_share:
        return mask
    length = mask.sum(dim=1, keepdim=True)  # [B, 1]
    last = mask.clone()
    last[:, :-1] -= mask[:, 1:]
    edge = last.clone()
    edge[:, 0] = mask[:, 0]
    share = (1 / length).clamp(min=edge_share)  # never less than the other steps' own
    inner = (1 - 2 * share) / (length - 2).clamp(min=1.0)
    weights = length * (edge * share + (mask - edge) * inner)
    return torch.where(length > 2, weights, mask)
