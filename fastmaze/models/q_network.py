"""Q(h_t, a): embedder, memory model, and a head, over whole episodes or step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fastmaze.models.embedders import StepEmbedder
from fastmaze.models.encoder import (
    DeviceStepper,
    HistoryEncoder,
    HistoryState,
    SequenceEncoder,
    State,
)
from fastmaze.models.histories import DistinctHistories, Histories, fingerprints
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

    def forward(self, obs: Tensor, actions: Tensor, histories: Histories | None = None) -> Tensor:
        """Action values along whole episodes.

        Args:
            obs: float32 [B, T, D], from the reset on.
            actions: int64 [B, T - 1], the action taken at each observation but the last.
            histories: what `histories` finds in them; None computes every step by itself.

        Returns:
            float32 [B, T, A].
        """
        if histories is None:
            q: Tensor = self.head(self.features(obs, actions))
            return q
        before = self._actions_before(actions)
        obs, before = (x.flatten(0, 1).index_select(0, histories.tokens) for x in (obs, before))
        encode = cast(HistoryEncoder, self.encoder).encode_histories
        y = self._encode(encode, self.embedder(obs, before), histories.distinct)
        q = self.head(y).index_select(0, histories.distinct.where)
        return q.view(*actions.shape[:1], -1, self.num_actions)

    def features(self, obs: Tensor, actions: Tensor) -> Tensor:
        """What the memory model makes of whole episodes, float32 [B, T, F]; see `forward`."""
        return self._encode(self.encoder, self.embedder(obs, self._actions_before(actions)))

    def histories(self, obs: Tensor, actions: Tensor) -> Histories | None:
        """The distinct histories of whole episodes, for `forward`.

        Args:
            obs: as in `forward`.
            actions: as in `forward`.

        Returns:
            None where the encoder needs to see every step, or had better do so.
        """
        encoder = self._sharing
        if encoder is None:
            return None
        return encoder.find_histories(_fingerprints(obs, self._actions_before(actions)))

    def alike_together(self, obs: Tensor, actions: Tensor) -> Tensor:
        """An order in which episodes that begin alike lie side by side, int64 [B].

        Args:
            obs: as in `forward`.
            actions: as in `forward`.
        """
        prints = _fingerprints(obs, self._actions_before(actions)).cpu().numpy()
        order = sorted(range(len(prints)), key=lambda row: prints[row].tobytes())
        return torch.tensor(order, device=obs.device)

    @property
    def _sharing(self) -> HistoryEncoder | None:
        """The encoder, where it computes distinct histories once."""
        encoder = self.encoder
        shares = isinstance(encoder, HistoryEncoder) and encoder.shares_histories
        return cast(HistoryEncoder, encoder) if shares else None

    def _actions_before(self, actions: Tensor) -> Tensor:
        """The action that led to each observation, int64 [B, T]; A (none) to the first."""
        none = actions.new_full((len(actions), 1), self.num_actions)
        return torch.cat([none, actions], dim=1)

    def _encode(
        self, encode: Callable[..., Tensor], x: Tensor, *options: DistinctHistories
    ) -> Tensor:
        """The encoder's output in float32, whatever it computes in."""
        if self.compute_dtype == torch.float32:
            return encode(x, *options)
        with torch.autocast(x.device.type, self.compute_dtype):
            return encode(x, *options).float()

    def initial_state(self, batch_size: int, max_length: int) -> State:
        """The memory before an episode's first observation; see `SequenceEncoder`.

        With an encoder that shares histories, a `HistoryState`.
        """
        encoder = self._sharing
        if encoder is None:
            return self.encoder.initial_state(batch_size, max_length)
        return encoder.history_state(batch_size, max_length)

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
        if isinstance(state, HistoryState):
            found = state.advance(
                _fingerprints(obs, prev_action),
                lambda rows: self.embedder(obs[rows], prev_action[rows]),
            )
            if found is None:
                return self.step(obs, prev_action, state.every_step())
            y, where = found  # [R, F], [B]
            return self.head(y).index_select(0, where), state
        y, state = self.encoder.step(self.embedder(obs, prev_action), state)  # [B, F]
        return self.head(y), state


def _fingerprints(obs: Tensor, prev_action: Tensor) -> Tensor:
    """A number for each step, int64 [...]: equal where observation and action before it are."""
    obs = obs.flatten(prev_action.ndim)  # [..., D]
    obs = obs if obs.is_floating_point() else obs.float()
    # Adding 0 makes -0 and 0 one token.
    return fingerprints(torch.cat([obs, prev_action[..., None].to(obs.dtype)], dim=-1) + 0.0)


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
        layers += [layer, nn.ReLU(inplace=True)]
        input_dim = width
    last = nn.Linear(input_dim, output_dim)
    nn.init.uniform_(last.weight, -last_range, last_range)
    nn.init.uniform_(last.bias, -last_range, last_range)
    return nn.Sequential(*layers, last)
