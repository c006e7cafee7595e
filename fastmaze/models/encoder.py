"""What a memory model must offer to be used by the Q-network, the trainer and the rollouts."""

from __future__ import annotations

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


@runtime_checkable
class CountingEncoder(Protocol):
    """What an encoder may offer beside: to encode each distinct history of a batch once.

    Attributes:
        counts_tokens: whether, as it is set now, all that it tells apart of a history is the newest
            token, and how often each token was seen; and whether it had better be used so.
    """

    counts_tokens: bool

    def encode_histories(self, x: Tensor, histories: Histories) -> Tensor:
        """What `forward` gives at a step that ends each history, up to rounding.

        Args:
            x: float32 [K, E], the distinct tokens: embedded steps.
            histories: R of them.

        Returns:
            float32 [R, F].
        """
