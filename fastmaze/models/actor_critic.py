"""An actor and twin critics on one memory: embedder, memory model, and three heads.

```
                                    ,─ head: logits of the policy
 obs, actions ─ embedder ─ encoder ─┼─ critics[0]: Q1(h, ·)
                                    '─ critics[1]: Q2(h, ·)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastmaze.models.embedders import StepEmbedder
from fastmaze.models.encoder import SequenceEncoder
from fastmaze.models.pixel_embedder import PixelEmbedder
from fastmaze.models.q_network import QNetwork, mlp


class ActorCriticOutput(NamedTuple):
    """What the heads say at every step."""

    logits: Tensor
    """float32 [B, T, A], of the policy."""
    q: Tensor
    """float32 [2, B, T, A], of both critics."""
    features: Tensor
    """float32 [B, T, F], what they say it of."""


class ActorCritic(QNetwork):
    """A Q-network whose head gives the policy's logits, with two critics beside it.

    Rollouts take steps as with any Q-network: what `step` returns are the logits.

    Args:
        embedder: turns a step into the encoder's input.
        encoder: any `SequenceEncoder`; actor and critics share it.
        num_actions: A.
        head_widths: hidden widths of each head, a ReLU MLP.
        compute_dtype: as for `QNetwork`.
    """

    def __init__(
        self,
        embedder: StepEmbedder | PixelEmbedder,
        encoder: SequenceEncoder,
        num_actions: int,
        head_widths: Sequence[int] = (256, 256),
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(embedder, encoder, num_actions, head_widths, compute_dtype)
        self.head = mlp(encoder.output_dim, head_widths, num_actions, last_range=1e-3)
        self.critics = nn.ModuleList(
            mlp(encoder.output_dim, head_widths, num_actions) for _ in range(2)
        )

    def forward(self, obs: Tensor, actions: Tensor) -> ActorCriticOutput:  # type: ignore[override]
        """What the heads say along whole episodes.

        Args:
            obs: [B, T, …], from the reset on.
            actions: int64 [B, T - 1], the action taken at each observation but the last.
        """
        features = self.features(obs, actions)
        return ActorCriticOutput(self.head(features), self.values(features), features)

    def histories(self, obs: Tensor, actions: Tensor) -> None:
        """None: critics and policy see whole episodes step by step; only rollouts count tokens."""

    def values(self, features: Tensor) -> Tensor:
        """Both critics' action values: from float32 [B, T, F] to float32 [2, B, T, A]."""
        return torch.stack([critic(features) for critic in self.critics])
