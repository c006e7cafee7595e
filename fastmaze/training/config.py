"""What a training run is: one frozen dataclass, which the command line's help is made from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastmaze.agents.returns import ValueScale
from fastmaze.models.attention import AttentionImpl
from fastmaze.models.gpt import Positions, counts_tokens
from fastmaze.models.lstm import LSTMInit, shares_histories
from fastmaze.models.own_model import absolute, is_own, short_name
from fastmaze.specs import TaskSpec, dial_of, make_spec
from fastmaze.training.config_checks import check_hyperparameters, check_run, check_together
from fastmaze.training.presets import (
    PRESETS,
    AlgorithmName,
    Hyperparameters,
    PresetName,
)

OptionValue = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run of a memory agent on a task.

    `length` is the one dial; every field that is None is decided by the preset, from the task and
    its length. What was decided is in `hyper`, and in the run's config.json.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range, or two fields exclude each other.
    """

    task: str = "PassiveTMaze"
    """Any of `fastmaze tasks`, e.g. PassiveTMaze (the cue shows at the start), ActiveTMaze (it has
    to be fetched), PassiveVisualMatch or KeyToDoor."""
    length: int = 50
    """The one dial: the length of the corridor, of the distractor phase … Memory and budget grow
    with it."""
    task_options: dict[str, OptionValue] = field(default_factory=dict)
    """More options of the task, e.g. penalty_rule action."""
    algorithm: AlgorithmName = "ddqn"
    """What is learned: ddqn (action values) or sac-discrete (a policy and twin critics on one
    encoder)."""
    model: str = "gpt"
    """Memory model: gpt (transformer), lstm, or one of your own, e.g. my_model.py:GRU or
    package.module:GRU (docs/plug-ins.md). What it names is run, also by `evaluate` and on resuming,
    as it is then."""
    preset: PresetName = "default"
    """Who decides what is left open below: default (what learned fastest) or paper (what Ni et
    al. 2023 published). Values named below are those for T-Mazes; the pixel worlds have some of
    their own (fastmaze/training/presets_pixels.py), and a run's config.json has all that hold."""
    seed: int = 0
    """Seed of everything random. Same seed, same configuration: the same run, on a CPU."""

    run_dir: Path | None = None
    """Where the run is kept. Default: runs/TASK-LENGTH-MODEL-seedSEED (with the algorithm before
    MODEL if it is not ddqn), with a number behind it if that is taken."""
    device: str = "cpu"
    """Where the networks live, e.g. cpu or cuda. Short mazes train fastest on a CPU."""
    num_threads: int | None = None
    """Threads of PyTorch. Default: all. Sums are split over threads, so another number of threads
    rounds differently and gives another, equally good, run."""
    backend: Literal["native", "numba", "device", "reference"] = "native"
    """What steps the environments: native (C++), numba, device (tensors on `device`, where whole
    episodes are then played without waiting, on a GPU by CUDA graphs), or reference (slow, readable
    Python). The choice changes the speed, not the run (device drops others with dropout)."""
    attention_impl: AttentionImpl = "auto"
    """Which attention (gpt): triton (this package's kernels, on a GPU), sdpa (PyTorch's, without
    dropout), reference (the plain formula, for comparison), or auto, the best of what runs: on a
    CPU, in one block without positions and dropout, each distinct history once instead of every
    step. They differ by rounding alone: the same seed drops the same weights in each."""
    float32_precision: Literal["tf32", "ieee"] = "tf32"
    """How matrix products of float32 are made on a GPU, for the time of the run: tf32 (factors
    rounded to 10 bits after the point; the attention kernels want it) or ieee (exact; auto then
    takes PyTorch's attention). cuDNN's LSTM keeps to PyTorch's own switch, a CPU is always exact.
    """
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """What an update's transformer blocks compute in (gpt, on a GPU): float32, or bfloat16 by
    autocast, half the memory traffic. Weights, Adam, embedder, head, targets, loss and rollouts
    stay float32."""
    micro_batch_size: int | None = None
    """Episodes of a batch that go through the networks at once; their gradients add up to the
    batch's. Default: on a CPU what is fastest, about 4,096 steps, or 16,384 distinct histories
    where these are shared (lstm: half as many); on a GPU what 12 GiB of activations hold, which is
    the whole batch but for very long episodes."""
    recompute: bool | None = None
    """Run each block (gpt) forward a second time in the backward pass instead of keeping what it
    computed: less memory, a third more work, the same result. Default: where one episode alone
    would take more than 12 GiB (on a CPU 4)."""
    compile_update: bool = False
    """Compile the update's networks with torch.compile: a minute first, then faster on a GPU.
    Rounds differently. Where it fails, the run says so and goes on without."""
    cuda_graph_update: bool = False
    """Capture the update in a CUDA graph: faster where episodes are short (below about 1,000
    steps, starting kernels takes longer than their work). Where it fails, the run says so and
    goes on without."""
    replay_on: Literal["auto", "device", "cpu"] = "auto"
    """Where the replay is kept: on `device`, from where a batch is never copied; on the cpu; or
    auto, on the device if all fits there. The choice changes the speed, not the run."""

    num_episodes: int | None = None
    """Budget, the run's definite end, in whole rounds; the learning rate falls over it. Default:
    4,096 (6,144 if the cue has to be fetched) up to length 50, growing with the square root of the
    length beyond; a run ends sooner once it has solved the task, see `stop_after_solved`. Paper:
    6,700 to 40,000, by length."""
    num_envs: int | None = None
    """Episodes collected together; one round. Default: 32, one batch for the network. Paper: 1."""
    updates_per_round: int | None = None
    """Gradient updates after each round. Default: 8: counted in updates, the cost of learning
    hardly grows with length. Paper: a quarter of the episode's steps."""
    batch_size: int | None = None
    """Whole episodes per update. Default: 32, where 8 often did not find recall in five times the
    updates. Paper: 64."""
    replay_balance: float | None = None
    """Share of each batch that is drawn from successful episodes, once there are any; the rest
    is drawn from all. Both: 0."""
    replay_steps: int | None = None
    """Steps that the replay keeps, in whole episodes. Both: 1,000,000, or 1,000 episodes."""
    random_episodes: int | None = None
    """Episodes of random actions first. Default: 64, just enough to see that no action but
    "right" pays: they never reach the junction and only dilute the replay. Paper: 10."""
    eval_every: int | None = None
    """Episodes between two evaluations. Default: 64. Paper: 10."""
    eval_episodes: int = 256
    """Greedy episodes of an evaluation: at a success of 0.99 its standard error is 0.006. One that
    has seen more failures than a solved task may have ends early."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints, which a killed run goes on from; more where a checkpoint
    takes so long to write that it would cost over 5 % of the time. One is also written at the
    start, at the end, and on Ctrl-C or SIGTERM."""
    checkpoint_every: int | None = None
    """Also write a checkpoint whenever so many rounds are done, whatever it costs."""
    keep_checkpoints: int = 2
    """Checkpoints kept, the newest included: if that one is damaged, the one before it serves."""
    max_minutes: float | None = None
    """Stop after so many minutes of this process, with a checkpoint, at the end of the round that
    is under way: leave room for that. For machines lent by the hour; --resume goes on, with a
    limit of its own."""

    epsilon: float | None = None
    """Chance of a random action. Default: 2/T, T the episode's length: one wrong step in the
    corridor loses the episode, so a fixed share of episodes must be free of them. Paper: 1/T."""
    epsilon_spread: bool | None = None
    """Spread the chance over the environments, from 0 to `epsilon`: some reach the junction at
    all costs, others look left and right. Default: yes. Paper: no (there is one environment)."""
    epsilon_anneal: float | None = None
    """Share of the budget over which `epsilon` falls from 1. Default: 0. Paper: 0.1."""
    last_step_epsilon: float | None = None
    """Least chance of a random action at the last step. Default: 1: nothing that
    follows can be spoilt, and every arm is tried equally often with each cue; with 0.3, a run that
    first learned one cue saw too few successes with the other. Paper: 0."""
    first_step_epsilon: float | None = None
    """Least chance of a random action at the first step. Default: 0.2, because what is
    learned about the cue leaks into the values at the step that shows it, and rare mistakes there
    correct it too slowly; 0.75 if the cue has to be fetched: the first step decides whether it is.
    Paper: 0."""

    discount: float | None = None
    """Worth of a reward one step later. Default: 0 if the cue shows at the start and a
    penalty follows each wrong step at once: credit then spans one step, and nothing needs to be
    known about rewards far off; 1 otherwise, as where the cue has to be fetched, which pays off T
    steps later.
    Paper: 0.99."""
    trace: float | None = None
    """How far returns are followed before bootstrapping: lambda of Watkins' Q(lambda) (ddqn) or,
    uncorrected for what the policy would do now, of Peng's (sac-discrete). Default: 0 (one step)
    where `discount` is 0, and 1 where that is 1. Paper: 0."""
    n_step: int | None = None
    """Rewards summed before bootstrapping, for `trace` 0. Both: 1."""
    reward_scale: float | None = None
    """Rewards are multiplied by this for learning. Default: L, so that a step's penalty is 1 at any
    length (1 / penalty if that is another than the paper's). Paper: 1."""
    temperature: float | None = None
    """What a nat of the policy's entropy is worth (sac-discrete), in rewards for learning. Default:
    0.1; on pixels 0.05 where credit is long, as with 0.1 the key was found later. Paper: 0.1."""
    value_scale: ValueScale | None = None
    """What the networks predict: linear (returns) or symlog (their signed logarithm). Default:
    symlog: a goal worth T penalties is then worth log T of them, and drowns none. Paper: linear."""
    edge_share: float | None = None
    """Share of the loss that each edge of an episode has, 0 for 1/T as all other steps; edges are
    the first step, the last, and those at which the reward changes. Default: 0.04: one in T, they
    alone show the cue, ask for it, and say that a turn was wrong. Without a share for that, what is
    learned of the junction's arms leaks into the corridor, and the agent turns there for a hundred
    updates. Paper: 0."""
    learning_rate: float | None = None
    """Adam's step size. Default: 1e-3. Paper: 3e-4."""
    adam_beta2: float | None = None
    """Adam's decay of squared gradients. Default: 0.95: learning one cue makes large
    gradients, after which 0.999 is deaf to the other for hundreds of updates. Paper: 0.999."""
    warmup_updates: int | None = None
    """Updates over which the learning rate rises from 0. Default: 20. Paper: 0."""
    final_learning_rate: float | None = None
    """Learning rate at the budget's end, as a share of the full one; linear in between. Default:
    0.1. Paper: 1."""
    stop_after_solved: int | None = None
    """Evaluations in a row that find the task solved after which the run ends before its budget
    does; 0 for never. Default: 5, which is ten rounds of further learning that a solution has to
    outlive. Paper: 0."""
    settle_after: int | None = None
    """Hold on to a solution: when so many evaluations in a row find the task solved, go on from
    the evaluated weights at `settled_learning_rate`; when a later one fails, learn on at the full
    rate, and settle one evaluation later next time. 0 for never. Default: 1; 2 where the cue has
    to be fetched, as first solutions are still on the edge there. Without it, a solution is
    sometimes lost again for a while. Paper: 0."""
    settled_learning_rate: float | None = None
    """Learning rate once settled (see `settle_after`), as a share of the full one. Default:
    0.01: at 0.03 some solutions were lost within a hundred updates. Paper: not used."""
    grad_clip: float | None = None
    """Largest norm of a gradient, 0 for any. Default: 1: the rare goal rewards make rare large
    gradients. Paper: 0."""
    target_rate: float | None = None
    """Share by which the target network moves to the online one after each update. Default: 0.02.
    Paper: 0.005."""
    separate_forwards: bool | None = None
    """Pick the next actions in a forward pass of their own. Default: no; the pass that predicts
    serves both and is exactly equal without dropout. Paper: yes."""
    act_with_target: bool | None = None
    """Evaluate and keep the target network, an average over the last 1 / `target_rate` updates,
    instead of the online one. Default: yes: it is steadier. Paper: no."""

    width: int | None = None
    """Width of the memory model. Both: 128."""
    num_layers: int | None = None
    """Layers of the memory model. Default: 1. Paper: 1; gpt 2 if the cue has to be fetched."""
    num_heads: int | None = None
    """Attention heads of each layer (gpt). Default: 8, on pixels 4: each is one more chance that
    the cue is heard from the start (`query_std`). Paper: as `num_layers`."""
    obs_width: int | None = None
    """Width of the embedded observation. Default: 64. Paper: 64, lstm 32."""
    action_width: int | None = None
    """Width of the embedded previous action, 0 to leave it out. Default: 64; 0 on pixels, as the
    paper there. Paper: 64, lstm 16."""
    head_widths: tuple[int, ...] | None = None
    """Hidden widths of the head that makes action values. Both: 256 256."""
    positions: Positions | None = None
    """How the transformer knows a step's place. Default: none: what was learnt at one step of the
    corridor then holds at every other. Paper: sinusoidal."""
    embedding_scale: float | None = None
    """Size of the embedder's initial weights, against PyTorch's default. Default: 4; lstm 64, so
    that the cue opens gates that are biased to let one part in T through (with 1, recall over 250
    steps is not found in a few hundred supervised updates, with 64 in a hundred). Paper: 1."""
    pixel_offset: float | None = None
    """Subtracted from pixels, 0 to 1. Default: 0.8, the floor's: what is no floor then stands out.
    Paper: 0."""
    query_std: float | None = None
    """Standard deviation of the initial weights of attention's queries and keys. Default: 0.5, on
    pixels 0.16: heads begin with likes and dislikes that outweigh the logarithm of T, so that each
    cue is heard by some head among any number of steps; with 0.16 that is luck, and with 0.02 each
    step is one in T. Paper: 0.02."""
    attention_std: float | None = None
    """Standard deviation of the initial weights of attention's values and output. Default: 0.16, on
    pixels 0.08. Paper: 0.02."""
    lstm_init: LSTMInit | None = None
    """Initial weights of the LSTM. Default: chrono, biased to remember for up to T steps: the
    published one forgets within tens. Paper: orthogonal, with zero biases."""
    dropout: float | None = None
    """Dropout of the transformer, in rollouts and targets too. Default: 0: with it, recall took
    twice the updates. Paper: 0.1."""

    def __post_init__(self) -> None:
        check_run(self)
        # One's own model is wherever the run goes on.
        if is_own(self.model):
            object.__setattr__(self, "model", absolute(self.model))
        if self.run_dir is not None:
            object.__setattr__(self, "run_dir", Path(self.run_dir))
        check_hyperparameters(self.hyper)
        check_together(self)

    @property
    def spec(self) -> TaskSpec:
        """The task."""
        try:
            return make_spec(self.task, **self.env_options)
        except ValueError as error:
            dial = dial_of(self.task)
            if dial != "length" and str(error).startswith(f"{dial}:"):
                raise ValueError(f"length, here the {dial} of {self.task}: {error}") from error
            raise

    @property
    def shares_histories(self) -> bool:
        """Whether an update computes each distinct history once (a transformer: if tokens are few).

        Images are not looked through: they differ too much.
        """
        hyper, device = self.hyper, self.device.split(":")[0]
        seen_whole = self.compile_update or hyper.separate_forwards
        if self.algorithm != "ddqn" or seen_whole or self.spec.obs_dtype == "uint8":
            return False
        if self.model == "lstm":
            return shares_histories(device) and self.compute_dtype == "float32"
        return self.model == "gpt" and counts_tokens(
            num_layers=hyper.num_layers,
            positions=hyper.positions,
            dropout=hyper.dropout,
            attention_impl=self.attention_impl,
            device=device,
        )

    @property
    def env_options(self) -> dict[str, Any]:
        """Keywords for `fastmaze.make_vec` that say which task."""
        return {dial_of(self.task): self.length, **self.task_options}

    @property
    def hyper(self) -> Hyperparameters:
        """Every hyperparameter: what was asked for, and what the preset says to the rest."""
        decided = PRESETS[self.preset](self.spec, self.model, self.algorithm)
        names = [f.name for f in dataclasses.fields(Hyperparameters)]
        asked = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "head_widths" in asked:
            asked["head_widths"] = tuple(asked["head_widths"])
        return dataclasses.replace(decided, **asked)

    @property
    def directory(self) -> Path:
        """Where the run is kept."""
        algorithm = "" if self.algorithm == "ddqn" else f"{self.algorithm}-"
        name = f"{self.task}-{self.length}-{algorithm}{short_name(self.model)}-seed{self.seed}"
        return Path("runs") / name if self.run_dir is None else self.run_dir

    @property
    def num_rounds(self) -> int:
        """Rounds of `num_envs` episodes each."""
        hyper = self.hyper
        return math.ceil(hyper.num_episodes / hyper.num_envs)

    @property
    def replay_episodes(self) -> int:
        """Episodes that the replay keeps: no more than will ever be played."""
        hyper = self.hyper
        fitting = max(1, hyper.replay_steps // self.spec.episode_length)
        return min(fitting, self.num_rounds * hyper.num_envs)

    @property
    def eval_rounds(self) -> int:
        """Rounds between two evaluations."""
        return max(1, self.hyper.eval_every // self.hyper.num_envs)

    def to_json(self) -> dict[str, Any]:
        """As plain values; `hyper` is added for the reader and for comparison."""
        values = dataclasses.asdict(self)
        values["run_dir"] = None if self.run_dir is None else str(self.run_dir)
        values["hyper"] = dataclasses.asdict(self.hyper)
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """Reads what `to_json` wrote.

        What a preset decided then holds, also where today's would decide otherwise.

        Raises:
            ValueError: a field is unknown, so a newer version wrote it.
        """
        decided = values.get("hyper", {})
        values = {name: value for name, value in values.items() if name != "hyper"}
        unknown = sorted(values.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"configuration: expected fields of TrainConfig, got {unknown}")
        if values.get("attention_impl") == "torch":  # of version 0.1, which had no other
            values["attention_impl"] = "auto"
        if values.get("head_widths") is not None:
            values["head_widths"] = tuple(values["head_widths"])
        config = cls(**values)
        now = json.loads(json.dumps(dataclasses.asdict(config.hyper)))
        then = {name: v for name, v in decided.items() if name in now and now[name] != v}
        if "head_widths" in then:
            then["head_widths"] = tuple(then["head_widths"])
        return dataclasses.replace(config, **then) if then else config

    def differences(self, other: TrainConfig, allowed: Collection[str] = ()) -> list[str]:
        """Lines "field: this, other" where the two ask for different runs.

        Where a run is kept, how often it is, and what steps its environments make no difference;
        nor do the fields `allowed`.
        """
        mine, theirs = self._identity(), other._identity()
        return [
            f"{name}: {mine[name]!r}, {theirs[name]!r}"
            for name in mine
            if mine[name] != theirs[name] and name not in allowed
        ]

    def _identity(self) -> dict[str, Any]:
        names = (
            "seed",
            "algorithm",
            "model",
            "device",
            "num_threads",
            "eval_episodes",
            "attention_impl",
            "float32_precision",
            "compute_dtype",
            "micro_batch_size",
            "compile_update",
        )
        identity = {name: getattr(self, name) for name in names}
        return {**identity, **_flat(self.spec), **_flat(self.hyper)}


def _flat(values: Any) -> dict[str, Any]:
    return dict(dataclasses.asdict(values))
