"""What a memory model must offer to be used by the Q-network, the trainer and the rollouts."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

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
    """What an encoder may offer beside: to encode each distinct history once.

    Attributes:
        counts_tokens: whether, as it is set now, all that it tells apart of a history is the newest
            token, and how often each token was seen; and whether it had better be used so.
    """

    counts_tokens: bool

    def prepare_tokens(self, x: Tensor) -> Any:
        """What it needs to know of distinct tokens, float32 [K, E]: embedded steps."""

    def encode_counts(self, tokens: Any, newest: Tensor, counts: Tensor) -> Tensor:
        """What `forward` gives at a step that ends such a history, up to rounding.

        Args:
            tokens: what `prepare_tokens` returned.
            newest: int64 [R], number of each history's newest token.
            counts: float32 [R, K], how often each holds each token.

        Returns:
            float32 [R, F].
        """

    def state_after(self, tokens: Any, history: Tensor, max_length: int) -> State:
        """The state that `step` goes on from after steps that were counted.

        Args:
            tokens: what `prepare_tokens` returned.
            history: int64 [B, t], numbers of the tokens of t steps, at least one.
            max_length: as for `initial_state`.
        """
