"""Linear attention: `fastmaze train --model examples/linear_attention.py:LinearAttention`.

Katharopoulos et al. 2020, "Transformers are RNNs": with a feature map φ in place of the softmax,
attention over all steps so far is a sum that a step adds to, S ← S + φ(k) vᵀ and z ← z + φ(k).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmaze.training import TrainConfig, evaluate, train


class Block(nn.Module):
    """Linear attention over one head, and an MLP, each added to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """X [B, T, F], all steps of an episode; or its next ones, after `state` [B, F, F + 1]."""
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k = F.elu(q) + 1, F.elu(k) + 1  # φ
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)  # the last column sums φ(k)
        # Within these steps the T x T way, which a short episode does fastest.
        y = (q @ k.mT).tril() @ v
        if state is not None:
            y = y + q @ state
        after = k.mT @ v if state is None else state + k.mT @ v
        x = x + y[..., :-1] / y[..., -1:]
        return x + self.mlp(x), after


class LinearAttention(nn.Module):
    """Blocks of linear attention, without positions."""

    def __init__(self, input_dim: int, *, width: int, num_layers: int, max_length: int) -> None:
        super().__init__()
        self.output_dim = width
        self.embed = nn.Linear(input_dim, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        """Whole episodes: float32 [B, T, E] to float32 [B, T, F]."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)[0]
        return x

    def initial_state(self, batch_size: int, max_length: int) -> list[Tensor]:
        """Each block's sums before the first step."""
        width = self.output_dim
        zeros = self.embed.weight.new_zeros(batch_size, width, width + 1)
        return [zeros for _ in self.blocks]

    @torch.no_grad()
    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One step: float32 [B, E] to float32 [B, F], and the next state."""
        x, after = self.embed(x)[:, None], []
        for block, before in zip(self.blocks, state, strict=True):
            x, sums = block(x, before)
            after.append(sums)
        return x[:, 0], after


if __name__ == "__main__":
    config = TrainConfig(length=10, model=f"{__file__}:LinearAttention")
    print(f"success {evaluate(train(config).run_dir).success:.3f}")
