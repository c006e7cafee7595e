"""From one step of an episode, observation and previous action, to the memory model's input."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StepEmbedder(nn.Module):
    """Embeds the observation and the action before it, side by side.

    Each part is a linear layer and a ReLU; rewards are no input (Ni et al. 2023, appendix).

    Args:
        obs_dim: entries of an observation.
        num_actions: A, actions there are.
        obs_width: width of the observation's part.
        action_width: width of the previous action's part; 0 to leave it out.
        scale: of the initial weights, against PyTorch's default. What a step is stays clear beside
            what attention adds to it when this is larger.
    """

    def __init__(
        self,
        obs_dim: int,
        num_actions: int,
        obs_width: int,
        action_width: int,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.output_dim = obs_width + action_width
        self.num_actions = num_actions
        self.obs = nn.Linear(obs_dim, obs_width)
        self.action = nn.Linear(num_actions, action_width) if action_width else None
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(scale)

    def forward(self, obs: Tensor, prev_action: Tensor) -> Tensor:
        """Embeds steps.

        Args:
            obs: float32 [..., D], D possibly over several dimensions.
            prev_action: int64 [...], the action that led here; `num_actions` (none) where an
                episode begins.

        Returns:
            float32 [..., E], E = obs_width + action_width.
        """
        parts = [self.obs(obs.reshape(*prev_action.shape, -1))]
        if self.action is not None:
            parts.append(embed_action(self.action, prev_action))
        return torch.relu(torch.cat(parts, dim=-1))


def embed_action(layer: nn.Linear, action: Tensor) -> Tensor:
    """A linear layer of one-hot actions, int64 [...] from 0 to A, A for none: float32 [..., E]."""
    # A linear layer of a one-hot action is a row of its weight: looked up, not multiplied.
    # No action is the zero vector, as in the published code.
    rows = nn.functional.pad(layer.weight.t(), (0, 0, 0, 1))
    return nn.functional.embedding(action, rows) + layer.bias
