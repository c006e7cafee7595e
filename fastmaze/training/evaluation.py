"""How good an agent is: greedy episodes that no training run has seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from fastmaze.models.q_network import QNetwork
from fastmaze.specs import FAMILIES, TaskSpec
from fastmaze.training.checkpoint import CheckpointError, load_checkpoint
from fastmaze.training.checkpoint_series import CHECKPOINT_FILE
from fastmaze.training.collectors import make_collector
from fastmaze.training.config import TrainConfig
from fastmaze.training.data_parallel import ALONE, Processes
from fastmaze.training.network import build_network
from fastmaze.training.outcomes import Outcomes, joined, outcomes_of
from fastmaze.training.run_directory import BEST_FILE
from fastmaze.training.torch_settings import check_device, float32_precision

EVAL_SEED: Final = 2**63
"""Seeds of evaluations start here, far above those of training runs."""

SOLVED: Final = 0.99
"""A task counts as solved from this share of greedy successes on."""

EVALUATE_EPISODES: Final = 1024
"""What `evaluate` plays unless told otherwise: a success of 1 is then one of at least 0.996."""

MAX_EVAL_ENVS: Final = 1024
MAX_EVAL_ENVS_CPU: Final = 64
"""Episodes played together; more are played in turns, which bounds the cache's memory. A CPU gains
nothing from more, and can stop earlier."""


def eval_envs(config: TrainConfig, num_episodes: int) -> int:
    """How many of `num_episodes` are played together."""
    on_cpu = torch.device(config.device).type == "cpu"
    return min(num_episodes, MAX_EVAL_ENVS_CPU if on_cpu else MAX_EVAL_ENVS)


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Greedy episodes, summed up."""

    num_episodes: int
    """Episodes played."""
    success: float
    """Share that did what the task asks for: ended in the goal cell, touched the right object …"""
    success_stderr: float
    """Standard error of `success`, from the binomial distribution."""
    mean_return: float
    """Mean sum of rewards, unscaled; in the paper's T-Mazes 1 for an optimal agent."""
    return_stderr: float
    """Standard error of `mean_return`."""
    shares: dict[str, float]
    """Of the episodes, by what happened in them: "cue_seen" (visited the oracle) and "junction"
    (was there when the last action was due) in a T-Maze, "key_taken" in Key-to-Door …"""

    @property
    def solved(self) -> bool:
        """Whether `success` is at least 0.99."""
        return self.success >= SOLVED

    @property
    def recall(self) -> float | None:
        """Share of correct turns among the episodes that came to the junction; None if none did.

        An agent that does not remember the cue has one half. None for tasks without a junction.
        """
        junction = self.shares.get("junction")
        return self.success / junction if junction else None

    @property
    def success_interval(self) -> tuple[float, float]:
        """95 % interval of the chance of success; see `wilson_interval`."""
        return wilson_interval(self.success, self.num_episodes)


def wilson_interval(share: float, num_trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The chances that a share of successes is compatible with (Wilson 1927).

    Those p from which the share is at most z standard errors away, the error being that of p:
    unlike share ± z · error it stays within 0 and 1, and has a width where all or none succeeded.

    Args:
        share: successes among the trials, 0 to 1.
        num_trials: n, at least 1.
        z: how many standard errors; the default covers 95 %.

    Returns:
        The least and the largest chance.
    """
    n = num_trials
    scale = 1.0 / (1.0 + z * z / n)
    centre = scale * (share + z * z / (2 * n))
    half = scale * z * math.sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    # All or none reach the end of the interval exactly; the sums may miss it by a rounding.
    low = 0.0 if share == 0.0 else max(0.0, centre - half)
    high = 1.0 if share == 1.0 else min(1.0, centre + half)
    return low, high


class Evaluator:
    """Evaluates networks on one task again and again.

    Args:
        config: names the task and the environments' backend.
        num_episodes: greedy episodes of each evaluation.
        processes: which of how many this is; each plays its share, and all know the result.
    """

    def __init__(
        self, config: TrainConfig, num_episodes: int, processes: Processes = ALONE
    ) -> None:
        self.num_episodes, self._processes, self._spec = num_episodes, processes, config.spec
        together = eval_envs(config, num_episodes)
        self._turns = -(-num_episodes // together)
        mine = processes.share(together)
        self.envs, self.collector = make_collector(config, mine.stop - mine.start, mine.start)

    def evaluate(self, network: QNetwork, seed: int, *, until_failed: bool = False) -> EvalResult:
        """Plays `num_episodes` greedy episodes, without dropout.

        Args:
            network: the agent.
            seed: of the mazes; the same seed, the same mazes.
            until_failed: play no more once so many have failed that the rest cannot make the task
                solved: most evaluations of a run are then a fraction of the last ones' work.
        """
        was_training = network.training
        network.eval()
        parts: list[Outcomes] = []
        failures = 0
        for turn in range(self._turns):
            # The first turn seeds, the others go on to the next episode of the same stream.
            played = self.collector.collect(network, seed=seed if turn == 0 else None)
            parts.append(outcomes_of(played, self._spec, self._processes))
            failures += int((~parts[-1].success).sum())
            if until_failed and failures > (1.0 - SOLVED) * self.num_episodes:
                break
        network.train(was_training)
        how = joined(parts, self.num_episodes)
        n = len(how.success)
        share = float(how.success.mean())
        return EvalResult(
            num_episodes=n,
            success=share,
            success_stderr=float(np.sqrt(share * (1 - share) / n)),
            mean_return=float(how.returns.mean()),
            return_stderr=float(how.returns.std() / np.sqrt(n)),
            shares=how.shares(),
        )

    def close(self) -> None:
        """Ends the environments."""
        self.envs.close()


def evaluate(
    checkpoint: Path | str,
    *,
    num_episodes: int = EVALUATE_EPISODES,
    seed: int = 0,
    length: int | None = None,
    device: str | None = None,
) -> EvalResult:
    """Evaluates a trained agent on mazes that it has not seen.

    Args:
        checkpoint: a run's directory (its best weights are taken), or a file of it.
        num_episodes: greedy episodes.
        seed: of the mazes.
        length: another corridor length than the agent was trained on.
        device: see `load_agent`.

    Raises:
        FileNotFoundError: there is no such run or file.
        CheckpointError: the file is truncated, or no FastMaze checkpoint.
    """
    if isinstance(num_episodes, bool) or not isinstance(num_episodes, int) or num_episodes < 1:
        raise ValueError(f"num_episodes: expected an integer of at least 1, got {num_episodes!r}")
    config, network = load_agent(checkpoint, length=length, device=device)
    return evaluate_agent(config, network, num_episodes=num_episodes, seed=seed)


def evaluate_agent(
    config: TrainConfig, network: QNetwork, *, num_episodes: int, seed: int
) -> EvalResult:
    """As `evaluate`, with an agent that `load_agent` returned."""
    evaluator = Evaluator(config, num_episodes)
    try:
        with float32_precision(config):
            return evaluator.evaluate(network, eval_seed(seed))
    finally:
        evaluator.close()


@dataclass(frozen=True, slots=True)
class GreedyEpisode:
    """One greedy episode of a trained agent, for replaying it."""

    spec: TaskSpec
    """The task."""
    seed: int
    """What a specification env is reset with for the same episode."""
    obs: npt.NDArray[Any]
    """[T + 1, *obs_shape]."""
    actions: npt.NDArray[np.uint8]
    """uint8 [T]."""
    rewards: npt.NDArray[np.float32]
    """float32 [T]."""
    q_values: npt.NDArray[np.float32]
    """float32 [T, A], in the scale of the learning rewards; of an actor, its policy's logits."""
    success: bool
    """Did what the task asks for."""

    def replayed(self) -> Iterator[Any]:
        """The specification env at each of the times 0 to T: always the same object, stepped on."""
        env = FAMILIES[self.spec.family].load("reference")(self.spec)
        env.reset(self.seed)
        yield env
        for action in self.actions:
            env.step(int(action))
            yield env


def greedy_episode(
    checkpoint: Path | str, *, seed: int = 0, length: int | None = None
) -> GreedyEpisode:
    """Plays one greedy episode of a trained agent.

    Args:
        checkpoint: a run's directory (its best weights are taken), or a file of it.
        seed: of the maze.
        length: another corridor length than the agent was trained on.

    Raises:
        FileNotFoundError: there is no such run or file.
        CheckpointError: the file is truncated, or no FastMaze checkpoint.
    """
    config, network = load_agent(checkpoint, length=length)
    return play_greedily(config, network, seed)


def play_greedily(config: TrainConfig, network: QNetwork, seed: int) -> GreedyEpisode:
    """As `greedy_episode`, with an agent that `load_agent` returned."""
    evaluator = Evaluator(config, 1)
    try:
        played = evaluator.collector.collect(network, seed=eval_seed(seed), keep_q_values=True)
    finally:
        evaluator.close()
    if played.q_values is None:
        raise RuntimeError("play_greedily: the rollout kept no action values")
    return GreedyEpisode(
        spec=config.spec,
        seed=eval_seed(seed),
        obs=played.obs[:, 0],
        actions=played.actions[:, 0],
        rewards=played.rewards[:, 0],
        q_values=played.q_values[:, 0],
        success=bool(played.success[0]),
    )


def load_agent(
    checkpoint: Path | str, *, length: int | None = None, device: str | None = None
) -> tuple[TrainConfig, QNetwork]:
    """The configuration and the network of a trained agent, ready for greedy play.

    Args:
        checkpoint: a run's directory (its best weights are taken), or a file of it.
        length: another corridor length than the agent was trained on.
        device: where to play. Default: where it was trained, or, with a warning, on the CPU if
            that is not here.

    Raises:
        FileNotFoundError: there is no such run or file.
        CheckpointError: the file is truncated, or no FastMaze checkpoint.
        ValueError: no such device; or the agent has learned positions, and they end before that
            length does.
    """
    path = Path(checkpoint)
    if path.is_dir():
        kept = [path / name for name in (BEST_FILE, CHECKPOINT_FILE)]
        found = [file for file in kept if file.is_file()]
        if not found:
            raise FileNotFoundError(
                f"checkpoint: expected a run's directory, found no agent in {path}"
            )
        path = found[0]
    loaded = load_checkpoint(path)
    values = dict(loaded.metadata["config"])
    values["device"] = _present(values["device"], device)
    trained = TrainConfig.from_json(values)
    config = trained
    if length is not None:
        # What was kept for training need not fit the length.
        decided = {k: v for k, v in values.get("hyper", {}).items() if k != "replay_steps"}
        changes = {"length": length, "replay_steps": None, "hyper": decided}
        config = TrainConfig.from_json({**values, **changes})
    if trained.hyper.positions == "learned" and (
        config.spec.episode_length > trained.spec.episode_length + 1
    ):
        raise ValueError(
            f"length: expected at most {trained.length + 1}, where this agent's learned positions"
            f" end, got {length}"
        )
    with torch.random.fork_rng(devices=[]):
        network = build_network(trained if trained.hyper.positions == "learned" else config)
    name = "target" if trained.hyper.act_with_target else "online"
    weights: dict[str, Any] = loaded.part(name)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit its configuration ({error})"
        ) from error
    return config, network.eval()


def _present(trained_on: str, wanted: str | None) -> str:
    """A device that is here: the one that is wanted, or the one trained on, or the CPU."""
    if wanted is not None:
        return str(check_device(wanted))
    try:
        return str(check_device(trained_on))
    except ValueError:
        warnings.warn(
            f"device: the agent was trained on {trained_on}, which is not here; it plays on the "
            "cpu",
            UserWarning,
            stacklevel=3,
        )
        return "cpu"


def eval_seed(seed: int) -> int:
    """The seed of the mazes, apart from those of training, for a number that a caller gave."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < EVAL_SEED:
        raise ValueError(f"seed: expected an integer from 0 to 2**63 - 1, got {seed!r}")
    return EVAL_SEED + seed
