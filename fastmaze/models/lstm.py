"""An LSTM over the steps of an episode; on a CPU, over its batch's distinct histories."""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor, nn

from fastmaze.models.histories import Histories
from fastmaze.models.lstm_histories import LSTMHistories
from fastmaze.models.prefixes import Prefixes, find_prefixes
from fastmaze.models.recurrence import recur

LSTMInit = Literal["orthogonal", "chrono"]
LSTM_INITS: Final = ("orthogonal", "chrono")

LSTMState = tuple[Tensor, Tensor]
"""Hidden and cell state, float32 [layers, B, F] each."""


class LSTM(nn.Module):
    """`torch.nn.LSTM`; a `SequenceEncoder`, and on a CPU a `HistoryEncoder`.

    Args:
        input_dim: E, entries of an embedded step.
        width: F, units of each layer.
        num_layers: layers.
        init: "orthogonal" (weights orthogonal, biases zero: Ni et al. 2023) or "chrono" (the
            same weights, gates biased to remember for 1 to `memory_length` steps: Tallec and
            Ollivier 2018).
        memory_length: steps that the longest memory has to last.
    """

    def __init__(
        self, input_dim: int, *, width: int, num_layers: int, init: LSTMInit, memory_length: int
    ) -> None:
        super().__init__()
        if init not in LSTM_INITS:
            raise ValueError(f"lstm_init: expected one of {LSTM_INITS}, got {init!r}")
        self.output_dim, self.num_layers = width, num_layers
        self.lstm = nn.LSTM(input_dim, width, num_layers, batch_first=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight"):
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)
        if init == "chrono":
            for layer in range(num_layers):
                _chrono(getattr(self.lstm, f"bias_ih_l{layer}"), memory_length)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes whole sequences: float32 [B, T, E] to float32 [B, T, F]."""
        y: Tensor = self.lstm(x)[0]
        return y

    @property
    def shares_histories(self) -> bool:
        """Whether equal histories are computed once; see `HistoryEncoder`."""
        like, own = self.lstm.weight_hh_l0, type(self)
        # Who changes what a step is, has it computed so.
        unchanged = own.forward is LSTM.forward and own.step is LSTM.step
        return unchanged and like.dtype == torch.float32 and shares_histories(like.device.type)

    def find_histories(self, prints: Tensor) -> Histories:
        """The distinct histories in int64 [B, T]; see `HistoryEncoder`."""
        return find_prefixes(prints, most_groups=torch.get_num_threads())

    def encode_histories(self, x: Tensor, distinct: Prefixes) -> Tensor:
        """From distinct tokens, float32 [K, E], to histories, [R, F]; see `HistoryEncoder`."""
        for layer in range(self.num_layers):
            inputs = self._gate_inputs(layer, x).float()  # of autocast, too
            x = recur(inputs, self._weight(layer), distinct, own_inputs=layer > 0)
        return x

    def history_state(self, batch_size: int, max_length: int) -> LSTMHistories:
        """The memory of a rollout that shares histories; see `HistoryEncoder`."""
        weights = [self._weight(layer) for layer in range(self.num_layers)]
        return LSTMHistories(batch_size, weights, self._gate_inputs)

    def _gate_inputs(self, layer: int, x: Tensor) -> Tensor:
        """What a layer's inputs and biases add to its gates: float32 [..., E] to [..., 4F]."""
        weight, *biases = (
            getattr(self.lstm, f"{name}_l{layer}") for name in ("weight_ih", "bias_ih", "bias_hh")
        )
        return nn.functional.linear(x, weight, biases[0] + biases[1])

    def _weight(self, layer: int) -> Tensor:
        """Of a layer's recurrence, float32 [4F, F]."""
        weight: Tensor = getattr(self.lstm, f"weight_hh_l{layer}")
        return weight

    def initial_state(self, batch_size: int, max_length: int) -> LSTMState:
        """Zeros; `max_length` is of no concern to a recurrent state."""
        device = next(self.lstm.parameters()).device
        zeros = torch.zeros(self.num_layers, batch_size, self.output_dim, device=device)
        return zeros, zeros

    def device_state(
        self, batch_size: int, max_length: int, state: LSTMState | None = None
    ) -> LSTMState:
        """As `initial_state`; `state` is set back in place. See `DeviceStepper`."""
        if state is None:
            hidden, cell = self.initial_state(batch_size, max_length)
            return hidden.clone(), cell.clone()
        for part in state:
            part.zero_()
        return state

    @torch.no_grad()
    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Takes in one step of each sequence: float32 [B, E] to float32 [B, F]."""
        y, state = self.lstm(x[:, None], state)
        return y[:, 0], state


@cache
def shares_histories(device: str) -> bool:
    """Whether an `LSTM` on such a device computes equal histories once: on a CPU, in the core."""
    if device != "cpu":
        return False
    try:
        from fastmaze._native import LstmLayer  # noqa: F401
    except ImportError:  # not built, or of an older version
        return False
    return True


@torch.no_grad()
def _chrono(bias: Tensor, memory_length: int) -> None:
    """Sets gate biases, [4F] in torch's order input, forget, cell, output, for long memories."""
    width = len(bias) // 4
    # A gate of 1 - 1/s forgets over s steps; s is drawn from 1 to the length to be remembered.
    steps = torch.empty(width).uniform_(1.0, max(memory_length - 1.0, 1.0 + 1e-3))
    bias[width : 2 * width] = steps.log()
    bias[:width] = -steps.log()
