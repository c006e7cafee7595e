"""`fastmaze bench update` takes the learner's own update apart without changing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fastmaze.bench.update_ours import fill_replay
from fastmaze.bench.update_parts import (
    ROLLOUT_PARTS,
    UPDATE_PARTS,
    Recorder,
    Work,
    attention_flops,
    taken_apart,
)
from fastmaze.models import gpt
from fastmaze.training.config import TrainConfig
from fastmaze.training.learner import Learner

CPU = torch.device("cpu")

FORWARD = ["{0} forward", "{0} attention", "{0} forward", "loss"]
ONLINE = [part.format("online") for part in FORWARD]
LOOKED_UP = ("histories", "rest")
TARGET = [part.format("target") for part in FORWARD]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Learner]]:
    learners = []

    def make(**changes: Any) -> Learner:
        torch.manual_seed(0)
        small: dict[str, Any] = {"length": 7, "width": 32, "batch_size": 4, "num_envs": 3}
        small |= {"discount": 0.9, "updates_per_round": 1, "run_dir": tmp_path}
        config = TrainConfig(**{**small, **changes})
        learners.append(Learner(config))
        fill_replay(learners[-1])
        return learners[-1]

    yield make
    for learner in learners:
        learner.close()


class Diary(Recorder):
    """Remembers the order of the parts."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.order: list[str] = []

    def begin(self, part: str) -> str:
        self.order.append(part)
        return super().begin(part)

    def began(self, part: str) -> None:
        self.order.append(part)
        super().began(part)


@pytest.mark.parametrize(
    ("changes", "forwards", "looked_up"),
    [
        ({}, ONLINE + TARGET, LOOKED_UP),
        ({"attention_impl": "sdpa"}, ONLINE + TARGET, ()),
        ({"dropout": 0.1}, ONLINE + TARGET, ()),
        ({"discount": 0.0}, ONLINE, LOOKED_UP),
        ({"separate_forwards": True}, ONLINE + ONLINE + TARGET, ()),
    ],
)
def test_the_parts_of_an_update_come_in_their_order(
    make: Callable[..., Learner],
    changes: dict[str, Any],
    forwards: list[str],
    looked_up: tuple[str, ...],
) -> None:
    learner, diary = make(**changes), Diary()
    with taken_apart(learner, diary):
        learner.learn()
    assert diary.order == [
        *("sample", "rest", *looked_up, "loss"),
        *forwards,
        *("backward", "attention backward", "backward", "clip and step", "target update"),
    ]
    seconds = diary.seconds()
    assert seconds.keys() <= set(UPDATE_PARTS)
    assert all(value >= 0 for value in seconds.values())


def test_an_lstm_has_no_attention(make: Callable[..., Learner]) -> None:
    learner, diary = make(model="lstm"), Diary()
    with taken_apart(learner, diary):
        learner.learn()
    assert not [part for part in diary.order if "attention" in part]
    assert {"online forward", "target forward", "backward", "clip and step"} <= set(diary.order)


def test_a_rollout_is_steps_of_the_network_and_of_the_environments(
    make: Callable[..., Learner],
) -> None:
    learner, diary = make(), Diary()
    with taken_apart(learner, diary):
        learner.collect()
    T = learner.spec.episode_length
    assert diary.order.count("network step") == diary.order.count("env step") == T
    assert diary.seconds().keys() <= set(ROLLOUT_PARTS)


def test_taking_apart_changes_nothing_and_leaves_nothing(make: Callable[..., Learner]) -> None:
    plain, hooked = make(dropout=0.1), make(dropout=0.1)
    attention, diary = vars(gpt)["causal_attention"], Diary()
    torch.manual_seed(1)
    plain.collect()
    plain.learn()
    torch.manual_seed(1)
    with taken_apart(hooked, diary):
        hooked.collect()
        hooked.learn()
    same = zip(plain.online.parameters(), hooked.online.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert vars(gpt)["causal_attention"] is attention
    assert hooked.update.algorithm == plain.update.algorithm
    noted = len(diary.order)
    hooked.collect()
    hooked.learn()
    assert len(diary.order) == noted > 0


@pytest.mark.parametrize(
    "changes",
    [{}, {"model": "lstm"}, {"model": "lstm", "separate_forwards": True}, {"dropout": 0.1},
     {"recompute": True}],
)  # fmt: skip
def test_products_are_counted(make: Callable[..., Learner], changes: dict[str, Any]) -> None:
    """As torch counts them, which knows no LSTM of its own and no attention of ours."""
    learner, recorder = make(num_layers=2, discount=0.0, **changes), Recorder(CPU)
    with taken_apart(learner, recorder), Work(recorder):
        learner.learn()
    learner.rng = np.random.default_rng(learner.config.seed)  # the same batch again
    B, T, F, E = 4, learner.spec.episode_length + 1, 32, 128
    with FlopCounterMode(display=False) as counter:  # type: ignore[no-untyped-call]
        learner.learn()
    counted = counter.get_total_flops()
    # Of distinct histories torch counts the products; of every step, the library's are unknown.
    every_step = "separate_forwards" in changes
    lstm = B * T * 2 * 4 * F * (E + 3 * F) if every_step else 0
    pairs = B * T * (T + 1) // 2
    attention = 0 if "model" in changes else 2 * 2 * 2 * F * pairs  # two products of two layers
    again = 2 if "recompute" in changes else 1
    flops = recorder.flops
    assert flops["online attention"] == attention
    assert flops["attention backward"] >= attention * 5 // 2
    assert sum(flops.values()) == counted + 3 * lstm + (again + 2.5) * attention
    assert flops["backward"] > 1.5 * flops["online forward"] > 0


def test_distinct_histories_are_less_work(make: Callable[..., Learner]) -> None:
    def flops(**changes: Any) -> int:
        learner, recorder = make(length=40, batch_size=16, **changes), Recorder(CPU)
        fill_replay(learner, practised=True)
        with taken_apart(learner, recorder), Work(recorder):
            learner.learn()
        return sum(recorder.flops.values())

    assert flops() < 0.6 * flops(attention_impl="sdpa")


def test_causal_attention_has_a_product_for_each_query_and_key_before_it() -> None:
    pairs = 1 + 2 + 3 + 4 + 5
    multiply_and_add, scores_and_values, sequences, heads, width = 2, 2, 3, 4, 8
    expected = multiply_and_add * scores_and_values * sequences * heads * width * pairs
    assert attention_flops(torch.zeros(sequences, heads, 5, width)) == expected


def test_work_counts_what_an_operation_reads_and_writes() -> None:
    recorder = Recorder(CPU)
    x, y = torch.ones(8, 16), torch.ones(8, 16)
    with Work(recorder) as work:
        recorder.begin("loss")
        z = x + y
        recorder.begin("sample")
        z.view(-1)[3:].t()
        recorder.begin("backward")
        z.add_(torch.ones(1).expand(8, 16))
    array = 8 * 16 * 4
    assert work.bytes["loss"] == 3 * array
    assert work.bytes["sample"] == 0
    in_place = 2 * array + 4
    assert in_place <= work.bytes["backward"] <= in_place + 16, "an expanded row is read once"


@pytest.mark.parametrize(
    "changes", [{}, {"attention_impl": "sdpa"}, {"dropout": 0.1}, {"model": "lstm"}]
)
def test_bytes_and_kept_activations_grow_with_the_length(
    make: Callable[..., Learner], changes: dict[str, Any]
) -> None:
    """Nothing of T × T is kept or moved between operations, whatever the clock says."""

    def amounts(length: int) -> tuple[int, int]:
        learner, recorder = make(length=length - 1, **changes), Recorder(CPU)
        with taken_apart(learner, recorder), Work(recorder) as work:
            learner.learn()
        kept: list[int] = []

        def pack(x: Tensor) -> Tensor:
            kept.append(x.numel() * x.element_size())
            return x

        learner.online.train()
        batch = learner.replay.sample(4, learner.rng)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            learner.update.gradients(batch)
        return sum(work.bytes.values()), sum(kept)

    small, large = amounts(128), amounts(256)
    for a, b in zip(small, large, strict=True):
        assert 1.2 * a < b <= 2.1 * a
