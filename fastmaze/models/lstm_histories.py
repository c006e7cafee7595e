"""A rollout's memory for an LSTM: a state for each distinct history.

Sequences that have seen the same, step by step, have one row: of agents that explore little, most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmaze.models.encoder import HistoryState
from fastmaze.models.histories import random_numbers
from fastmaze.models.recurrence import make_layer

if TYPE_CHECKING:
    from fastmaze._native import LstmLayer

Numbers = npt.NDArray[np.int32]

ROWS_OF_THREAD: Final = 32
"""Rows of one step from which a thread is worth being woken."""


class LSTMHistories(HistoryState):
    """Which history each of B sequences of one age has, and the states of each.

    Args:
        batch_size: B.
        weights: of each layer's recurrence, float32 [4F, F]; used as they are now.
        gate_inputs: from a layer's number and its inputs, float32 [R, ...], to what these and its
            biases add to the gates, float32 [R, 4F].

    Attributes:
        where: int64 [B], each sequence's history.
        states: each layer's hidden and cell state, float32 [R, F] each.
    """

    def __init__(
        self,
        batch_size: int,
        weights: Sequence[Tensor],
        gate_inputs: Callable[[int, Tensor], Tensor],
    ) -> None:
        self._gate_inputs = gate_inputs
        self._weights = [weight.detach().clone() for weight in weights]
        self._make_layers(batch_size)
        self.where = torch.zeros(batch_size, dtype=torch.int64)
        self.states = [(w.new_zeros(1, w.shape[1]), w.new_zeros(1, w.shape[1])) for w in weights]

    def _make_layers(self, batch_size: int) -> None:
        self._groups = max(1, min(torch.get_num_threads(), batch_size // ROWS_OF_THREAD))
        self._layers = [make_layer(weight, self._groups) for weight in self._weights]

    def __getstate__(self) -> dict[str, Any]:
        """All but the core's layers, which are made anew of the weights."""
        return {name: value for name, value in vars(self).items() if name != "_layers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        vars(self).update(state)
        self._make_layers(len(self.where))

    def advance(self, prints: Tensor, embed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Takes in a step; see `HistoryState`."""
        of_history, of_step = random_numbers(2)
        # Equal where both are: two that differ share a number once in a billion rollouts.
        keys = (self.where * of_history) ^ (prints * of_step)
        _, first, where = np.unique(keys.numpy(), return_index=True, return_inverse=True)
        rows = torch.from_numpy(first)
        parent = self.where.index_select(0, rows).numpy().astype(np.int32)
        groups = max(1, min(self._groups, len(rows) // ROWS_OF_THREAD))
        bounds = np.linspace(0, len(rows), groups + 1).astype(np.int32)[None]
        x = embed(rows)
        for number, layer in enumerate(self._layers):
            inputs = self._gate_inputs(number, x).float()  # of autocast, too
            x, cell = _advance(layer, inputs, self.states[number], parent, bounds)
            self.states[number] = (x, cell)
        self.where = torch.from_numpy(where)
        return x, self.where

    def every_step(self) -> tuple[Tensor, Tensor]:
        """Each sequence's own states, as `torch.nn.LSTM` has them: [layers, B, F] each."""
        hidden, cell = (
            torch.stack([state[part].index_select(0, self.where) for state in self.states])
            for part in (0, 1)
        )
        return hidden, cell


def _advance(
    layer: LstmLayer,
    inputs: Tensor,
    before: tuple[Tensor, Tensor],
    parent: Numbers,
    bounds: Numbers,
) -> tuple[Tensor, Tensor]:
    """A layer's new states, of as many histories as there are inputs."""
    gates = torch.empty_like(inputs)
    hidden, cell = (inputs.new_empty(len(parent), before[0].shape[1]) for _ in range(2))
    layer.forward(
        inputs.numpy(), None, parent, bounds,
        gates=gates.numpy(), cell=cell.numpy(), hidden=hidden.numpy(),
        cell_before=before[1].numpy(), hidden_before=before[0].numpy(),
    )  # fmt: skip
    return hidden, cell
