"""What a preset decides: every hyperparameter, from the task, its length and the model.

`default` is whatever learned fastest on two CPU cores; the reasons stand beside each value in
`TrainConfig`. `paper` is what Ni et al. 2023 published.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from fastmaze.agents.returns import ValueScale
from fastmaze.models.gpt import Positions
from fastmaze.models.lstm import LSTMInit
from fastmaze.specs import TaskSpec, TMazeSpec
from fastmaze.specs.pixel_worlds import PixelWorldSpec
from fastmaze.training import presets_pixels

AlgorithmName = Literal["ddqn", "sac-discrete"]
PresetName = Literal["default", "paper"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyperparameters:
    """All values that a preset decides; `TrainConfig` has a field of the same name for each."""

    width: int
    num_layers: int
    num_heads: int
    obs_width: int
    action_width: int
    head_widths: tuple[int, ...]
    positions: Positions
    embedding_scale: float
    pixel_offset: float
    query_std: float
    attention_std: float
    lstm_init: LSTMInit
    dropout: float
    separate_forwards: bool
    act_with_target: bool
    discount: float
    trace: float
    n_step: int
    reward_scale: float
    value_scale: ValueScale
    edge_share: float
    temperature: float
    learning_rate: float
    adam_beta2: float
    warmup_updates: int
    final_learning_rate: float
    stop_after_solved: int
    settle_after: int
    settled_learning_rate: float
    grad_clip: float
    target_rate: float
    batch_size: int
    num_envs: int
    num_episodes: int
    random_episodes: int
    updates_per_round: int
    replay_steps: int
    replay_balance: float
    epsilon: float
    epsilon_spread: bool
    epsilon_anneal: float
    last_step_epsilon: float
    first_step_epsilon: float
    eval_every: int


def default(spec: TaskSpec, model: str, algorithm: AlgorithmName = "ddqn") -> Hyperparameters:
    """Few updates, many environments, rewards and exploration that suit a long corridor.

    A maze whose cue has to be fetched (`oracle_length` > 0) needs credit over the whole episode,
    as does one where no penalty says at once that a step was wrong, or where staying is paid; one
    that shows the cue at the start and has the paper's penalty does not. That is all in which they
    differ. The models differ in one initial size. Of any other task nothing is known, so that
    credit may have to span it; `presets_pixels` says what differs for the pixel worlds.
    """
    T = spec.episode_length
    fetch, far, reward_scale = False, True, 1.0
    if isinstance(spec, TMazeSpec):
        fetch = spec.oracle_length > 0
        far = fetch or spec.penalty == 0 or spec.distract_reward > 0
        reward_scale = -1 / spec.penalty if spec.penalty else float(spec.corridor_length)
    rounds = math.ceil((192 if far else 128) * max(1.0, math.sqrt(T / 51)))
    # A policy explores by itself; and returns that are followed through actions it did not choose
    # would teach it the worth of those.
    sampled = algorithm == "sac-discrete"
    decided = Hyperparameters(
        width=128,
        num_layers=1,
        num_heads=8,
        obs_width=64,
        action_width=64,
        head_widths=(256, 256),
        positions="none",
        embedding_scale=64.0 if model == "lstm" else 4.0,
        pixel_offset=0.8,
        query_std=0.5,
        attention_std=0.16,
        lstm_init="chrono",
        dropout=0.0,
        separate_forwards=False,
        act_with_target=True,
        discount=1.0 if far else 0.0,
        trace=1.0 if far else 0.0,
        n_step=1,
        reward_scale=reward_scale,
        value_scale="symlog",
        edge_share=0.04,
        temperature=0.1,
        learning_rate=1e-3,
        adam_beta2=0.95,
        warmup_updates=20,
        final_learning_rate=0.1,
        stop_after_solved=5,
        settle_after=2 if far else 1,
        settled_learning_rate=0.01,
        grad_clip=1.0,
        target_rate=0.02,
        batch_size=32,
        num_envs=32,
        num_episodes=32 * rounds,
        random_episodes=64,
        updates_per_round=8,
        replay_steps=max(1_000_000, 1_000 * T),
        replay_balance=0.0,
        epsilon=0.0 if sampled else min(1.0, 2 / T),
        epsilon_spread=True,
        epsilon_anneal=0.0,
        last_step_epsilon=0.0 if sampled else 1.0,
        first_step_epsilon=0.0 if sampled else 0.75 if fetch else 0.2,
        eval_every=2 * 32,
    )
    if isinstance(spec, PixelWorldSpec):
        changes = presets_pixels.default_changes(spec, model, algorithm)
        decided = dataclasses.replace(decided, **changes)
    return decided


_PAPER_EPISODES: Final[Mapping[bool, Mapping[int, int]]] = {
    False: {50: 20_000, 100: 20_000, 250: 16_000, 1_250: 8_000, 1_500: 6_700},
    True: {100: 40_000, 250: 32_000, 500: 16_000},
}
"""By whether the cue has to be fetched: up to this corridor length, so many episodes."""


def paper(spec: TaskSpec, model: str, algorithm: AlgorithmName = "ddqn") -> Hyperparameters:
    """The published hyperparameters (Ni et al. 2023, appendix, and the code published with it).

    Raises:
        ValueError: the paper trains on no such task.
    """
    if isinstance(spec, PixelWorldSpec):
        changes = presets_pixels.paper_changes(spec, model, algorithm)
        return dataclasses.replace(_paper(False, spec, model), **changes)
    if algorithm == "sac-discrete" and isinstance(spec, TMazeSpec):
        raise ValueError(
            "preset: paper trains T-Mazes by ddqn and pixel worlds by sac-discrete (Ni et al. "
            "2023); got sac-discrete on a T-Maze: take the default preset"
        )
    if not isinstance(spec, TMazeSpec):
        raise ValueError(
            f"preset: paper has T-Mazes and pixel worlds, which Ni et al. 2023 train on, and no "
            f"{spec.family}"
        )
    fetch = spec.oracle_length > 0
    table = _PAPER_EPISODES[fetch]
    fitting = [n for length, n in sorted(table.items()) if spec.corridor_length <= length]
    num_episodes = fitting[0] if fitting else table[max(table)]
    return dataclasses.replace(_paper(fetch, spec, model), num_episodes=num_episodes)


def _paper(fetch: bool, spec: TaskSpec, model: str) -> Hyperparameters:
    """What is published for the T-Mazes, whether or not the cue has to be fetched."""
    T = spec.episode_length
    layers = 2 if fetch and model == "gpt" else 1
    return Hyperparameters(
        width=128,
        num_layers=layers,
        num_heads=layers,
        obs_width=32 if model == "lstm" else 64,
        action_width=16 if model == "lstm" else 64,
        head_widths=(256, 256),
        positions="sinusoidal",
        embedding_scale=1.0,
        pixel_offset=0.0,
        query_std=0.02,
        attention_std=0.02,
        lstm_init="orthogonal",
        dropout=0.1 if model == "gpt" else 0.0,
        separate_forwards=True,
        act_with_target=False,
        discount=0.99,
        trace=0.0,
        n_step=1,
        reward_scale=1.0,
        value_scale="linear",
        edge_share=0.0,
        temperature=0.1,
        learning_rate=3e-4,
        adam_beta2=0.999,
        warmup_updates=0,
        final_learning_rate=1.0,
        stop_after_solved=0,
        settle_after=0,
        settled_learning_rate=1.0,
        grad_clip=0.0,
        target_rate=0.005,
        batch_size=64,
        num_envs=1,
        num_episodes=20_000,
        random_episodes=10,
        updates_per_round=math.ceil(0.25 * T),
        replay_steps=max(1_000_000, 1_000 * T),
        replay_balance=0.0,
        epsilon=1 / T,
        epsilon_spread=False,
        epsilon_anneal=0.1,
        last_step_epsilon=0.0,
        first_step_epsilon=0.0,
        eval_every=10,
    )


PRESETS: Final = {"default": default, "paper": paper}
"""Preset name to the function that decides."""
