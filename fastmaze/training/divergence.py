"""Learning that has gone to infinity or to no number at all: noticed before it is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn


class DivergedError(ValueError):
    """The loss, its gradient or the weights are not finite any more."""


def check_finite(
    stats: Mapping[str, float],
    networks: Mapping[str, nn.Module],
    *,
    round_: int,
    updates: tuple[int, int],
    advice: str,
) -> None:
    """Raises DivergedError unless a round's statistics and the weights after it are finite.

    Args:
        stats: means over the round's updates, by name.
        networks: by name.
        round_: which round it was.
        updates: done before the round and after it.
        advice: what the caller has to say beside what to try.
    """
    bad = [f"{name} is {value}" for name, value in stats.items() if not math.isfinite(value)]
    bad += [
        f"the weights of the {name} network are not finite"
        for name, network in networks.items()
        if not _finite(network.parameters())
    ]
    if not bad:
        return
    first, last = updates
    raise DivergedError(
        f"learning diverged in round {round_}, updates {first + 1} to {last}: {'; '.join(bad)}. "
        "To try, in a new run: a smaller learning_rate, grad_clip 1, more warmup_updates, a "
        f"smaller reward_scale, another seed. {advice}"
    )


def _finite(weights: Iterable[torch.Tensor]) -> bool:
    """One answer from the device, however many tensors there are."""
    return bool(torch.stack([w.detach().isfinite().all() for w in weights]).all())
