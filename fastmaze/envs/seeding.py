"""From Gymnasium's seeds to random streams: which Philox key and counter word each env draws with.

One integer seeds a whole population: the key is the seed and the counter word is the env's global
index. (Gymnasium's own rule, seed + i for env i, would make populations of neighbouring seeds share
nearly all their mazes.) A list of seeds gives env i the stream of a single env with that seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.validation import MAX_ENVS
from fastmaze.specs import check_integer

MAX_SEED = 2**64 - 1
"""A seed is the 64-bit key of Philox-4x32-10."""


class Streams(NamedTuple):
    """New random streams for some envs."""

    keys: npt.NDArray[np.uint64]
    """Philox keys, uint64 [N]."""
    indices: npt.NDArray[np.uint32]
    """Counter words, uint32 [N]."""
    mask: npt.NDArray[np.bool_] | None
    """The envs that get one, bool [N]; None for all."""


def check_seed(name: str, seed: Any) -> int:
    """The seed as an int.

    Raises:
        TypeError: not an integer.
        ValueError: not within 0 to 2**64 - 1.
    """
    return check_integer(name, seed, 0, MAX_SEED)


def is_per_env(seed: Any) -> TypeGuard[Sequence[int | None]]:
    """Whether it is a list of seeds, one per env, rather than one for the population."""
    if isinstance(seed, np.ndarray):
        return seed.ndim > 0
    # Text and bytes are sequences too, but a seed to nobody.
    texts = (str, bytes, bytearray, memoryview)
    return isinstance(seed, Sequence) and not isinstance(seed, texts)


def population_indices(
    env_offset: int, num_envs: int, name: str = "env_offset"
) -> npt.NDArray[np.uint32]:
    """Global indices of a population's envs, uint32 [num_envs], the first being `env_offset`.

    `name` is what an error calls the offset.
    """
    offset = check_integer(name, env_offset, 0, MAX_ENVS - 1)
    if offset + num_envs > MAX_ENVS:
        raise ValueError(f"{name} + num_envs: expected at most {MAX_ENVS}, got {offset + num_envs}")
    return np.arange(offset, offset + num_envs, dtype=np.uint32)


def population_streams(seed: Any, indices: npt.NDArray[np.uint32]) -> Streams:
    """The streams of a population with one seed, whose envs have these global indices."""
    return Streams(np.full(len(indices), check_seed("seed", seed), np.uint64), indices, None)


def seed_streams(
    seed: int | Sequence[int | None] | None, indices: npt.NDArray[np.uint32]
) -> Streams | None:
    """The streams that `reset(seed=seed)` asks for; None to go on with the present ones.

    Args:
        seed: one seed for the population, or a list of one seed (or None) per env, or None.
        indices: the envs' global indices, uint32 [N].
    """
    if seed is None:
        return None
    num_envs = len(indices)
    if not is_per_env(seed):
        return population_streams(seed, indices)
    if len(seed) != num_envs:
        raise ValueError(f"seed: expected {num_envs} seeds, one per env, got {len(seed)}")
    keys = np.zeros(num_envs, np.uint64)
    mask = np.ones(num_envs, np.bool_)
    for i, entry in enumerate(seed):
        if entry is None:
            mask[i] = False
        else:
            keys[i] = check_seed(f"seed[{i}]", entry)
    everyone = bool(mask.all())
    return Streams(keys, np.zeros(num_envs, np.uint32), None if everyone else mask)


def fill_streams(streams: Streams | None, others: Streams) -> Streams:
    """`streams` where they say something, `others` for the remaining envs."""
    if streams is None or streams.mask is None:
        return streams or others
    keys = np.where(streams.mask, streams.keys, others.keys)
    return Streams(keys, np.where(streams.mask, streams.indices, others.indices), None)
