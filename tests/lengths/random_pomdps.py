"""Random small POMDPs with many ties: small integers for weights and rewards, zeros among them."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np

from fastmaze.lengths import TabularPOMDP

SWEEP = int(os.environ.get("FASTMAZE_TEST_POMDPS", "100"))
"""How many random POMDPs the comparisons take."""


def random_pomdp(seed: int, small: bool = False) -> TabularPOMDP:
    """One of many kinds: sparse or dense, certain or random, the same at each step or not.

    Args:
        seed: which.
        small: few enough histories to list all policies.
    """
    rng = np.random.default_rng(seed)
    states = int(rng.integers(1, 4 if small else 6))
    actions = int(rng.integers(1, 3 if small else 4))
    num_obs = int(rng.integers(1, 3 if small else 4))
    horizon = int(rng.integers(1, 4 if small else 5))
    if (actions * num_obs) ** (horizon - 1) > 600:
        horizon -= 1
    steps = horizon if rng.random() < 0.3 else None
    shape = [] if steps is None else [steps]
    look_shape = [] if steps is None else [steps + 1]
    certain = rng.random() < 0.4

    def chances(*size: int) -> np.ndarray:
        if certain:
            return np.eye(size[-1], dtype=int)[rng.integers(size[-1], size=size[:-1])]
        weight = rng.integers(1, 4, size=size) * (rng.random(size) < rng.uniform(0.3, 1))
        weight[..., 0] += weight.sum(-1) == 0
        total = weight.sum(-1, keepdims=True)
        return np.vectorize(Fraction, otypes=[object])(weight, np.broadcast_to(total, size))

    reward = rng.integers(-1, 2, size=(*shape, states, actions))
    reward = reward * (rng.random(reward.shape) < rng.uniform(0.2, 1))
    if steps is not None and rng.random() < 0.5:
        reward[:-1] = 0  # paid at the end only
    return TabularPOMDP.from_arrays(
        chances(1, states)[0],
        chances(*shape, states, actions, states),
        chances(*look_shape, states, num_obs),
        reward,
        horizon=horizon,
        gamma=[Fraction(1), Fraction(1), Fraction(1, 2), Fraction(9, 10), Fraction(0)][
            int(rng.integers(5))
        ],
        name=f"random {seed}",
    )
