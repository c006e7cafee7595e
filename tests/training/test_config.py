"""Protects the configuration: presets, overrides, refusals, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fastmaze.training import TrainConfig
from fastmaze.training.presets import Hyperparameters


def test_every_hyperparameter_can_be_overridden() -> None:
    """A preset decides only what TrainConfig leaves open, and TrainConfig can say everything."""
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    for field in dataclasses.fields(Hyperparameters):
        assert fields[field.name].default is None, field.name
    assert TrainConfig(learning_rate=1e-3).hyper.learning_rate == 1e-3
    assert TrainConfig(preset="paper", num_envs=7).hyper.num_envs == 7


@pytest.mark.parametrize(
    ("task", "length", "episodes"),
    [
        ("PassiveTMaze", 50, 20_000),
        ("PassiveTMaze", 100, 20_000),
        ("PassiveTMaze", 250, 16_000),
        ("PassiveTMaze", 500, 8_000),
        ("PassiveTMaze", 1250, 8_000),
        ("PassiveTMaze", 1500, 6_700),
        ("ActiveTMaze", 20, 40_000),
        ("ActiveTMaze", 100, 40_000),
        ("ActiveTMaze", 250, 32_000),
        ("ActiveTMaze", 500, 16_000),
    ],
)
def test_paper_preset_holds_the_published_values(task: str, length: int, episodes: int) -> None:
    config = TrainConfig(task=task, length=length, preset="paper")
    hyper, T = config.hyper, config.spec.episode_length
    assert hyper.num_episodes == episodes
    assert hyper.updates_per_round == -(-T // 4)
    assert hyper.replay_steps == max(1_000_000, 1_000 * T)
    layers = 2 if task == "ActiveTMaze" else 1
    published: dict[str, Any] = dict(
        width=128, num_layers=layers, num_heads=layers, obs_width=64, action_width=64,
        head_widths=(256, 256), positions="sinusoidal", attention_std=0.02, dropout=0.1,
        separate_forwards=True,
        act_with_target=False, discount=0.99, trace=0.0, n_step=1, reward_scale=1.0,
        value_scale="linear", edge_share=0.0, query_std=0.02, embedding_scale=1.0,
        learning_rate=3e-4, warmup_updates=0, final_learning_rate=1.0, settle_after=0,
        settled_learning_rate=1.0, stop_after_solved=0, grad_clip=0.0,
        target_rate=0.005, batch_size=64, num_envs=1, random_episodes=10, epsilon=1 / T,
        epsilon_spread=False, epsilon_anneal=0.1, last_step_epsilon=0.0, first_step_epsilon=0.0,
        eval_every=10,
    )  # fmt: skip
    assert {name: getattr(hyper, name) for name in published} == published


def test_paper_lstm_is_the_published_one() -> None:
    hyper = TrainConfig(task="ActiveTMaze", model="lstm", preset="paper").hyper
    assert (hyper.num_layers, hyper.lstm_init, hyper.dropout) == (1, "orthogonal", 0.0)
    assert (hyper.width, hyper.obs_width, hyper.action_width) == (128, 32, 16)


def test_a_cue_that_has_to_be_fetched_changes_credit_and_exploration() -> None:
    shown, fetched = TrainConfig(task="PassiveTMaze").hyper, TrainConfig(task="ActiveTMaze").hyper
    assert shown.discount < 1 == fetched.discount
    assert shown.trace == 0 < fetched.trace
    assert shown.first_step_epsilon < fetched.first_step_epsilon
    same = TrainConfig(task="TMaze", task_options={"oracle_length": 2}).hyper
    assert (same.discount, same.trace) == (fetched.discount, fetched.trace)


def test_the_dial_moves_what_depends_on_it() -> None:
    short, long = TrainConfig(length=50), TrainConfig(length=500)
    assert long.spec.corridor_length == 500
    assert long.hyper.reward_scale > short.hyper.reward_scale
    assert long.hyper.epsilon < short.hyper.epsilon
    # Also after the fact: nothing is remembered from the old length.
    assert dataclasses.replace(short, length=500).hyper == long.hyper


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(task="TMaze", task_options={"oracle_length": 1, "penalty": -0.5}, seed=3),
        TrainConfig(preset="paper", model="lstm", head_widths=(8,), run_dir=Path("somewhere")),
    ],
)
def test_json_and_back(config: TrainConfig) -> None:
    text = json.dumps(config.to_json())
    assert TrainConfig.from_json(json.loads(text)) == config


def test_what_was_decided_outlives_the_preset() -> None:
    """A run of a version with other defaults keeps its network and its settings."""
    saved = TrainConfig(length=20).to_json()
    saved["hyper"] |= {"num_heads": 2, "head_widths": [32], "reward_scale": 7.5}
    config = TrainConfig.from_json(saved)
    assert (config.hyper.num_heads, config.hyper.head_widths) == (2, (32,))
    assert config.hyper == dataclasses.replace(
        TrainConfig(length=20).hyper, num_heads=2, head_widths=(32,), reward_scale=7.5
    )


def test_a_newer_versions_field_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected fields of TrainConfig, got \['warp_drive'\]"):
        TrainConfig.from_json({**TrainConfig().to_json(), "warp_drive": 1})


def test_an_attention_of_version_0_1_is_read() -> None:
    """ "torch" was the only one there was; with dropout, too."""
    old = {**TrainConfig(preset="paper").to_json(), "attention_impl": "torch"}
    del old["float32_precision"]
    assert TrainConfig.from_json(old) == TrainConfig(preset="paper")


def test_sdpa_is_fine_where_nothing_is_dropped() -> None:
    assert TrainConfig(attention_impl="sdpa").hyper.dropout == 0
    TrainConfig(attention_impl="sdpa", model="lstm", dropout=0.1)  # has no attention


def test_differences_name_what_differs_and_ignore_where_it_runs() -> None:
    config = TrainConfig()
    assert config.differences(TrainConfig(run_dir=Path("x"), backend="numba")) == []
    assert config.differences(TrainConfig(learning_rate=config.hyper.learning_rate)) == []
    lines = config.differences(TrainConfig(seed=1, length=51))
    assert "seed: 0, 1" in lines
    assert "corridor_length: 50, 51" in lines


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "PasiveTMaze"}, "did you mean 'PassiveTMaze'"),
        ({"length": 0}, "length: expected an integer from 1"),
        ({"length": 2.5}, "length: expected an integer"),
        ({"task_options": {"penalty": 1.0}}, "penalty: expected a number <= 0"),
        ({"task_options": {"colour": 1}}, "no option 'colour'"),
        ({"task_options": {"length": 9}}, "set by the field `length`"),
        ({"task_options": [1]}, "task_options: expected a dict"),
        ({"model": "mamba"}, "model: expected gpt, lstm, or one of your own"),
        ({"preset": "fast"}, "preset: expected one of"),
        ({"backend": "cuda"}, "backend: expected one of"),
        ({"attention_impl": "flash"}, "attention_impl: expected one of"),
        ({"attention_impl": "torch"}, "attention_impl: expected one of"),
        ({"attention_impl": "sdpa", "dropout": 0.1}, "attention_impl: sdpa needs dropout 0"),
        ({"attention_impl": "sdpa", "preset": "paper"}, "got dropout 0.1"),
        ({"float32_precision": "fp32"}, "float32_precision: expected one of"),
        ({"device": 0}, "device: expected a string"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"seed": True}, "seed: expected an integer"),
        ({"num_threads": 0}, "num_threads: expected an integer from 1"),
        ({"eval_episodes": 0}, "eval_episodes: expected an integer of at least 1"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds: expected a finite number"),
        ({"batch_size": 0}, "batch_size: expected an integer of at least 1, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a finite number"),
        ({"discount": 1.01}, "discount: expected a finite number from 0.0 to 1.0, got 1.01"),
        ({"epsilon": "0.1"}, "epsilon: expected a number, got '0.1' (str)"),
        ({"num_heads": 3}, "num_heads: expected a divisor of width 128, got 3"),
        ({"n_step": 3, "trace": 0.5}, "n_step: needs trace 0"),
        ({"positions": "alibi"}, "positions: expected one of"),
        ({"lstm_init": "zeros"}, "lstm_init: expected one of"),
        ({"head_widths": (64, 0)}, "head_widths: expected an integer of at least 1, got 0"),
        ({"epsilon_spread": 1}, "epsilon_spread: expected True or False, got 1"),
    ],
)
def test_errors_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        TrainConfig(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "discount"),
    [({"penalty": -0.2}, 0.0), ({}, 1.0), ({"penalty": -0.2, "distract_reward": 0.1}, 1.0),
     ({"penalty": -0.2, "oracle_length": 2}, 1.0)],
    ids=["penalty", "none", "paid-to-stay", "fetch"],
)  # fmt: skip
def test_rewards_far_off_count_where_no_penalty_says_at_once_what_is_wrong(
    options: dict[str, Any], discount: float
) -> None:
    hyper = TrainConfig(task="TMaze", length=5, task_options=options).hyper
    assert (hyper.discount, hyper.trace) == (discount, discount)
    assert hyper.reward_scale == 5.0


@pytest.mark.parametrize(
    ("task", "dial"), [("RepeatFirst", "decks"), ("DelayedCatch", "runs"), ("TMaze", "length")]
)
def test_the_length_is_set_once(task: str, dial: str) -> None:
    with pytest.raises(ValueError, match=f"task_options: {dial} is set by the field `length`"):
        TrainConfig(task=task, length=3, task_options={dial: 2})


def test_a_length_out_of_range_is_told_by_its_name() -> None:
    with pytest.raises(ValueError, match="length, here the decks of Autoencode: decks: expected"):
        TrainConfig(task="Autoencode", length=50)


@pytest.mark.parametrize("task", ["PassiveTMaze", "ActiveTMaze", "TMazeLong", "KeyToDoor"])
def test_a_policy_is_not_made_to_act_at_random(task: str) -> None:
    """Returns that are followed through actions it did not choose would teach their worth."""
    hyper = TrainConfig(task=task, length=9, algorithm="sac-discrete").hyper
    assert hyper.trace == 0 or max(
        hyper.epsilon, hyper.first_step_epsilon, hyper.last_step_epsilon
    ) == 0  # fmt: skip


def test_what_belongs_to_the_other_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="separate_forwards: needs algorithm ddqn"):
        TrainConfig(algorithm="sac-discrete", separate_forwards=True)
    with pytest.raises(ValueError, match="temperature: needs algorithm sac-discrete"):
        TrainConfig(temperature=0.2)
    with pytest.raises(ValueError, match="preset: paper trains T-Mazes by ddqn"):
        TrainConfig(algorithm="sac-discrete", preset="paper")
