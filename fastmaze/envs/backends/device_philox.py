"""Philox-4x32-10 in torch: `fastmaze.reference.philox` on tensors, on any device."""

from __future__ import annotations

from typing import Final

from torch import Tensor

MASK: Final = 0xFFFFFFFF
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_ROUNDS: Final = 10


def draw_goal_bit(key: Tensor, index: Tensor, episode: Tensor) -> Tensor:
    """Bit 0 of Philox word 0 at (index, episode, 0, 0): 1 for a goal of +1, int64 [N].

    Args:
        key: int64 [N], the bits of a 64-bit seed.
        index: int64 [N], 0 to 2**32 - 1.
        episode: int64 [N], 0 to 2**32 - 1.
    """
    c0, c1, c2, c3 = index, episode, index & 0, index & 0
    k0, k1 = key & MASK, (key >> 32) & MASK
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = _product(c0, _MULTIPLIERS[0]), _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & MASK, (k1 + _WEYL[1]) & MASK
    return c0 & 1


def _product(words: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product of 32-bit words, in int64."""
    # Less 2**32, the multiplier is small enough for a product within int64; what then is missing
    # is the words themselves in the high half.
    product = words * (multiplier - (1 << 32))
    return (product >> 32) + words, product & MASK
