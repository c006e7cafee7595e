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
from typing import Final, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from fastmaze.kernels.discounted_returns import discounted_returns

ValueScale = Literal["linear", "symlog"]
VALUE_SCALES: Final = ("linear", "symlog")


class Batch(NamedTuple):
    """Whole episodes, shorter ones padded at the end."""

    obs: Tensor
    """float32 [B, T + 1, D]."""
    actions: Tensor
    """int64 [B, T]."""
    rewards: Tensor
    """float32 [B, T]."""
    terminated: Tensor
    """bool [B, T]: the episode ends with this step, and no value follows."""
    mask: Tensor
    """bool [B, T]: False for padding."""


class Loss(NamedTuple):
    """The loss and what one likes to watch of it: float32 scalars, the rest without gradient."""

    loss: Tensor
    q_mean: Tensor
    """Mean predicted value of the actions taken."""
    target_mean: Tensor
    """Mean target."""


class SequenceQ(Protocol):
    """Whatever maps obs [B, T + 1, D] and actions [B, T] to values [B, T + 1, A]."""

    def __call__(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Action values at every step."""


@dataclass(frozen=True, slots=True)
class DDQN:
    """The loss of double Q-learning (van Hasselt et al. 2016) over episodes.

    The online network picks the next action, the target network values it.
    """

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
    """Share of an episode's loss that its first and its last step have each, at least 1 / T, which
    all others have; 0 for that."""
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
                y = self._to_scale(batch.rewards * self.reward_scale)
        predicted = q.gather(2, batch.actions[:, :, None])[:, :, 0]  # [B, T]
        mask = batch.mask.to(predicted.dtype)
        count = mask.sum().clamp(min=1.0)
        loss = ((predicted - y).square() * self._weights(mask)).sum() / count
        with torch.no_grad():
            return Loss(loss, (predicted * mask).sum() / count, (y * mask).sum() / count)

    def _weights(self, mask: Tensor) -> Tensor:
        """What each step counts for, float32 [B, T]; an episode's weights add up to its length."""
        if not self.edge_share:
            return mask
        length = mask.sum(dim=1, keepdim=True)  # [B, 1]
        last = mask.clone()
        last[:, :-1] -= mask[:, 1:]
        edge = last.clone()
        edge[:, 0] = mask[:, 0]
        share = (1 / length).clamp(min=self.edge_share)  # never less than the other steps' own
        inner = (1 - 2 * share) / (length - 2).clamp(min=1.0)
        weights = length * (edge * share + (mask - edge) * inner)
        return torch.where(length > 2, weights, mask)

    def _to_scale(self, returns: Tensor) -> Tensor:
        return symlog(returns) if self.value_scale == "symlog" else returns

    def targets(self, batch: Batch, q_next: Tensor, q_target: Tensor) -> Tensor:
        """What Q(h_t, a_t) is drawn to, float32 [B, T].

        Args:
            batch: whole episodes.
            q_next: float32 [B, T, A], online values after each step: they pick the action.
            q_target: float32 [B, T, A], target values after each step: they value it.
        """
        best = q_next.argmax(dim=2)  # [B, T]
        value = q_target.gather(2, best[:, :, None])[:, :, 0]  # [B, T]
        if self.value_scale == "symlog":
            value = symexp(value)
        rewards = batch.rewards * self.reward_scale
        alive = (~batch.terminated & batch.mask).to(value.dtype)
        if self.n_step > 1:
            return self._to_scale(self._n_step(rewards, alive, value, batch.mask))
        if self.trace > 0:
            # The action taken after step t is greedy: the return may be followed further.
            greedy = torch.zeros_like(alive)
            greedy[:, :-1] = (best[:, :-1] == batch.actions[:, 1:]).to(value.dtype)
            greedy[:, :-1] *= batch.mask[:, 1:]
            return self._to_scale(self._traces(rewards, alive, value, greedy * self.trace))
        return self._to_scale(rewards + self.discount * alive * value)

    def _traces(self, rewards: Tensor, alive: Tensor, value: Tensor, trace: Tensor) -> Tensor:
        """Backwards: G_t = r_t + discount * ((1 - trace_t) V_t + trace_t G_{t+1})."""
        bootstrap = rewards + self.discount * alive * (1 - trace) * value
        factor = self.discount * alive * trace
        return discounted_returns(bootstrap, factor)

    def _n_step(self, rewards: Tensor, alive: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Sums n rewards, then the value; fewer where the episode ends or breaks off."""
        # One step longer each time: y^(n)_t = r_t + discount * y^(n-1)_{t+1}.
        y = rewards + self.discount * alive * value
        one_step = y
        follows = torch.zeros_like(alive)
        follows[:, :-1] = mask[:, 1:].to(alive.dtype)
        for _ in range(min(self.n_step, y.shape[1]) - 1):
            later = torch.cat([y[:, 1:], y[:, -1:]], dim=1)
            y = torch.where((follows * alive).bool(), rewards + self.discount * later, one_step)
        return y


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): about x where x is small, its logarithm where it is large."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`; bounded, for a network's wild guess must not become infinite."""
    return x.sign() * x.abs().clamp(max=20.0).expm1()
