"""Plays whole episodes in every environment at once, one token a step through the model's cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fastmaze.models.q_network import QNetwork
from fastmaze.specs import NUM_ACTIONS, TMazeSpec


class Envs(Protocol):
    """The part of `fastmaze.make_vec`'s environments that rollouts use."""

    num_envs: int

    @property
    def task_spec(self) -> TMazeSpec:
        """The task."""

    @property
    def statistics(self) -> Any:
        """An `EpisodeStatistics`."""

    def reset(self, *, seed: int | None = None) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Starts an episode in every environment."""

    def step_into(
        self,
        actions: npt.NDArray[Any],
        obs: npt.NDArray[np.float32],
        reward: npt.NDArray[np.float32],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
    ) -> int:
        """Steps every environment, writing into the arrays given."""


@dataclass(slots=True)
class Episodes:
    """N whole episodes of T steps, time first; the arrays are used again by the next rollout."""

    obs: npt.NDArray[np.float32]
    """float32 [T + 1, N, D]."""
    actions: npt.NDArray[np.uint8]
    """uint8 [T, N]."""
    rewards: npt.NDArray[np.float32]
    """float32 [T, N]."""
    returns: npt.NDArray[np.float64]
    """float64 [N]."""
    success: npt.NDArray[np.bool_]
    """bool [N]: ended in the goal cell."""
    cue_seen: npt.NDArray[np.bool_]
    """bool [N]: visited the oracle."""
    q_values: npt.NDArray[np.float32] | None = None
    """float32 [T, N, A], where asked for."""


class Collector:
    """Plays whole episodes; owns the arrays that they are written to.

    Args:
        envs: a vector environment in mode "Disabled", whose episodes all have the same length.
    """

    def __init__(self, envs: Envs) -> None:
        self.envs = envs
        spec, N = envs.task_spec, envs.num_envs
        T = spec.episode_length
        self.obs = np.empty((T + 1, N, spec.obs_dim), np.float32)
        self.actions = np.empty((T, N), np.uint8)
        self.rewards = np.empty((T, N), np.float32)
        self.terminated = np.empty(N, np.bool_)
        self.truncated = np.empty(N, np.bool_)

    def collect(
        self,
        network: QNetwork,
        *,
        epsilon: npt.NDArray[np.float64] | None = None,
        rng: np.random.Generator | None = None,
        seed: int | None = None,
        keep_q_values: bool = False,
    ) -> Episodes:
        """Plays the next episode of every environment.

        Args:
            network: picks the greedy actions; left in its mode, so dropout acts where it is on.
            epsilon: chance of a random action, float64 [T, N]; None for none.
            rng: draws the random actions; needed with `epsilon`.
            seed: starts the environments' first episodes of this seed instead of the next ones.
            keep_q_values: also return the action values.

        Returns:
            The episodes, in arrays that the next call overwrites.
        """
        T, N = self.actions.shape
        device = next(network.parameters()).device
        q_values = np.empty((T, N, NUM_ACTIONS), np.float32) if keep_q_values else None
        self.obs[0] = self.envs.reset(seed=seed)[0]
        with torch.inference_mode():
            state = network.initial_state(N, T)
            action = torch.full((N,), NUM_ACTIONS, device=device)  # none before the first step
            for t in range(T):
                q, state = network.step(torch.from_numpy(self.obs[t]).to(device), action, state)
                chosen = q.argmax(dim=1).cpu().numpy()
                if epsilon is not None and rng is not None:
                    explore = rng.random(N) < epsilon[t]
                    chosen = np.where(explore, rng.integers(0, NUM_ACTIONS, N), chosen)
                if q_values is not None:
                    q_values[t] = q.cpu().numpy()
                self.actions[t] = chosen
                self.envs.step_into(
                    self.actions[t],
                    self.obs[t + 1],
                    self.rewards[t],
                    self.terminated,
                    self.truncated,
                )
                action = torch.from_numpy(chosen).to(device)
        stats = self.envs.statistics
        return Episodes(
            obs=self.obs,
            actions=self.actions,
            rewards=self.rewards,
            returns=stats.episode_return.copy(),
            success=stats.success.copy(),
            cue_seen=stats.cue_seen.copy(),
            q_values=q_values,
        )


def exploration(
    spec: TMazeSpec,
    num_envs: int,
    *,
    epsilon: float,
    spread: bool,
    first_step: float,
    last_step: float,
) -> npt.NDArray[np.float64]:
    """Chance of a random action at each step of each environment, float64 [T, num_envs].

    Args:
        spec: the task.
        num_envs: N.
        epsilon: the chance, or its largest value.
        spread: from 0 in the first environment to `epsilon` in the last.
        first_step: least chance at the first step.
        last_step: least chance at the last step.
    """
    share = np.linspace(0.0, 1.0, num_envs) if spread and num_envs > 1 else np.ones(num_envs)
    chance = np.repeat(epsilon * share[None], spec.episode_length, axis=0)  # [T, N]
    chance[0] = np.maximum(chance[0], first_step)
    chance[-1] = np.maximum(chance[-1], last_step)
    return chance
