"""What the presets decide otherwise for the pixel worlds: Visual Match and Key-to-Door."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from fastmaze.specs.pixel_worlds import PixelWorldSpec, VisualMatchSpec

Changes = dict[str, Any]
"""Names of `Hyperparameters` to their values."""


def default_changes(spec: PixelWorldSpec, model: str, algorithm: str) -> Changes:
    """What learned fastest on two CPU cores, against what `default` says of any task.

    Where the colour is in view at the start, memory is needed but no long credit, and a short
    horizon keeps the apples' noise out; elsewhere the first phase earns what the last one pays.
    """
    far = not (isinstance(spec, VisualMatchSpec) and spec.passive)
    rounds = math.ceil(600 * max(1.0, math.sqrt(spec.episode_length / 51)))
    sampled = algorithm == "sac-discrete"
    return {
        "width": 64,
        "num_heads": 4,
        "query_std": 0.16,
        "attention_std": 0.08,
        "obs_width": 64,
        "action_width": 0,
        "head_widths": (128, 128),
        "embedding_scale": 16.0 if model == "lstm" else 1.0,
        "discount": 0.98 if far else 0.9,
        "trace": 0.9 if far else 0.7,
        "temperature": 0.05 if far else 0.1,
        "value_scale": "linear",
        "edge_share": 0.0,
        "learning_rate": 2e-3,
        "num_episodes": 32 * rounds,
        "eval_every": 4 * 32,
        "epsilon": 0.0 if sampled else 0.2,
        "first_step_epsilon": 0.0,
        "last_step_epsilon": 0.0,
    }


_PAPER_EPISODES: Final[Mapping[bool, Mapping[int, int]]] = {
    True: {60: 40_000, 120: 30_000, 250: 15_000, 500: 10_000},
    False: {120: 40_000, 250: 30_000, 500: 15_000},
}
"""By whether colours matter: up to this length, so many episodes."""


def paper_changes(spec: PixelWorldSpec, model: str, algorithm: str) -> Changes:
    """The published hyperparameters, against those of the T-Mazes.

    They were published with SAC-Discrete; Double Q-learning has its T-Mazes' exploration.
    """
    table = _PAPER_EPISODES[spec.is_match]
    fitting = [n for length, n in sorted(table.items()) if spec.length <= length]
    layers = 1 if spec.is_match else 2
    changes: Changes = {
        "width": 128 if model == "lstm" else 100,  # as wide as the embedded image
        "num_layers": layers,
        "num_heads": layers,
        "obs_width": 100,
        "action_width": 0,
        "num_episodes": fitting[0] if fitting else table[max(table)],
        "eval_every": 50,
    }
    if algorithm == "sac-discrete":
        changes |= {"epsilon": 0.0, "epsilon_anneal": 0.0, "separate_forwards": False}
    return changes
