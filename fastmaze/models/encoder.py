"""What a memory model must offer to be used by the Q-network, the trainer and the rollouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from fastmaze.models.histories import Histories

State = Any
"""What a model remembers between steps: its own business, handed back to it at each step."""


class SequenceEncoder(Protocol):
    """A causal memory model: any `torch.nn.Module` with these members can be plugged in.

    `forward` and `step` must agree: stepping through a sequence from `initial_state` gives, up to
    rounding and without dropout, what `forward` gives on the whole of it.

    Attributes:
        output_dim: F, entries of one output.
    """

    output_dim: int

    def forward(self, x: Tensor) -> Tensor:
        """Encodes whole sequences.

        Args:
            x: float32 [B, T, E], embedded steps, the first of which begins an episode.

        Returns:
            float32 [B, T, F]; entry t depends on the steps up to t alone.
        """

    def initial_state(self, batch_size: int, max_length: int) -> State:
        """The state before the first step of an episode.

        Args:
            batch_size: B, sequences that are stepped together.
            max_length: the most steps that will be taken from this state.
        """

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Takes in one more step of every sequence, without gradients.

        Args:
            x: float32 [B, E], the embedded step.
            state: what `initial_state` or the step before returned. It may be changed in place;
                only the returned one may be used afterwards.

        Returns:
            The output, float32 [B, F], and the next state.
        """


@runtime_checkable
class DeviceStepper(Protocol):
    """What an encoder may offer beside: states of tensors alone, for steps that wait for nobody.

    With such a state `step` reads and writes tensors of fixed shapes and no number of Python, so
    that it can be captured in a CUDA graph and replayed.
    """

    def device_state(self, batch_size: int, max_length: int, state: State | None = None) -> State:
        """The state before the first step of an episode, made of tensors alone.

        Args:
            batch_size: B, sequences that are stepped together.
            max_length: the most steps that will be taken from this state.
            state: an earlier state of the same sizes, to be set back in place and returned: what a
                graph was captured with.
        """


class HistoryState(ABC):
    """The memory of a rollout whose equal histories are computed once."""

    @abstractmethod
    def advance(
        self, prints: Tensor, embed: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """Takes in one more step of every sequence.

        Args:
            prints: int64 [B], equal where steps are.
            embed: from int64 [rows] to those sequences' embedded steps, float32 [rows, E].

        Returns:
            What distinct histories are now, float32 [R, F], and which each sequence has, int64 [B].
            None if it gives up: steps then go on, this one included, from `every_step`.
        """

    @abstractmethod
    def every_step(self) -> State:
        """The encoder's own state after the steps that were taken."""


@runtime_checkable
class HistoryEncoder(Protocol):
    """What an encoder may offer beside: to encode each distinct history once.

    Attributes:
        shares_histories: whether it can, as it is set now, and had better be used so.
    """

    shares_histories: bool

    def find_histories(self, prints: Tensor) -> Histories | None:
        """The distinct histories in whole sequences; None if it had better see every step.

        Args:
            prints: int64 [B, T], equal where steps are.
        """

    def encode_histories(self, x: Tensor, distinct: Any) -> Tensor:
        """What `forward` gives at a step that ends such a history, up to rounding.

        Args:
            x: float32 [K, E], the distinct steps, embedded.
            distinct: of what `find_histories` returned.

        Returns:
            float32 [R, F].
        """

    def history_state(self, batch_size: int, max_length: int) -> HistoryState:
        """As `initial_state`, for steps that share histories; for weights as they are now."""
