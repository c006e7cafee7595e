"""Protects learning from the choice of attention: it changes the speed, results by rounding alone.

Stated errors: loss and gradients of an update 1e-4 of their size, metrics of a short run 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.training import TrainConfig, train
from fastmaze.training.learner import Learner
from fastmaze.training.logging import WALL_CLOCK
from fastmaze.training.torch_settings import torch_settings

Make = Callable[..., TrainConfig]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def one_update(config: TrainConfig) -> dict[str, Tensor]:
    """Loss and gradients of the first update after a round of random actions."""
    torch.manual_seed(config.seed)
    learner = Learner(config)
    try:
        learner.collect()
        learner.online.train()
        learner.target.train()
        batch = learner.replay.sample(config.hyper.batch_size, learner.rng)
        torch.manual_seed(5)
        loss = learner.update.algorithm.loss(learner.online, learner.target, batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {f"d {n}": p.grad for n, p in learner.online.named_parameters() if "qkv" in n}
        assert all(gradient.abs().max() > 0 for gradient in gradients.values())
        return {
            "loss": loss.detach(),
            **{n: p.grad for n, p in learner.online.named_parameters()},
        }
    finally:
        learner.close()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("impl", ["auto", "sdpa", "triton"])
def test_an_update_is_the_same_by_every_attention(tiny: Make, impl: str, dropout: float) -> None:
    if impl == "triton":
        pytest.importorskip("triton")
    if impl == "sdpa" and dropout:
        pytest.skip("sdpa has no dropout")
    options: dict[str, Any] = dict(
        width=32, num_heads=2, dropout=dropout, device=DEVICE, positions="sinusoidal"
    )
    ours, theirs = (
        one_update(tiny(attention_impl=name, **options)) for name in (impl, "reference")
    )
    for name, expected in theirs.items():
        size = float(expected.abs().max())
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-4, atol=1e-4 * size, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_short_run_has_the_same_metrics(tiny: Make, dropout: float) -> None:
    ours, theirs = (
        train(
            tiny(impl, attention_impl=impl, dropout=dropout, num_episodes=24, width=32),
            progress=False,
        ).history
        for impl in ("auto", "reference")
    )
    assert len(ours) == len(theirs) == 6
    for line, expected in zip(ours, theirs, strict=True):
        assert line.keys() - WALL_CLOCK == expected.keys() - WALL_CLOCK
        for name in expected.keys() - WALL_CLOCK:
            assert line[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name
    assert ours[-1]["loss"] > 0


def test_precision_is_set_for_the_run_alone_and_on_a_gpu_alone(tiny: Make) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for left in ("highest", "medium"):
            torch.set_float32_matmul_precision(left)
            for device, precision, expected in (
                ("cuda", "tf32", "high"),
                ("cuda:0", "ieee", "highest"),
                ("cpu", "tf32", left),
            ):
                config = tiny(device=device, float32_precision=precision)
                with torch_settings(config):
                    assert torch.get_float32_matmul_precision() == expected
                assert torch.get_float32_matmul_precision() == left
    finally:
        torch.set_float32_matmul_precision(before)
