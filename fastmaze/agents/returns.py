"""Returns from rewards and from values of what follows, and the scales that networks predict in."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from fastmaze.kernels.discounted_returns import discounted_returns

ValueScale = Literal["linear", "symlog"]
VALUE_SCALES: Final = ("linear", "symlog")


def lambda_returns(
    rewards: Tensor, discount: Tensor, value: Tensor, trace: Tensor, bonus: Tensor | None = None
) -> Tensor:
    """Backwards: G_t = r_t + discount_t ((1 - trace_t) V_t + trace_t (bonus_t + G_{t+1})).

    Args:
        rewards: float32 [B, T].
        discount: float32 [B, T], 0 where nothing follows step t.
        value: float32 [B, T], of what follows step t.
        trace: float32 [B, T], how far the next step's return takes the value's place; 0 at the
            last step.
        bonus: float32 [B, T], what is added to that return; None for nothing.

    Returns:
        float32 [B, T].
    """
    base = rewards + discount * (1 - trace) * value
    if bonus is not None:
        base = base + discount * trace * bonus
    return discounted_returns(base, discount * trace)


def n_step_returns(
    rewards: Tensor, discount: float, alive: Tensor, value: Tensor, mask: Tensor, steps: int
) -> Tensor:
    """Sums n rewards, then the value; fewer where the episode ends or breaks off.

    Args:
        rewards: float32 [B, T].
        discount: worth of a reward one step later.
        alive: float32 [B, T], 0 where nothing follows step t.
        value: float32 [B, T], of what follows step t.
        mask: bool [B, T], False for padding.
        steps: n.

    Returns:
        float32 [B, T].
    """
    # One step longer each time: y^(n)_t = r_t + discount * y^(n-1)_{t+1}.
    y = rewards + discount * alive * value
    one_step = y
    follows = torch.zeros_like(alive)
    follows[:, :-1] = mask[:, 1:].to(alive.dtype)
    for _ in range(min(steps, y.shape[1]) - 1):
        later = torch.cat([y[:, 1:], y[:, -1:]], dim=1)
        y = torch.where((follows * alive).bool(), rewards + discount * later, one_step)
    return y


def to_scale(returns: Tensor, scale: ValueScale) -> Tensor:
    """What a network is to predict for these returns."""
    return symlog(returns) if scale == "symlog" else returns


def from_scale(predicted: Tensor, scale: ValueScale) -> Tensor:
    """The returns that a network's predictions mean."""
    return symexp(predicted) if scale == "symlog" else predicted


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): about x where x is small, its logarithm where it is large."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`; bounded, for a network's wild guess must not become infinite."""
    return x.sign() * x.abs().clamp(max=20.0).expm1()
