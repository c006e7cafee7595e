"""Everything of a run that changes: networks, optimiser, replay, environments, random numbers."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmaze.models.q_network import QNetwork
from fastmaze.training.checkpoint import Checkpoint, CheckpointError, join_parts
from fastmaze.training.collectors import make_collector
from fastmaze.training.config import TrainConfig
from fastmaze.training.config_checks import SEED_LIMIT
from fastmaze.training.data_parallel import ALONE, Processes, ShareOfDraws, name_of
from fastmaze.training.device_rollout import DeviceCollector, DeviceEpisodes
from fastmaze.training.memory import MemoryPlan, plan_memory
from fastmaze.training.network import build_network
from fastmaze.training.outcomes import Outcomes, outcomes_of
from fastmaze.training.replay import Replay, joined_states
from fastmaze.training.rollout import Episodes, exploration
from fastmaze.training.update import Update


class UpdateStats(NamedTuple):
    """Means over a round's updates."""

    loss: float
    q_mean: float
    target_mean: float
    grad_norm: float
    entropy: float | None = None
    """Of the policy, in nats; None where there is none."""

    def told(self) -> dict[str, float]:
        """By name, without what there is not."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Learner:
    """Collects and learns; knows nothing of logs, evaluation and files.

    Draws from PyTorch's global random numbers (initial weights, dropout), so seed them first.

    Args:
        config: the run.
        processes: which of how many this is; all methods but `close` are then called by each.
        memory: where the replay is and how updates are cut; None to plan it now.
    """

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes = ALONE,
        memory: MemoryPlan | None = None,
    ) -> None:
        self.config, self.hyper, self.spec = config, config.hyper, config.spec
        self.processes, hyper = processes, self.hyper
        memory = memory or plan_memory(config, processes.size)
        self.online = build_network(config, recompute=memory.update.recompute)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        for module in self.target.modules():
            if isinstance(module, torch.nn.RNNBase):
                module.flatten_parameters()  # a copy's weights lie apart, which cuDNN dislikes
        self.update = Update(
            config,
            self.online,
            self.target,
            micro_batch_size=memory.update.micro_batch_size,
            distinct_rows=memory.update.distinct_rows,
            processes=processes,
        )
        if processes.several:
            # Equal weights so far; from here on dropout, which each process draws for itself.
            torch.manual_seed(config.seed + SEED_LIMIT * processes.rank)
        self._mine = processes.share(hyper.num_envs)
        self.envs, self.collector = make_collector(
            config, self._mine.stop - self._mine.start, self._mine.start
        )
        self.envs.reset(seed=config.seed)
        self.replay = Replay(
            self.spec,
            config.replay_episodes,
            config.device,
            storage=memory.replay_device,
            balance=hyper.replay_balance,
            num_envs=hyper.num_envs,
            processes=processes,
        )
        self.rng = np.random.default_rng(config.seed)
        self.round = 0
        """Rounds done."""
        self.updates = 0
        """Gradient updates done."""
        self.setbacks = 0
        """How often a solution was lost again; see `settle`."""
        self.settled = False
        """Whether updates are small, to keep a solution; see `settle`."""

    @property
    def acting(self) -> QNetwork:
        """The network that is evaluated and kept."""
        return self.target if self.hyper.act_with_target else self.online

    def collect(self) -> Outcomes:
        """One episode of every environment, those of all processes, kept in the replay."""
        self.online.train()
        epsilon, rng = self._epsilon(self.hyper.num_envs), self.rng
        if self.processes.several:
            epsilon = epsilon[:, self._mine]
            rng = ShareOfDraws(rng.bit_generator, self.processes)
        played: Episodes | DeviceEpisodes
        if isinstance(self.collector, DeviceCollector):
            played = self.collector.collect_tensors(self.online, epsilon=epsilon, rng=rng)
        else:
            sample = self.update.algorithm.samples_actions
            played = self.collector.collect(self.online, epsilon=epsilon, rng=rng, sample=sample)
        outcomes = outcomes_of(played, self.spec, self.processes)
        self.replay.add(played.obs, played.actions, played.rewards, outcomes.success)
        self.round += 1
        return outcomes

    @property
    def epsilon(self) -> float:
        """Largest chance of a random action in the coming round, first and last step apart."""
        # That of an only environment, which is the one that explores most.
        chance = self._epsilon(num_envs=1)
        return float((chance[1:-1] if len(chance) > 2 else chance).max())

    def _epsilon(self, num_envs: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Chance of a random action in the next round, float64 [T, num_envs]."""
        hyper = self.hyper
        episodes = self.round * hyper.num_envs
        if episodes < hyper.random_episodes:
            return np.ones((self.spec.episode_length, num_envs))
        epsilon = hyper.epsilon
        anneal = hyper.epsilon_anneal * hyper.num_episodes
        if episodes < anneal:
            epsilon += (1.0 - epsilon) * (1.0 - episodes / anneal)
        return exploration(
            self.spec,
            num_envs,
            epsilon=epsilon,
            spread=hyper.epsilon_spread,
            first_step=hyper.first_step_epsilon,
            last_step=hyper.last_step_epsilon,
        )

    def learn(self) -> UpdateStats:
        """One round's updates."""
        self.online.train()
        self.target.train()
        stats = []
        for _ in range(self.hyper.updates_per_round):
            batch = self.replay.sample(self.hyper.batch_size, self.rng)
            stats.append(self.update(batch, self._learning_rate()))
            self.updates += 1
        if not stats:
            return UpdateStats(0.0, 0.0, 0.0, 0.0)
        # Brought to the CPU once a round: the updates themselves never wait for a device.
        means = torch.stack(stats).mean(dim=0)
        means[:-1] = self.processes.sum(means[:-1])  # each has its share; the norm is everyone's
        loss, q_mean, target_mean, *entropy, grad_norm = means.tolist()
        return UpdateStats(loss, q_mean, target_mean, grad_norm, *entropy)

    def settle(self, solved_in_a_row: int) -> None:
        """Hears of each evaluation of the acting network; holds on to a solution.

        Once `hyper.settle_after` evaluations in a row found the task solved, updates are small, and
        the online network starts from the evaluated weights: it may have moved on from what the
        average of its past solves. A solution that is lost under small updates was none, but on
        the edge: learning goes on at the full rate, and settles one evaluation later next time.

        Args:
            solved_in_a_row: how many evaluations, this one the last, found the task solved.
        """
        wanted = self.hyper.settle_after
        if not wanted:
            return
        if self.settled and solved_in_a_row == 0:
            self.settled = False
            self.setbacks += 1
        elif not self.settled and solved_in_a_row >= wanted + self.setbacks:
            self.settled = True
            solution = self.acting.state_dict()
            self.online.load_state_dict(solution)
            self.target.load_state_dict(solution)

    def _learning_rate(self) -> float:
        """Up during the warm-up, then down in a line until the budget's end, or a solution."""
        hyper = self.hyper
        total = max(1, self.config.num_rounds * hyper.updates_per_round)
        left = max(0.0, 1.0 - self.updates / total)
        share = hyper.final_learning_rate + (1.0 - hyper.final_learning_rate) * left
        if self.settled:
            share = hyper.settled_learning_rate
        if self.updates < hyper.warmup_updates:
            share *= (self.updates + 1) / hyper.warmup_updates
        return hyper.learning_rate * share

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All there is to know to go on bit for bit: tensors, and values for JSON.

        Of several processes, the first one's holds what all of them have; the others' does not.
        """
        names = [name for name, _ in self.online.named_parameters()]
        adam = self.update.optimizer.state_dict()["state"]
        replay = self.replay.get_state()
        if self.processes.several:
            replay = {name: value.cpu() for name, value in replay.items()}
        replays = self.processes.gather_first(replay)
        envs = self.processes.gather_first(torch.from_numpy(self.envs.get_state()))
        random = self.processes.gather_first(torch.get_rng_state())
        tensors = join_parts(
            online=self.online.state_dict(),
            target=self.target.state_dict(),
            adam={
                f"{name}/{key}": value
                for i, name in enumerate(names)
                for key, value in adam.get(i, {}).items()
            },
            replay=joined_states(replays) if replays else {},
            **{name_of("envs", rank): {"state": state} for rank, state in enumerate(envs)},
            **{name_of("random", rank): {"torch": state} for rank, state in enumerate(random)},
        )
        values = {
            "round": self.round,
            "updates": self.updates,
            "setbacks": self.setbacks,
            "settled": self.settled,
            "processes": self.processes.size,
            "numpy": self.rng.bit_generator.state,
        }
        return tensors, values

    def set_state(self, checkpoint: Checkpoint) -> None:
        """Goes on from what `get_state` returned, as read from a checkpoint.

        Raises:
            CheckpointError: something is missing, or has another shape; or another number of
                processes wrote it.
        """
        values, rank = checkpoint.metadata["learner"], self.processes.rank
        if (before := values.get("processes", 1)) != self.processes.size:
            raise CheckpointError(
                f"WORLD_SIZE: expected {before}, the number of processes that trained this run "
                f"before, got {self.processes.size}; " + _how_to_start(before)
            )
        names = [name for name, _ in self.online.named_parameters()]
        adam: dict[int, dict[str, Tensor]] = {}
        for key, tensor in checkpoint.part("adam").items():
            name, _, entry = key.rpartition("/")
            adam.setdefault(names.index(name), {})[entry] = tensor
        try:
            self.online.load_state_dict(checkpoint.part("online"))
            self.target.load_state_dict(checkpoint.part("target"))
            # Copies: what a checkpoint holds are views into its file.
            # Earlier checkpoints hold the solution itself, where there was one.
            self.settled = values.get("settled", bool(checkpoint.part("solution")))
            groups = self.update.optimizer.state_dict()["param_groups"]
            self.update.load_optimizer({"state": adam, "param_groups": groups})
            self.replay.set_state(checkpoint.part("replay"))
            self.envs.set_state(checkpoint.part(name_of("envs", rank))["state"].numpy())
            torch.set_rng_state(checkpoint.part(name_of("random", rank))["torch"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint: does not fit this configuration ({error})"
            ) from error
        self.rng.bit_generator.state = values["numpy"]
        self.round, self.updates = values["round"], values["updates"]
        self.setbacks = values["setbacks"]

    def close(self) -> None:
        """Ends the environments."""
        self.envs.close()


def _how_to_start(processes: int) -> str:
    if processes == 1:
        return "resume without torchrun: fastmaze train --resume …"
    return f"resume with torchrun --nproc-per-node={processes} -m fastmaze train --resume …"
