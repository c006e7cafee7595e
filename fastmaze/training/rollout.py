"""Plays whole episodes in every environment at once, one token a step through the model's cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmaze.models.q_network import QNetwork
from fastmaze.specs import TaskSpec


class Envs(Protocol):
    """The part of `fastmaze.make_vec`'s environments that rollouts use."""

    num_envs: int

    @property
    def task_spec(self) -> TaskSpec:
        """The task."""

    @property
    def statistics(self) -> Any:
        """An `EpisodeStatistics`."""

    def reset(self, *, seed: int | None = None) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Starts an episode in every environment."""

    def step_into(
        self,
        actions: npt.NDArray[Any],
        obs: npt.NDArray[Any],
        reward: npt.NDArray[np.float32],
        terminated: npt.NDArray[np.bool_],
        truncated: npt.NDArray[np.bool_],
    ) -> int:
        """Steps every environment, writing into the arrays given."""


@dataclass(slots=True)
class Episodes:
    """N whole episodes of T steps, time first; the arrays are used again by the next rollout."""

    obs: npt.NDArray[Any]
    """[T + 1, N, *obs_shape], of the task's `obs_dtype`."""
    actions: npt.NDArray[np.uint8]
    """uint8 [T, N]."""
    rewards: npt.NDArray[np.float32]
    """float32 [T, N]."""
    returns: npt.NDArray[np.float64]
    """float64 [N]."""
    success: npt.NDArray[np.bool_]
    """bool [N]: did what the task asks for."""
    cue_seen: npt.NDArray[np.bool_]
    """bool [N]: what `TaskSpec.flag_name` names; in a T-Maze: visited the oracle."""
    q_values: npt.NDArray[np.float32] | None = None
    """float32 [T, N, A], where asked for: action values, or a policy's logits."""


class Collector:
    """Plays whole episodes; owns the arrays that they are written to.

    Args:
        envs: a vector environment in mode "Disabled", whose episodes all have the same length.
    """

    def __init__(self, envs: Envs) -> None:
        self.envs = envs
        spec, N = envs.task_spec, envs.num_envs
        T = spec.episode_length
        self.obs = np.empty((T + 1, N, *spec.obs_shape), spec.obs_dtype)
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
        sample: bool = False,
    ) -> Episodes:
        """Plays the next episode of every environment.

        Args:
            network: scores the actions; left in its mode, so dropout acts where it is on.
            epsilon: chance of a random action, float64 [T, N]; None for none.
            rng: draws the random actions; needed with `epsilon` and `sample`.
            seed: starts the environments' first episodes of this seed instead of the next ones.
            keep_q_values: also return the scores.
            sample: draw actions with the scores as logits, instead of taking the best.

        Returns:
            The episodes, in arrays that the next call overwrites.
        """
        T, N = self.actions.shape
        A = self.envs.task_spec.num_actions
        device = next(network.parameters()).device
        q_values = np.empty((T, N, A), np.float32) if keep_q_values else None
        self.obs[0] = self.envs.reset(seed=seed)[0]
        with torch.inference_mode():
            state = network.initial_state(N, T)
            action = torch.full((N,), A, device=device)  # none before the first step
            for t in range(T):
                q, state = network.step(torch.from_numpy(self.obs[t]).to(device), action, state)
                if sample and rng is not None:
                    chosen = draw_actions(q, rng.random(N))
                else:
                    chosen = q.argmax(dim=1).cpu().numpy()
                if epsilon is not None and rng is not None:
                    explore = rng.random(N) < epsilon[t]
                    chosen = np.where(explore, rng.integers(0, A, N), chosen)
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


def draw_actions(logits: Tensor, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Actions of a policy, int64 [N].

    Args:
        logits: float [N, A].
        numbers: float64 [N], uniform from 0 to 1: each falls into an action's share of that range.
    """
    shares = logits.double().softmax(dim=1).cumsum(dim=1).cpu().numpy()  # [N, A]
    # Sums of shares may end a rounding below 1.
    drawn: npt.NDArray[np.int64] = (shares <= numbers[:, None]).sum(axis=1)
    return drawn.clip(max=shares.shape[1] - 1)


def exploration(
    spec: TaskSpec,
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
