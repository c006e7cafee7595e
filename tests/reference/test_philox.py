"""Every Philox of ours gives the words published with Random123 (file kat_vectors)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmaze import _native
from fastmaze.envs.backends import numba_kernels
from fastmaze.reference.philox import draw_goal, philox4x32

ONES = 0xFFFFFFFF
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
word = st.integers(0, ONES)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert philox4x32(counter, key) == words
    assert _native.philox4x32(*counter, *key) == words


@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_native_equals_readable(counter: tuple[int, int, int, int], key: tuple[int, int]) -> None:
    assert _native.philox4x32(*counter, *key) == philox4x32(counter, key)


@given(st.integers(0, 2**64 - 1), word, word)
def test_numba_goal_equals_readable(seed: int, env: int, episode: int) -> None:
    drawn = numba_kernels.draw_goal(np.uint64(seed), np.uint32(env), np.uint32(episode))
    assert drawn == draw_goal(seed, env, episode)


def test_goals_are_fair_and_independent() -> None:
    """Over envs, episodes and seeds: half of the goals are up, neighbours are uncorrelated."""
    goals = np.array([[draw_goal(5, i, k) for k in range(100)] for i in range(100)])
    assert abs(goals.mean()) < 5 / 100
    assert abs((goals[1:] * goals[:-1]).mean()) < 5 / 99
    assert abs((goals[:, 1:] * goals[:, :-1]).mean()) < 5 / 99
    other = np.array([[draw_goal(6, i, k) for k in range(100)] for i in range(100)])
    assert abs((goals * other).mean()) < 5 / 100
