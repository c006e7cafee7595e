"""From an image and the action before it to the memory model's input."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from fastmaze.models.embedders import embed_action

CHANNELS: Final = (8, 16)
"""Of the convolutions' outputs."""

KERNEL: Final = 2
"""Rows and columns of each convolution's kernel; it moves by one pixel."""


class PixelEmbedder(nn.Module):
    """Embeds a small image by two convolutions and a linear layer (Ni et al. 2023, appendix).

    ```
    uint8 [3, 5, 5] / 255 - offset ─ 2×2, ReLU ─ [8, 4, 4] ─ 2×2, ReLU ─ [16, 3, 3] ─ linear ─ [E]
    ```

    Args:
        obs_shape: (channels, rows, columns).
        num_actions: A, actions there are.
        obs_width: width of the image's part.
        action_width: width of the previous action's part, a linear layer and a ReLU; 0 to leave
            it out, as the published code does.
        scale: of the initial weights that make the output, against PyTorch's default.
        offset: subtracted from pixels of 0 to 1: that of the floor lets the few that are no floor
            stand out.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        num_actions: int,
        obs_width: int,
        action_width: int,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        self.obs_shape, self.num_actions, self.offset = obs_shape, num_actions, offset
        self.output_dim = obs_width + action_width
        channels, rows, columns = obs_shape
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *CHANNELS)):
            layers += [nn.Conv2d(before, after, KERNEL), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        shrunk = len(CHANNELS) * (KERNEL - 1)
        self.obs = nn.Linear(CHANNELS[-1] * (rows - shrunk) * (columns - shrunk), obs_width)
        self.action = nn.Linear(num_actions, action_width) if action_width else None
        with torch.no_grad():
            for layer in (self.obs, self.action):
                for parameter in () if layer is None else layer.parameters():
                    parameter.mul_(scale)

    def forward(self, obs: Tensor, prev_action: Tensor) -> Tensor:
        """Embeds steps.

        Args:
            obs: uint8 [..., channels, rows, columns].
            prev_action: int64 [...], the action that led here; `num_actions` (none) where an
                episode begins.

        Returns:
            float32 [..., E], E = obs_width + action_width.
        """
        images = obs.reshape(-1, *self.obs_shape).to(self.obs.weight.dtype) / 255
        if self.offset:
            images = images - self.offset
        seen: Tensor = self.obs(self.convolutions(images).flatten(1))  # [B * T, obs_width]
        seen = seen.view(*prev_action.shape, -1)
        if self.action is None:
            return seen
        return torch.cat([seen, torch.relu(embed_action(self.action, prev_action))], dim=-1)
