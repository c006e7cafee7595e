"""Checks of configuration values: each names the field, what was expected and what came."""

from __future__ import annotations

import math

from fastmaze.agents.returns import VALUE_SCALES
from fastmaze.models.gpt import POSITIONS
from fastmaze.models.lstm import LSTM_INITS
from fastmaze.training.presets import Hyperparameters


def check_hyperparameters(hyper: Hyperparameters) -> None:
    """Raises TypeError or ValueError, naming the field, for a value out of range."""
    for name, low in (
        ("width", 1),
        ("num_layers", 1),
        ("num_heads", 1),
        ("obs_width", 1),
        ("action_width", 0),
        ("num_envs", 1),
        ("num_episodes", 1),
        ("updates_per_round", 0),
        ("batch_size", 1),
        ("replay_steps", 1),
        ("random_episodes", 0),
        ("eval_every", 1),
        ("stop_after_solved", 0),
        ("settle_after", 0),
        ("n_step", 1),
        ("warmup_updates", 0),
    ):
        integer(name, getattr(hyper, name), low)
    for name, least, most in (
        ("epsilon", 0.0, 1.0),
        ("epsilon_anneal", 0.0, 1.0),
        ("replay_balance", 0.0, 1.0),
        ("last_step_epsilon", 0.0, 1.0),
        ("first_step_epsilon", 0.0, 1.0),
        ("discount", 0.0, 1.0),
        ("trace", 0.0, 1.0),
        ("adam_beta2", 0.0, 1.0 - 1e-9),
        ("final_learning_rate", 0.0, 1.0),
        ("settled_learning_rate", 0.0, 1.0),
        ("target_rate", 0.0, 1.0),
        ("dropout", 0.0, 1.0 - 1e-9),
        ("attention_std", 0.0, math.inf),
        ("query_std", 0.0, math.inf),
        ("embedding_scale", 0.0, math.inf),
        ("edge_share", 0.0, 0.25),
        ("pixel_offset", 0.0, 1.0),
        ("temperature", 0.0, math.inf),
        ("grad_clip", 0.0, math.inf),
        ("learning_rate", 0.0, math.inf),
        ("reward_scale", 0.0, math.inf),
    ):
        real(name, getattr(hyper, name), least, most)
    for name in ("epsilon_spread", "separate_forwards", "act_with_target"):
        if not isinstance(getattr(hyper, name), bool):
            raise TypeError(f"{name}: expected True or False, got {getattr(hyper, name)!r}")
    choose("value_scale", hyper.value_scale, VALUE_SCALES)
    choose("positions", hyper.positions, POSITIONS)
    choose("lstm_init", hyper.lstm_init, LSTM_INITS)
    for width in hyper.head_widths:
        integer("head_widths", width, 1)
    if hyper.width % hyper.num_heads:
        raise ValueError(
            f"num_heads: expected a divisor of width {hyper.width}, got {hyper.num_heads}"
        )
    if hyper.n_step > 1 and hyper.trace > 0:
        raise ValueError(f"n_step: needs trace 0, got n_step {hyper.n_step}, trace {hyper.trace}")


def choose(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")


def integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raises TypeError or ValueError unless `value` is an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {value!r} ({type(value).__name__})")
    if value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {bounds}, got {value}")


def real(name: str, value: object, low: float, high: float) -> None:
    """Raises TypeError or ValueError unless `value` is a finite number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name}: expected a finite number from {low} to {high}, got {value}")
