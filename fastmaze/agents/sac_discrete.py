"""Soft actor-critic for discrete actions over whole episodes: targets and loss, no loops.

Actor and critics share one encoder, as Ni et al. 2023 do (their appendix, and the code published
with it). Which term moves what:

```
                     encoder   policy   critics
 critics' error         x                  x      target critics stand on the online encoder
 policy's objective     x         x               what the critics say is a constant here
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from fastmaze.agents.batch import Batch, Loss, step_weights
from fastmaze.agents.returns import (
    ValueScale,
    from_scale,
    lambda_returns,
    n_step_returns,
    to_scale,
)
from fastmaze.models.actor_critic import ActorCriticOutput


class SequenceActorCritic(Protocol):
    """Whatever maps obs [B, T + 1, …] and actions [B, T] to what actor and critics say of them."""

    def __call__(self, obs: Tensor, actions: Tensor) -> ActorCriticOutput:
        """Of every step."""


class Critics(Protocol):
    """Whatever has slow critics."""

    def values(self, features: Tensor) -> Tensor:
        """Action values: from float32 [B, T, F] to float32 [2, B, T, A]."""


@dataclass(frozen=True, slots=True)
class SACDiscrete:
    """The loss of discrete soft actor-critic (Christodoulou 2019) with a fixed temperature."""

    samples_actions: ClassVar[bool] = True
    """Whether rollouts draw actions from the policy instead of taking its likeliest."""

    discount: float
    """Worth of a reward one step later."""
    temperature: float = 0.1
    """What a nat of the policy's entropy is worth, in scaled rewards."""
    trace: float = 0.0
    """Lambda of the returns that critics learn from: 0 bootstraps after one step, 1 at the
    episode's end; uncorrected for how likely the policy now is to do the same (Peng and Williams
    1996), entropies on the way included."""
    n_step: int = 1
    """Rewards summed before bootstrapping, uncorrected and without entropies on the way; needs
    `trace` 0."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before anything else."""
    value_scale: ValueScale = "linear"
    """What the critics predict, as for `DDQN`."""
    edge_share: float = 0.0
    """Share of an episode's loss that each of its edges has, as for `DDQN`."""

    def loss(self, online: SequenceActorCritic, target: Critics, batch: Batch) -> Loss:
        """Half the critics' squared errors plus the policy's objective, over unpadded steps.

        The policy minimises E_a[temperature · log π(a|h) − min(Q1, Q2)(h, a)], the sum over actions
        written out; what the critics say of a step is a constant for it.

        Args:
            online: the networks that learn.
            target: the slow critics, asked about the online encoder's features.
            batch: whole episodes.
        """
        said = online(batch.obs, batch.actions)  # of T + 1 steps
        log_policy = said.logits.log_softmax(dim=-1)  # [B, T + 1, A]
        policy = log_policy.exp()
        entropy = -(policy * log_policy).sum(dim=-1)  # [B, T + 1]
        with torch.no_grad():
            q_target = target.values(said.features[:, 1:].detach())  # [2, B, T, A]
            y = self.targets(batch, policy[:, 1:], entropy[:, 1:], q_target)  # [B, T]
            least = from_scale(said.q.detach(), self.value_scale).amin(dim=0)  # [B, T + 1, A]
        taken = batch.actions[None, :, :, None].expand(2, -1, -1, -1)
        predicted = said.q[:, :, :-1].gather(3, taken)[..., 0]  # [2, B, T]
        errors = (predicted - y).square().sum(dim=0)  # [B, T]
        objective = -(policy * least).sum(dim=-1) - self.temperature * entropy  # [B, T + 1]
        mask = batch.mask.to(y.dtype)
        count = mask.sum().clamp(min=1.0)
        weights = step_weights(mask, batch.rewards, self.edge_share)
        loss = ((0.5 * errors + objective[:, :-1]) * weights).sum() / count
        with torch.no_grad():
            return Loss(
                loss,
                (predicted.mean(dim=0) * mask).sum() / count,
                (y * mask).sum() / count,
                (entropy[:, :-1] * mask).sum() / count,
            )

    def targets(self, batch: Batch, policy: Tensor, entropy: Tensor, q_target: Tensor) -> Tensor:
        """What both Q(h_t, a_t) are drawn to, float32 [B, T].

        Args:
            batch: whole episodes.
            policy: float32 [B, T, A], chances of the actions after each step.
            entropy: float32 [B, T], of the policy after each step.
            q_target: float32 [2, B, T, A], the slow critics' values after each step.
        """
        least = from_scale(q_target, self.value_scale).amin(dim=0)  # [B, T, A]
        bonus = self.temperature * entropy
        value = (policy * least).sum(dim=-1) + bonus  # [B, T]
        rewards = batch.rewards * self.reward_scale
        alive = (~batch.terminated & batch.mask).to(value.dtype)
        if self.n_step > 1:
            y = n_step_returns(rewards, self.discount, alive, value, batch.mask, self.n_step)
        elif self.trace > 0:
            follows = torch.zeros_like(alive)
            follows[:, :-1] = batch.mask[:, 1:].to(alive.dtype)
            y = lambda_returns(rewards, self.discount * alive, value, follows * self.trace, bonus)
        else:
            y = rewards + self.discount * alive * value
        return to_scale(y, self.value_scale)
