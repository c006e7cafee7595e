"""Everything of a run that changes: networks, optimiser, replay, environments, random numbers."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmaze.agents.ddqn import DDQN
from fastmaze.models.q_network import QNetwork
from fastmaze.training.checkpoint import Checkpoint, CheckpointError, join_parts
from fastmaze.training.collectors import make_collector
from fastmaze.training.config import TrainConfig
from fastmaze.training.network import build_network
from fastmaze.training.replay import Replay
from fastmaze.training.rollout import Episodes, exploration


class UpdateStats(NamedTuple):
    """Means over a round's updates."""

    loss: float
    q_mean: float
    target_mean: float
    grad_norm: float


class Learner:
    """Collects and learns; knows nothing of logs, evaluation and files.

    Draws from PyTorch's global random numbers (initial weights, dropout), so seed them first.

    Args:
        config: the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.hyper, self.spec = config, config.hyper, config.spec
        hyper = self.hyper
        self.online = build_network(config)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimizer = torch.optim.Adam(
            self.online.parameters(),
            lr=hyper.learning_rate,
            betas=(0.9, hyper.adam_beta2),
            fused=True,
        )
        self.algorithm = DDQN(
            discount=hyper.discount,
            trace=hyper.trace,
            n_step=hyper.n_step,
            reward_scale=hyper.reward_scale,
            separate_forwards=hyper.separate_forwards,
        )
        self.envs, self.collector = make_collector(config, hyper.num_envs)
        self.envs.reset(seed=config.seed)
        self.replay = Replay(self.spec, config.replay_episodes, config.device)
        self.rng = np.random.default_rng(config.seed)
        self.round = 0
        """Rounds done."""
        self.updates = 0
        """Gradient updates done."""
        self.setbacks = 0
        """How often a solution was lost again; see `settle`."""
        self.solution: dict[str, Tensor] = {}
        """Weights that `settle` holds on to; empty until there are any."""

    @property
    def acting(self) -> QNetwork:
        """The network that is evaluated and kept."""
        return self.target if self.hyper.act_with_target else self.online

    def collect(self) -> Episodes:
        """One episode of every environment, kept in the replay."""
        self.online.train()
        episodes = self.collector.collect(self.online, epsilon=self._epsilon(), rng=self.rng)
        self.replay.add(episodes.obs, episodes.actions, episodes.rewards)
        self.round += 1
        return episodes

    def _epsilon(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Chance of a random action in the next round, float64 [T, N]."""
        hyper = self.hyper
        episodes = self.round * hyper.num_envs
        if episodes < hyper.random_episodes:
            return np.ones((self.spec.episode_length, hyper.num_envs))
        epsilon = hyper.epsilon
        anneal = hyper.epsilon_anneal * hyper.num_episodes
        if episodes < anneal:
            epsilon += (1.0 - epsilon) * (1.0 - episodes / anneal)
        return exploration(
            self.spec,
            hyper.num_envs,
            epsilon=epsilon,
            spread=hyper.epsilon_spread,
            first_step=hyper.first_step_epsilon,
            last_step=hyper.last_step_epsilon,
        )

    def learn(self) -> UpdateStats:
        """One round's updates."""
        self.online.train()
        self.target.train()
        stats = [self._update() for _ in range(self.hyper.updates_per_round)]
        if not stats:
            return UpdateStats(0.0, 0.0, 0.0, 0.0)
        # Brought to the CPU once a round: the updates themselves never wait for a device.
        return UpdateStats(*torch.stack(stats).mean(dim=0).tolist())

    def settle(self, solved_in_a_row: int) -> None:
        """Hears of each evaluation of the acting network; holds on to a solution.

        Once `hyper.settle_after` evaluations in a row found the task solved, updates are small, and
        the online network starts from the evaluated weights: it may have moved on from what the
        average of its past solves. Whenever a later evaluation finds the solution lost, both
        networks go back to the last one, and the rate is halved.

        Args:
            solved_in_a_row: how many evaluations, this one the last, found the task solved.
        """
        wanted = self.hyper.settle_after
        if not wanted:
            return
        found = bool(self.solution)
        if solved_in_a_row >= wanted:
            self.solution = copy.deepcopy(self.acting.state_dict())
        lost = found and solved_in_a_row == 0
        self.setbacks += lost
        if lost or (self.solution and not found):
            self.online.load_state_dict(self.solution)
            self.target.load_state_dict(self.solution)

    def _update(self) -> Tensor:
        hyper = self.hyper
        batch = self.replay.sample(hyper.batch_size, self.rng)
        loss = self.algorithm.loss(self.online, self.target, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            self.online.parameters(), hyper.grad_clip or float("inf")
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.updates += 1
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                slow.lerp_(fast, hyper.target_rate)
        return torch.stack([loss.loss.detach(), loss.q_mean, loss.target_mean, norm])

    def _learning_rate(self) -> float:
        """Up during the warm-up, then down in a line until the budget's end, or a solution."""
        hyper = self.hyper
        total = max(1, self.config.num_rounds * hyper.updates_per_round)
        left = max(0.0, 1.0 - self.updates / total)
        share = hyper.final_learning_rate + (1.0 - hyper.final_learning_rate) * left
        if self.solution:
            share = hyper.settled_learning_rate * 0.5**self.setbacks
        if self.updates < hyper.warmup_updates:
            share *= (self.updates + 1) / hyper.warmup_updates
        return hyper.learning_rate * share

    def get_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All there is to know to go on bit for bit: tensors, and values for JSON."""
        names = [name for name, _ in self.online.named_parameters()]
        adam = self.optimizer.state_dict()["state"]
        tensors = join_parts(
            online=self.online.state_dict(),
            target=self.target.state_dict(),
            solution=self.solution,
            adam={
                f"{name}/{key}": value
                for i, name in enumerate(names)
                for key, value in adam.get(i, {}).items()
            },
            replay={k: torch.from_numpy(v) for k, v in self.replay.get_state().items()},
            envs={"state": torch.from_numpy(self.envs.get_state())},
            random={"torch": torch.get_rng_state()},
        )
        values = {
            "round": self.round,
            "updates": self.updates,
            "setbacks": self.setbacks,
            "numpy": self.rng.bit_generator.state,
        }
        return tensors, values

    def set_state(self, checkpoint: Checkpoint) -> None:
        """Goes on from what `get_state` returned, as read from a checkpoint.

        Raises:
            CheckpointError: something is missing, or has another shape.
        """
        values = checkpoint.metadata["learner"]
        names = [name for name, _ in self.online.named_parameters()]
        adam: dict[int, dict[str, Tensor]] = {}
        for key, tensor in checkpoint.part("adam").items():
            name, _, entry = key.rpartition("/")
            adam.setdefault(names.index(name), {})[entry] = tensor
        try:
            self.online.load_state_dict(checkpoint.part("online"))
            self.target.load_state_dict(checkpoint.part("target"))
            self.solution = checkpoint.part("solution")
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": adam, "param_groups": groups})
            self.replay.set_state({k: v.numpy() for k, v in checkpoint.part("replay").items()})
            self.envs.set_state(checkpoint.tensors["envs/state"].numpy())
            torch.set_rng_state(checkpoint.tensors["random/torch"])
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
