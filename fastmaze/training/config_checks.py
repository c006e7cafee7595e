"""Checks of configuration values: each names the field, what was expected and what came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fastmaze.agents.returns import VALUE_SCALES
from fastmaze.models.attention import ATTENTION_IMPLS
from fastmaze.models.gpt import POSITIONS
from fastmaze.models.lstm import LSTM_INITS
from fastmaze.models.own_model import absolute, is_own, load_own
from fastmaze.specs import FAMILIES, dial_of
from fastmaze.training.presets import PRESETS, Hyperparameters

if TYPE_CHECKING:
    from fastmaze.training.config import TrainConfig

SEED_LIMIT: Final = 2**31
"""Seeds are below this, so that evaluation can use streams that no training run uses."""


def check_run(config: TrainConfig) -> None:
    """Checks what no preset decides."""
    choose("preset", config.preset, tuple(PRESETS))
    choose("algorithm", config.algorithm, ("ddqn", "sac-discrete"))
    _check_model(config.model)
    choose("backend", config.backend, ("native", "numba", "device", "reference"))
    choose("attention_impl", config.attention_impl, ATTENTION_IMPLS)
    choose("float32_precision", config.float32_precision, ("tf32", "ieee"))
    choose("replay_on", config.replay_on, ("auto", "device", "cpu"))
    _check_update(config)
    if not isinstance(config.device, str):
        raise TypeError(f"device: expected a string, got {type(config.device).__name__}")
    integer("seed", config.seed, 0, SEED_LIMIT - 1)
    if config.num_threads is not None:
        integer("num_threads", config.num_threads, 1, 4096)
    integer("eval_episodes", config.eval_episodes, 1)
    real("checkpoint_seconds", config.checkpoint_seconds, 0.0, math.inf)
    if config.checkpoint_every is not None:
        integer("checkpoint_every", config.checkpoint_every, 1)
    integer("keep_checkpoints", config.keep_checkpoints, 1, 1000)
    if config.max_minutes is not None:
        real("max_minutes", config.max_minutes, 0.0, math.inf)
    if not isinstance(config.task_options, dict):
        raise TypeError(f"task_options: expected a dict, got {type(config.task_options).__name__}")
    for name in ("length", "corridor_length", dial_of(config.task)):
        if name in config.task_options:
            raise ValueError(f"task_options: {name} is set by the field `length`")
    _check_task(config)


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


def check_together(config: TrainConfig) -> None:
    """Checks what is asked for beside what the preset decides."""
    # A batch of more episodes than are ever kept would hold most of them several times.
    batch, kept = config.hyper.batch_size, config.replay_episodes
    if batch > kept:
        raise ValueError(
            f"batch_size: expected at most the {kept} episodes that the replay keeps "
            f"(replay_steps {config.hyper.replay_steps:,}, episodes of "
            f"{config.spec.episode_length:,} steps, num_episodes {config.hyper.num_episodes:,}), "
            f"got {batch}"
        )
    if config.model == "gpt" and config.attention_impl == "sdpa" and config.hyper.dropout > 0:
        raise ValueError(
            f"attention_impl: sdpa needs dropout 0 (it would drop other weights than the rest"
            f" do), got dropout {config.hyper.dropout}; auto and triton have dropout"
        )


def _check_model(model: str) -> None:
    """Checks that there is such a memory model; what it can do is seen when a run begins."""
    if not isinstance(model, str):
        raise TypeError(
            "model: expected gpt, lstm, or as text where one of your own is, FILE.py:NAME or "
            f"MODULE:NAME, got {model!r}"
        )
    if is_own(model):
        load_own(absolute(model))
    elif model not in ("gpt", "lstm"):
        raise ValueError(
            "model: expected gpt, lstm, or one of your own as FILE.py:NAME or MODULE:NAME, got "
            f"{model!r}"
        )


def _check_task(config: TrainConfig) -> None:
    """Checks the task, its length and its options, and that all this can be trained on it."""
    spec = config.spec
    if spec.ends_early:
        raise ValueError(
            f"task: the trainer plays whole episodes of equal length, and those of {config.task} "
            "may end early"
        )
    if spec.obs_dtype == "uint8" and len(spec.obs_shape) != 3:
        raise ValueError(
            "task_options: the network wants images, [channels, rows, columns], got flat ones "
            f"of shape {list(spec.obs_shape)}; leave out flat"
        )
    backends = FAMILIES[spec.family].backends
    if config.backend not in backends:
        raise ValueError(f"backend: {config.task} has {backends}, got {config.backend!r}")
    if config.backend == "device" and config.algorithm == "sac-discrete":
        raise ValueError(
            "backend: device plays greedily and at random, while sac-discrete draws actions "
            "from its policy; leave it at native"
        )


def _check_update(config: TrainConfig) -> None:
    """Checks how an update is computed."""
    if config.algorithm == "sac-discrete" and config.separate_forwards:
        raise ValueError("separate_forwards: needs algorithm ddqn, got sac-discrete")
    if config.algorithm == "ddqn" and config.temperature is not None:
        raise ValueError("temperature: needs algorithm sac-discrete, got ddqn")
    choose("compute_dtype", config.compute_dtype, ("float32", "bfloat16"))
    if config.model == "lstm" and config.compute_dtype == "bfloat16":
        raise ValueError(
            "compute_dtype: bfloat16 needs model gpt: an LSTM that remembers T steps forgets "
            "1/T a step, which bfloat16 cannot tell from nothing beyond T = 256; got lstm"
        )
    if config.model != "gpt" and config.recompute:
        raise ValueError(f"recompute: needs model gpt, whose blocks it repeats; got {config.model}")
    if config.micro_batch_size is not None:
        integer("micro_batch_size", config.micro_batch_size, 1)
    for name in ("compile_update", "cuda_graph_update"):
        if not isinstance(getattr(config, name), bool):
            raise TypeError(f"{name}: expected True or False, got {getattr(config, name)!r}")
    if config.recompute is not None and not isinstance(config.recompute, bool):
        raise TypeError(f"recompute: expected True, False or None, got {config.recompute!r}")


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
