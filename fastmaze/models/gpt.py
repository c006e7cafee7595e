"""A GPT-2 style transformer over the steps of an episode, with a key-value cache for rollouts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu
from torch.utils.checkpoint import checkpoint

from fastmaze.kernels import causal_attention
from fastmaze.models.attention import ATTENTION_IMPLS, AttentionImpl, attend_to_cache
from fastmaze.models.histories import (
    Distinct,
    Histories,
    attend_to_counts,
    find_histories,
    token_scores,
)
from fastmaze.models.token_counts import TokenCounts

Positions = Literal["none", "sinusoidal", "learned", "rotary"]
POSITIONS: Final = ("none", "sinusoidal", "learned", "rotary")


@dataclass(slots=True)
class KeyValueCache:
    """Keys and values of the steps taken so far, written in place as steps are added."""

    keys: Tensor
    """float32 [layers, B, H, max_length, D]."""
    values: Tensor
    """float32 [layers, B, H, max_length, D]."""
    length: int | Tensor
    """Steps stored: one int for every sequence, or int64 [B] on the device."""


class PreparedTokens(NamedTuple):
    """What a single block's attention needs of K distinct tokens."""

    x: Tensor
    """The tokens, float32 [K, F]."""
    keys: Tensor
    """float32 [K, H, D]."""
    values: Tensor
    """float32 [K, H, D]."""
    scores: Tensor
    """Each token's scaled scores with all, float32 [K, H, K]."""


class GPT(nn.Module):
    """Pre-LN decoder blocks with causal attention; a `SequenceEncoder`.

    Args:
        input_dim: E, entries of an embedded step; a linear layer maps it to `width` if they differ.
        width: F, entries of a token.
        num_layers: blocks.
        num_heads: H, heads of each block; must divide `width`.
        positions: how a token knows its place: "none" (only through what it can see: with causal
            attention a sum over the past still tells early from late), "sinusoidal" (added),
            "learned" (added, up to `max_length`) or "rotary" (queries and keys turned).
        max_length: T + 1, the most tokens of a sequence; bounds positions "learned" only.
        dropout: chance of dropping an embedding, an attention weight, or a block's output.
        attention_std: standard deviation of the initial weights of attention's values and output.
            GPT-2's 0.02 makes what attention adds tiny, so that one step among many is hardly
            seen. All weights that are not named here have 0.02.
        query_std: standard deviation of the initial weights of attention's queries and keys. With
            GPT-2's 0.02 attention begins nearly uniform: deaf to no step, but one among T is heard
            at 1 / T. With 0.5 each head begins with likes and dislikes of its own, stronger than
            the logarithm of T, and one of a few heads is likely to hear the cue.
        attention_impl: which attention of `fastmaze.kernels` to use: "auto", "triton", "sdpa" (has
            no dropout) or "reference".
        recompute: keep only the input of each block for the backward pass, which then runs the
            block's forward pass once more: less memory, the same gradients.
    """

    def __init__(
        self,
        input_dim: int,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        positions: Positions,
        max_length: int,
        dropout: float,
        attention_std: float = 0.02,
        query_std: float = 0.02,
        attention_impl: AttentionImpl = "auto",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads: expected a divisor of width {width}, got {num_heads}")
        if positions not in POSITIONS:
            raise ValueError(f"positions: expected one of {POSITIONS}, got {positions!r}")
        if positions == "rotary" and width // num_heads % 2:
            raise ValueError(
                f"positions: rotary needs an even head width, got {width // num_heads}"
            )
        if attention_impl not in ATTENTION_IMPLS:
            raise ValueError(
                f"attention_impl: expected one of {ATTENTION_IMPLS}, got {attention_impl!r}"
            )
        self.output_dim, self.num_heads = width, num_heads
        self.positions, self.max_length, self.dropout = positions, max_length, dropout
        self.recompute, self.attention_impl = recompute, attention_impl
        self.embed = nn.Identity() if input_dim == width else nn.Linear(input_dim, width)
        self.position = nn.Embedding(max_length, width) if positions == "learned" else None
        self.blocks = nn.ModuleList(
            Block(width, num_heads, dropout, attention_impl, positions == "rotary")
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(width)
        self._cached_sines: Tensor | None = None
        self._cached_turns: tuple[Tensor, Tensor] | None = None
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            nn.init.normal_(cast(Block, block).qkv.weight[: 2 * width], std=query_std)
            values = cast(Block, block).qkv.weight[2 * width :]
            nn.init.normal_(values, std=attention_std)
            nn.init.normal_(cast(Block, block).project.weight, std=attention_std)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes whole sequences: float32 [B, T, E] to float32 [B, T, F]."""
        x = self._with_positions(self.embed(x), 0, x.shape[1])
        x = drop(x, self.dropout, self.training)
        for block in self.blocks:
            x = self._kept_small(block, x)
        y: Tensor = self.final_norm(x)
        return y

    @property
    def shares_histories(self) -> bool:
        """Whether all it tells apart of a history are counts of tokens; see `HistoryEncoder`."""
        unchanged = type(self).forward is GPT.forward and type(self).step is GPT.step
        return unchanged and counts_tokens(
            num_layers=len(self.blocks),
            positions=self.positions,
            dropout=self.dropout if self.training else 0.0,
            attention_impl=self.attention_impl,
            device=self.final_norm.weight.device.type,
        )

    def find_histories(self, prints: Tensor) -> Histories | None:
        """The distinct histories in int64 [B, T]; None where tokens are many: `HistoryEncoder`."""
        return find_histories(prints)

    def encode_histories(self, x: Tensor, distinct: Distinct) -> Tensor:
        """From distinct tokens, float32 [K, E], to histories, [R, F]; see `HistoryEncoder`."""
        return self.encode_counts(self.prepare_tokens(x), distinct.newest, distinct.counts)

    def history_state(self, batch_size: int, max_length: int) -> TokenCounts:
        """The memory of a rollout that counts tokens; see `HistoryEncoder`."""
        return TokenCounts(self, batch_size, max_length)

    def prepare_tokens(self, x: Tensor) -> PreparedTokens:
        """What attention needs of distinct tokens, float32 [K, E]; see `CountingEncoder`."""
        x = self.embed(x)  # [K, F]
        q, k, v = cast(Block, self.blocks[0]).heads(x)  # [K, H, D]
        return PreparedTokens(x, k, v, token_scores(q, k))

    def encode_counts(self, tokens: PreparedTokens, newest: Tensor, counts: Tensor) -> Tensor:
        """Encodes histories by their tokens' counts, float32 [R, F]; see `CountingEncoder`."""
        y = attend_to_counts(tokens.scores, tokens.values, newest, counts).flatten(1)
        rest = cast(Block, self.blocks[0]).rest
        encoded: Tensor = self.final_norm(
            self._kept_small(rest, tokens.x.index_select(0, newest), y)
        )
        return encoded

    def state_after(
        self, tokens: PreparedTokens, history: Tensor, max_length: int
    ) -> KeyValueCache:
        """The cache of steps that were counted; see `CountingEncoder`."""
        cache = self.initial_state(len(history), max_length)
        cache.length = history.shape[1]
        for whole, table in ((cache.keys, tokens.keys), (cache.values, tokens.values)):
            whole[0, :, :, : cache.length] = table[history].transpose(1, 2)
        return cache

    def _kept_small(self, part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """What a part makes of its inputs; where asked to, without keeping what lies between."""
        if self.recompute and torch.is_grad_enabled():
            drops = self.training and self.dropout > 0
            y: Tensor = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=drops)
            return y
        return part(*inputs)

    def initial_state(self, batch_size: int, max_length: int) -> KeyValueCache:
        """An empty cache for `batch_size` sequences of at most `max_length` steps.

        Its memory is not filled: no step reads past those that the cache holds.
        """
        heads, head_dim = self.num_heads, self.output_dim // self.num_heads
        shape = (len(self.blocks), batch_size, heads, max_length, head_dim)
        like = self.final_norm.weight
        return KeyValueCache(like.new_empty(shape), like.new_empty(shape), 0)

    def device_state(
        self, batch_size: int, max_length: int, state: KeyValueCache | None = None
    ) -> KeyValueCache:
        """As `initial_state`, with a length on the device for each sequence: `DeviceStepper`."""
        if state is None:
            state = self.initial_state(batch_size, max_length)
            state.length = torch.zeros(batch_size, dtype=torch.int64, device=state.keys.device)
        elif isinstance(state.length, Tensor):
            state.length.zero_()
        return state

    @torch.no_grad()
    def step(self, x: Tensor, state: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """Adds one step of each sequence: float32 [B, E] to float32 [B, F]."""
        t, turns = state.length, None
        if isinstance(t, Tensor):
            x = self._with_positions_at(self.embed(x), t, state.keys.shape[3])  # [B, F]
            if self.positions == "rotary":
                turns = self._turns_at(t, state.keys.shape[3])
        else:
            x = self._with_positions(self.embed(x), t, t + 1)  # [B, F]
        x = drop(x, self.dropout, self.training)
        for i, block in enumerate(self.blocks):
            x = cast(Block, block).step(x, state.keys[i], state.values[i], t, turns)
        state.length += 1
        return self.final_norm(x), state

    def _with_positions(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Adds the positions of tokens `start` to `stop`, float32 [stop - start, F]."""
        if self.positions == "sinusoidal":
            return x + self._sines(stop, x)[start:stop]
        if self.position is not None:
            self._check_learned(stop)
            return x + self.position.weight[start:stop]
        return x

    def _with_positions_at(self, x: Tensor, places: Tensor, stop: int) -> Tensor:
        """Adds to each token, float32 [B, F], its own position, int64 [B], below `stop`."""
        if self.positions == "sinusoidal":
            return x + self._sines(stop, x).index_select(0, places)
        if self.position is not None:
            self._check_learned(stop)
            return x + self.position.weight.index_select(0, places)
        return x

    def _check_learned(self, stop: int) -> None:
        if stop > self.max_length:
            raise ValueError(
                f"positions: learned ones end at {self.max_length} steps, got step {stop}"
            )

    def _turns_at(self, places: Tensor, stop: int) -> tuple[Tensor, Tensor]:
        """What `turn` takes for tokens at `places`, int64 [B], below `stop`: [B, 1, D / 2]."""
        tables = self._cached_turns
        if tables is None or len(tables[0]) < stop or tables[0].device != places.device:
            like = self.final_norm.weight
            tables = self._cached_turns = rotation_table(
                0, stop, self.output_dim // self.num_heads, like
            )
        cos, sin = (table.index_select(0, places)[:, None] for table in tables)
        return cos, sin

    def _sines(self, length: int, like: Tensor) -> Tensor:
        """The table of sines and cosines, float32 [at least length, F]."""
        table = self._cached_sines
        if table is None or len(table) < length or table.device != like.device:
            table = sinusoids(max(length, self.max_length), self.output_dim).to(like)
            self._cached_sines = table
        return table


class Block(nn.Module):
    """Attention, then an MLP four times as wide; each reads a normalised copy and adds to x."""

    def __init__(
        self, width: int, num_heads: int, dropout: float, impl: AttentionImpl, rotary: bool
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.dropout, self.impl, self.rotary = dropout, impl, rotary
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Whole sequences: float32 [B, T, F] to float32 [B, T, F]."""
        q, k, v = (part.transpose(1, 2) for part in self.heads(x))  # [B, H, T, D]
        if self.rotary:
            q, k = rotate(q, 0), rotate(k, 0)
        y = causal_attention(q, k, v, dropout_p=self._dropout_p, impl=self.impl)
        return self.rest(x, y.transpose(1, 2).flatten(2))

    def step(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        t: int | Tensor,
        turns: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Step t alone, float32 [B, F]; writes its key and value into the cache.

        A t on the device, int64 [B], comes with its `turns` where positions are rotary.
        """
        q, k, v = self.heads(x)  # [B, H, D]
        if turns is not None:
            q, k = turn(q, *turns), turn(k, *turns)
        elif self.rotary and isinstance(t, int):
            q, k = (rotate(part[:, :, None], t)[:, :, 0] for part in (q, k))
        y = attend_to_cache(q, k, v, keys, values, t, impl=self.impl, dropout_p=self._dropout_p)
        return self.rest(x, y.flatten(1))

    @property
    def _dropout_p(self) -> float:
        return self.dropout if self.training else 0.0

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values: views of one tensor, float32 [..., H, D] each."""
        qkv = self.qkv(self.norm1(x)).view(*x.shape[:-1], 3, self.num_heads, self.head_dim)
        return qkv.unbind(-3)  # type: ignore[no-any-return]

    def rest(self, x: Tensor, y: Tensor) -> Tensor:
        """What follows attention, whose output is y: float32 [..., F]."""
        x = x + drop(self.project(y), self.dropout, self.training)
        y = self.contract(gelu(self.expand(self.norm2(x)), approximate="tanh"))
        return x + drop(y, self.dropout, self.training)


def counts_tokens(
    *, num_layers: int, positions: Positions, dropout: float, attention_impl: str, device: str
) -> bool:
    """Whether a `GPT` set so counts tokens instead of attending to every step.

    A single block without positions and dropout may; it does on a CPU, unless another
    implementation of attention than "auto" is asked for.
    """
    same = num_layers == 1 and positions == "none" and dropout == 0
    return same and attention_impl == "auto" and device == "cpu"


def drop(x: Tensor, p: float, training: bool) -> Tensor:
    """PyTorch's dropout, not called where there is none: a rollout's steps are short."""
    return dropout(x, p) if training and p else x


def sinusoids(length: int, width: int) -> Tensor:
    """Vaswani et al. 2017: sines at even, cosines at odd entries, float32 [length, width]."""
    angle = torch.arange(length)[:, None] * _frequencies(width)  # [length, ceil(width / 2)]
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


def rotate(x: Tensor, start: int) -> Tensor:
    """Rotary positions (Su et al. 2021): turns the pairs (i, i + D/2) of float32 [B, H, T, D].

    Args:
        x: queries or keys.
        start: position of the first of the T tokens.
    """
    T, D = x.shape[2:]
    return turn(x, *rotation_table(start, start + T, D, x))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pairs (i, i + D/2) of float32 [..., D] by angles of these cosines and sines."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def rotation_table(start: int, stop: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What `turn` takes for positions `start` to `stop`: [stop - start, D / 2] each."""
    # Normal tensors, also when a rollout without gradients is the first to ask. Made where they are
    # used: a copy from the host could not be part of a CUDA graph.
    with torch.inference_mode(False):
        frequencies = _frequencies(width, like.device)
        angle = torch.arange(start, stop, device=like.device)[:, None] * frequencies
        return angle.cos().to(like), angle.sin().to(like)


def _frequencies(width: int, device: torch.device | None = None) -> Tensor:
    return torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
