"""What a loss is computed from, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


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


def step_weights(mask: Tensor, rewards: Tensor, edge_share: float) -> Tensor:
    """What each step's loss counts for; an episode's weights add up to its length.

    An edge is an episode's first step, its last, and each whose reward is another than that of the
    step before. In a long corridor all others are alike, and these are the few that say what it is
    about: the cue is shown, a turn was wrong, the goal was found.

    Args:
        mask: float32 [B, T], 0 for padding.
        rewards: float32 [B, T].
        edge_share: share of an episode that each edge has, at least 1 / T, which all others have;
            0 for that. All edges together have at most half, unless they are most of its steps.

    Returns:
        float32 [B, T].
    """
    if not edge_share:
        return mask
    # Of an episode that is padding alone, the least that can be divided by.
    length = mask.sum(dim=1, keepdim=True).clamp(min=1.0)  # [B, 1]
    changes = pad(rewards[:, 1:] != rewards[:, :-1], (1, 0), value=True)  # also at the first step
    last = pad(mask[:, 1:] == 0, (0, 1), value=True)
    edge = (changes | last) * mask  # nowhere in the padding
    edges = edge.sum(dim=1, keepdim=True).clamp(min=1.0)  # [B, 1]
    share = (0.5 / edges).clamp(max=edge_share)
    share = torch.maximum(share, 1 / length)  # never less than the other steps' own
    inner = (1 - edges * share) / (length - edges).clamp(min=1.0)
    return length * (edge * share + (mask - edge) * inner)
