"""A GRU as memory model: `fastmaze train --length 10 --model examples/gru.py:GRU`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmaze.training import TrainConfig, evaluate, train


class GRU(nn.Module):
    """`torch.nn.GRU`, biased to remember for about an episode (Tallec and Ollivier 2018)."""

    def __init__(self, input_dim: int, *, width: int, num_layers: int, max_length: int) -> None:
        super().__init__()
        self.output_dim, self.num_layers = width, num_layers
        self.gru = nn.GRU(input_dim, width, num_layers, batch_first=True)
        steps = torch.empty(width).uniform_(1.0, max(2.0, float(max_length)))
        with torch.no_grad():
            for layer in range(num_layers):
                # In torch's order reset, update, new; an update gate near 1 keeps what there is.
                getattr(self.gru, f"bias_ih_l{layer}")[width : 2 * width] = steps.log()

    def forward(self, x: Tensor) -> Tensor:
        """Whole episodes: float32 [B, T, E] to float32 [B, T, F]."""
        y: Tensor = self.gru(x)[0]
        return y

    def initial_state(self, batch_size: int, max_length: int) -> Tensor:
        """Hidden state before the first step, float32 [layers, B, F]."""
        weight = self.gru.weight_hh_l0
        return weight.new_zeros(self.num_layers, batch_size, self.output_dim)

    @torch.no_grad()
    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: float32 [B, E] to float32 [B, F], and the next state."""
        y, state = self.gru(x[:, None], state)
        return y[:, 0], state


if __name__ == "__main__":
    # A larger embedding opens the gates for the cue.
    config = TrainConfig(length=10, model=f"{__file__}:GRU", embedding_scale=16.0)
    print(f"success {evaluate(train(config).run_dir).success:.3f}")
