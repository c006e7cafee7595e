"""Protects learning itself: its rate, its target network, and that the defaults solve a maze."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmaze.training import TrainConfig, evaluate, train
from fastmaze.training.checkpoint import Checkpoint
from fastmaze.training.learner import Learner

Make = Callable[..., TrainConfig]


def test_the_learning_rate_warms_up_falls_and_settles(tiny: Make) -> None:
    config = tiny(
        learning_rate=1.0, warmup_updates=4, final_learning_rate=0.1, settled_learning_rate=0.1
    )
    learner = Learner(config)  # 12 rounds of 3 updates: 36
    rates = []
    for learner.updates in (0, 1, 3, 4, 18, 35):
        rates.append(learner._learning_rate())
    line = [0.1 + 0.9 * (1 - u / 36) for u in (0, 1, 3, 4, 18, 35)]
    assert rates == pytest.approx([line[0] / 4, line[1] / 2, *line[2:]])
    learner.settle(1)
    learner.settle(2)
    learner.updates = 18
    assert learner._learning_rate() == pytest.approx(0.1)
    learner.settle(0)  # lost: at the full rate again, and an evaluation later next time
    assert learner._learning_rate() == pytest.approx(line[4])
    learner.settle(1)
    assert learner._learning_rate() == pytest.approx(line[4])
    learner.settle(2)
    assert learner._learning_rate() == pytest.approx(0.1)
    learner.close()


def test_settling_survives_a_checkpoint_and_follows_the_evaluations(tiny: Make) -> None:
    learner = Learner(tiny())
    learner.collect()
    learner.learn()
    learner.settle(2)
    learner.settle(0)
    learner.settle(3)
    tensors, values = learner.get_state()
    other = Learner(tiny())
    other.set_state(Checkpoint(tensors, {"learner": values}))
    assert other.setbacks == 1
    assert other._learning_rate() == learner._learning_rate()
    assert other.settled
    learner.close()
    other.close()


def test_the_target_network_follows_slowly(tiny: Make) -> None:
    learner = Learner(tiny(target_rate=0.25, grad_clip=0.5))
    learner.collect()
    before = [p.clone() for p in learner.target.parameters()]
    learner.update(learner.replay.sample(4, learner.rng), 1e-3)
    for old, slow, fast in zip(
        before, learner.target.parameters(), learner.online.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, old + 0.25 * (fast - old))
        assert not slow.requires_grad
    learner.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"num_episodes": 32 * 24}, {"model": "lstm", "num_episodes": 32 * 96}],
    ids=["gpt", "lstm"],
)
def test_the_defaults_solve_a_short_maze(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = TrainConfig(length=6, num_threads=1, run_dir=tmp_path / "run", **changes)
    result = train(config, progress=False)
    assert result.solved
    assert evaluate(result.run_dir).success == 1.0


def test_a_solution_is_held_on_to(tiny: Make) -> None:
    learner = Learner(tiny(target_rate=0.1, settle_after=2))
    learner.collect()
    learner.learn()
    target = [p.clone() for p in learner.target.parameters()]
    assert any((p != q).any() for p, q in zip(target, learner.online.parameters(), strict=True))
    for solved_in_a_row in (0, 1):
        learner.settle(solved_in_a_row)
    assert any((p != q).any() for p, q in zip(target, learner.online.parameters(), strict=True))
    learner.settle(2)
    for p, q in zip(target, learner.online.parameters(), strict=True):
        assert torch.equal(p, q)
        assert q.requires_grad
    learner.learn()
    moved = [q.clone() for q in learner.online.parameters()]
    learner.settle(3)  # still solved: goes on from where it is
    assert all(torch.equal(p, q) for p, q in zip(moved, learner.online.parameters(), strict=True))
    learner.settle(0)  # lost: goes on from where it is, too
    assert all(torch.equal(p, q) for p, q in zip(moved, learner.online.parameters(), strict=True))
    learner.close()
