"""Q(h_t, a): embedder, memory model, and a head, over whole episodes or step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastmaze.models.embedders import StepEmbedder
from fastmaze.models.encoder import DeviceStepper, SequenceEncoder, State
from fastmaze.models.pixel_embedder import PixelEmbedder


class QNetwork(nn.Module):
    """Action values from the history of observations and actions.

    Args:
        embedder: turns a step into the encoder's input.
        encoder: any `SequenceEncoder`.
        num_actions: A.
        head_widths: hidden widths of the head, a ReLU MLP.
        compute_dtype: what the encoder's matrix products are made in over whole episodes:
            float32, or bfloat16 by autocast. Weights, embedder and head stay float32, as do
            rollouts, step by step.
    """

    def __init__(
        self,
        embedder: StepEmbedder | PixelEmbedder,
        encoder: SequenceEncoder,
        num_actions: int,
        head_widths: Sequence[int] = (256, 256),
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"encoder: expected a torch.nn.Module, got {type(encoder).__name__}")
        self.num_actions = num_actions
        self.embedder, self.compute_dtype = embedder, compute_dtype
        self.encoder = encoder
        self.head = mlp(encoder.output_dim, head_widths, num_actions)

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Action values along whole episodes.

        Args:
            obs: float32 [B, T, D], from the reset on.
            actions: int64 [B, T - 1], the action taken at each observation but the last.

        Returns:
            float32 [B, T, A].
        """
        q: Tensor = self.head(self.features(obs, actions))
        return q

    def features(self, obs: Tensor, actions: Tensor) -> Tensor:
        """What the memory model makes of whole episodes, float32 [B, T, F]; see `forward`."""
        none = actions.new_full((len(actions), 1), self.num_actions)
        x = self.embedder(obs, torch.cat([none, actions], dim=1))  # [B, T, E]
        if self.compute_dtype == torch.float32:
            y: Tensor = self.encoder(x)
            return y
        with torch.autocast(x.device.type, self.compute_dtype):
            y = self.encoder(x).float()
        return y

    def initial_state(self, batch_size: int, max_length: int) -> State:
        """The memory before an episode's first observation; see `SequenceEncoder`."""
        return self.encoder.initial_state(batch_size, max_length)

    @property
    def has_device_state(self) -> bool:
        """Whether the encoder offers states of tensors alone."""
        return isinstance(self.encoder, DeviceStepper)

    def device_state(self, batch_size: int, max_length: int, state: State | None = None) -> State:
        """The memory before an episode's first observation, in tensors; see `DeviceStepper`."""
        if not isinstance(self.encoder, DeviceStepper):
            raise TypeError(
                f"encoder: expected one with a method device_state, got "
                f"{type(self.encoder).__name__}"
            )
        return self.encoder.device_state(batch_size, max_length, state)

    @torch.no_grad()
    def step(self, obs: Tensor, prev_action: Tensor, state: State) -> tuple[Tensor, State]:
        """Action values at the newest observation.

        Args:
            obs: float32 [B, D].
            prev_action: int64 [B], the action that led here, A (none) at an episode's start.
            state: what `initial_state` or the step before returned.

        Returns:
            float32 [B, A], and the next state.
        """
        y, state = self.encoder.step(self.embedder(obs, prev_action), state)  # [B, F]
        return self.head(y), state


def mlp(
    input_dim: int, widths: Sequence[int], output_dim: int, last_range: float = 3e-3
) -> nn.Sequential:
    """Linear layers and ReLUs; the last layer starts near zero, so that all actions look alike.

    Args:
        input_dim: entries of the input.
        widths: of the hidden layers.
        output_dim: entries of the output.
        last_range: bounds the last layer's initial weights.
    """
    layers: list[nn.Module] = []
    for width in widths:
        layer = nn.Linear(input_dim, width)
        nn.init.constant_(layer.bias, 0.1)
        layers += [layer, nn.ReLU()]
        input_dim = width
    last = nn.Linear(input_dim, output_dim)
    nn.init.uniform_(last.weight, -last_range, last_range)
    nn.init.uniform_(last.bias, -last_range, last_range)
    return nn.Sequential(*layers, last)
