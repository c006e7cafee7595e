"""Double Q-learning over whole episodes: targets and loss, no loops, no optimiser.

```
 obs      o_0   o_1   o_2   ...  o_T        T + 1 of them, from the reset to the last
 action      a_0   a_1   ...  a_{T-1}
 reward      r_0   r_1   ...  r_{T-1}
 Q(h_t,·)  0     1     2    ...  T          predictions at 0..T-1, bootstraps at 1..T
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


class SequenceQ(Protocol):
    """Whatever maps obs [B, T + 1, D] and actions [B, T] to values [B, T + 1, A]."""

    def __call__(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Action values at every step."""


@dataclass(frozen=True, slots=True)
class DDQN:
    """The loss of double Q-learning (van Hasselt et al. 2016) over episodes.

    The online network picks the next action, the target network values it.
    """

    samples_actions: ClassVar[bool] = False
    """Whether rollouts draw actions from the policy instead of taking its likeliest."""

    discount: float
    """Worth of a reward one step later."""
    trace: float = 0.0
    """Lambda of Watkins' Q(lambda): 0 bootstraps after one step, 1 at the first action that was not
    greedy (or never); between, exponentially mixed."""
    n_step: int = 1
    """Rewards summed before bootstrapping, uncorrected for exploration; needs `trace` 0."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before anything else."""
    value_scale: ValueScale = "linear"
    """What the networks predict: returns, or their `symlog`, in which a step's penalty is still
    seen beside a goal that is worth thousands of them. Targets are computed in returns (the
    transformed Bellman operator of Pohlen et al. 2018)."""
    edge_share: float = 0.0
    """Share of an episode's loss that each of its edges has, at least 1 / T, which all other steps
    have; 0 for that. Edges are the first step, the last, and those at which the reward changes."""
    separate_forwards: bool = False
    """Run the online network a second time, without gradients, to pick the next actions, as the
    published code does: another dropout mask, half as much work again."""

    def loss(self, online: SequenceQ, target: SequenceQ, batch: Batch) -> Loss:
        """Mean squared error between Q(h_t, a_t) and its target, over unpadded steps.

        Args:
            online: the network that learns.
            target: its slow copy; no gradients are needed. Not asked where `discount` is 0.
            batch: whole episodes.
        """
        if self.separate_forwards and self.discount:
            with torch.no_grad():
                q_next = online(batch.obs, batch.actions)[:, 1:]  # [B, T, A]
            q = online(batch.obs[:, :-1], batch.actions[:, :-1])  # [B, T, A]
        else:
            # Causal: the first T outputs over T + 1 steps are those over T steps.
            q_all = online(batch.obs, batch.actions)  # [B, T + 1, A]
            q, q_next = q_all[:, :-1], q_all[:, 1:].detach()
        with torch.no_grad():
            if self.discount:
                q_target = target(batch.obs, batch.actions)[:, 1:]  # [B, T, A]
                y = self.targets(batch, q_next, q_target)
            else:  # nothing that follows counts: the rewards are the targets
                y = to_scale(batch.rewards * self.reward_scale, self.value_scale)
        predicted = q.gather(2, batch.actions[:, :, None])[:, :, 0]  # [B, T]
        mask = batch.mask.to(predicted.dtype)
        count = mask.sum().clamp(min=1.0)
        weights = step_weights(mask, batch.rewards, self.edge_share)
        loss = ((predicted - y).square() * weights).sum() / count
        with torch.no_grad():
            return Loss(loss, (predicted * mask).sum() / count, (y * mask).sum() / count)

    def targets(self, batch: Batch, q_next: Tensor, q_target: Tensor) -> Tensor:
        """What Q(h_t, a_t) is drawn to, float32 [B, T].

        Args:
            batch: whole episodes.
            q_next: float32 [B, T, A], online values after each step: they pick the action.
            q_target: float32 [B, T, A], target values after each step: they value it.
        """
        best = q_next.argmax(dim=2)  # [B, T]
        value = q_target.gather(2, best[:, :, None])[:, :, 0]  # [B, T]
        value = from_scale(value, self.value_scale)
        rewards = batch.rewards * self.reward_scale
        alive = (~batch.terminated & batch.mask).to(value.dtype)
        if self.n_step > 1:
            y = n_step_returns(rewards, self.discount, alive, value, batch.mask, self.n_step)
        elif self.trace > 0:
            # The action taken after step t is greedy: the return may be followed further.
            greedy = torch.zeros_like(alive)
            greedy[:, :-1] = (best[:, :-1] == batch.actions[:, 1:]).to(value.dtype)
            greedy[:, :-1] *= batch.mask[:, 1:]
            y = lambda_returns(rewards, self.discount * alive, value, greedy * self.trace)
        else:
            y = rewards + self.discount * alive * value
        return to_scale(y, self.value_scale)
