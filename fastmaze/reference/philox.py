"""Philox-4x32-10, the counter-based random number generator behind every draw.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
A draw is a pure function of (key, counter), so it does not matter who asks for it, or when: the
copies of an environment may be split over threads and machines without changing a single maze.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Four random 32-bit words for one counter and key, each given as 32-bit words.

    Matches the known-answer vectors published with Random123.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = _MULTIPLIERS[0] * c0
        product1 = _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & _MASK,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def draw_goal(seed: int, env_index: int, episode: int) -> int:
    """The goal, -1 or +1, of one env's episode: bit 0 of Philox word 0 at (env, episode, 0, 0).

    Args:
        seed: 0 to 2**64 - 1; its low and high halves are the two key words.
        env_index: global index of the env, 0 to 2**32 - 1.
        episode: index of the episode since the env was seeded, 0 to 2**32 - 1.
    """
    word = philox4x32((env_index, episode, 0, 0), (seed & _MASK, seed >> 32))[0]
    return 1 if word & 1 else -1
