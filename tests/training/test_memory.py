"""Protects the count of memory before a run: near enough, and a refusal that says what to do."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.agents.batch import Batch
from fastmaze.agents.ddqn import DDQN
from fastmaze.training import TrainConfig, memory, train
from fastmaze.training import trainer as trainer_module
from fastmaze.training.free_memory import _container_memory, free_memory
from fastmaze.training.learner import Learner
from fastmaze.training.memory import (
    activation_bytes,
    cache_bytes,
    network_bytes,
    plan_memory,
    plan_update,
)
from fastmaze.training.network import build_network

Make = Callable[..., TrainConfig]

GPT_CHANGES: list[dict[str, Any]] = [
    {"num_heads": 1},
    {"num_layers": 2, "num_heads": 2},
    {"positions": "rotary"},
    {"positions": "learned", "dropout": 0.1, "obs_width": 32},
]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("changes", [*GPT_CHANGES, {"model": "lstm"}])
def test_activations_are_those_that_autograd_keeps(
    changes: dict[str, Any], recompute: bool
) -> None:
    """Within 30 %, without what passes need for a moment."""
    config = TrainConfig(length=40, **changes)
    if recompute and config.model == "lstm":
        pytest.skip("an LSTM has no blocks to recompute")
    network = build_network(config, recompute=recompute)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), x)
        return x

    B, T = 4, config.spec.episode_length
    batch = Batch(
        obs=torch.zeros(B, T + 1, config.spec.obs_shape[0]),
        actions=torch.zeros(B, T, dtype=torch.int64),
        rewards=torch.zeros(B, T),
        terminated=torch.zeros(B, T, dtype=torch.bool),
        mask=torch.ones(B, T, dtype=torch.bool),
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        DDQN(discount=0.9).loss(network, lambda *_: torch.zeros(B, T + 1, 4), batch)
    found = sum(size for size, _ in kept.values())
    momentary = 4 * B * (T + 1) * memory._TEMPORARY * config.hyper.width
    counted = activation_bytes(config, B, recompute=recompute) - momentary
    if recompute:  # one block is there as well while it is recomputed
        deeper = dataclasses.replace(config, num_layers=config.hyper.num_layers + 1)
        counted -= activation_bytes(deeper, B, recompute=False)
        counted += activation_bytes(config, B, recompute=False)
    assert 0.7 * counted < found < 1.3 * counted


@pytest.mark.parametrize("changes", [*GPT_CHANGES, {"model": "lstm", "num_layers": 2}])
def test_networks_and_caches_are_counted(changes: dict[str, Any]) -> None:
    config = TrainConfig(length=40, **changes)
    network = build_network(config)
    parameters = sum(p.numel() for p in network.parameters())
    assert network_bytes(config) == pytest.approx(5 * 4 * parameters, rel=0.02)
    state = network.device_state(3, config.spec.episode_length)  # no less than any rollout takes
    tensors = (state.keys, state.values) if config.model == "gpt" else state  # type: ignore[attr-defined]
    # An LSTM's new states are made while the old ones are there, with four gates.
    times = 1 if config.model == "gpt" else 4
    assert cache_bytes(config, 3) == times * sum(x.nbytes for x in tensors)


def test_what_is_kept_is_counted(tiny: Make) -> None:
    config = tiny(num_envs=6, length=20)
    learner = Learner(config)
    parts = {part.name: part.bytes for part in plan_memory(config).parts}
    replay, collector = learner.replay, learner.collector
    learner.close()
    assert parts["replay"] == sum(x.nbytes for x in (replay.obs, replay.actions, replay.rewards))
    played = (collector.obs, collector.actions, collector.rewards)
    assert parts["episodes under way"] == sum(x.nbytes for x in played)


def test_updates_are_cut_by_length_alone() -> None:
    """So that the same configuration is the same run; equal slices; an LSTM's are not too thin."""
    assert plan_update(TrainConfig(length=50)).micro_batch_size == 32
    assert plan_update(TrainConfig(length=500)).micro_batch_size == 8
    assert plan_update(TrainConfig(length=1500)).micro_batch_size == 2
    assert plan_update(TrainConfig(length=10_000)).micro_batch_size == 1
    assert plan_update(TrainConfig(length=1500, model="lstm")).micro_batch_size == 8
    assert plan_update(TrainConfig(length=5, micro_batch_size=20)).micro_batch_size == 16
    assert plan_update(TrainConfig(length=50), processes=4).micro_batch_size == 8


def test_distinct_histories_are_cut_by_their_number() -> None:
    """So that memory stops growing with the batch where it would be large; longer ones share."""
    rows = [plan_update(TrainConfig(length=n)).distinct_rows for n in (50, 500, 1500, 10_000)]
    assert rows == [32 * 52, 32 * 502, 2**14, 4 * 10_002]
    assert plan_update(TrainConfig(length=500, micro_batch_size=3)).distinct_rows == 3 * 502
    whole, lstm = (plan_update(TrainConfig(length=1500, model=m)) for m in ("gpt", "lstm"))
    assert whole.bytes < 0.6 * 2**30
    assert lstm.distinct_rows == 8 * 1502, "whose steps cost much the same for fewer"
    assert lstm.bytes < whole.bytes


def test_long_updates_fit_a_card_of_24_gigabytes() -> None:
    config = TrainConfig(length=10_000, batch_size=64, device="cuda")
    update = plan_update(config)
    assert not update.recompute
    assert update.bytes < 16 * 2**30
    longer = TrainConfig(length=1_500_000, batch_size=64, device="cuda")
    update = plan_update(longer)
    assert (update.micro_batch_size, update.recompute) == (1, True)
    assert activation_bytes(longer, 1, recompute=False) > memory.UPDATE_BYTES["cuda"]


def test_a_length_that_cannot_fit_is_refused_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    config = TrainConfig(length=10_000_000, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=r"memory: the run needs .* on cpu, .* are free"):
        train(config, progress=False)
    assert time.monotonic() - began < 5
    assert not config.directory.exists()


def test_what_is_not_counted_is_not_forecast() -> None:
    """Only some updates compute distinct histories, which take more at once."""
    counted = plan_update(TrainConfig(length=1500)).bytes
    for changes in (
        {"compile_update": True},
        {"separate_forwards": True},
        {"attention_impl": "sdpa"},
        {"positions": "sinusoidal"},
    ):
        config = TrainConfig(length=1500, **changes)  # type: ignore[arg-type]
        assert not config.shares_histories
        assert plan_update(config).bytes < 0.5 * counted
    assert not TrainConfig(algorithm="sac-discrete").shares_histories
    assert not TrainConfig(task="KeyToDoor").shares_histories, "images"
    assert not TrainConfig(device="cuda").shares_histories
    assert TrainConfig().shares_histories


@pytest.mark.parametrize("given", [{"micro_batch_size": 32}, {}], ids=["asked", "default"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.1])
def test_following_the_advice_makes_it_fit(share: float, given: dict[str, Any]) -> None:
    config = TrainConfig(length=1000, **given)
    free = int(share * plan_memory(config).total("cpu"))
    with pytest.raises(ValueError, match="To make it fit, lower ") as caught:
        plan_memory(config).check({"cpu": free})
    advice = re.findall(r"(\w+) to ([\d_]+)", str(caught.value).split("lower ")[1])
    changes: dict[str, Any] = {name: int(value) for name, value in advice}
    smaller = TrainConfig(length=1000, **{**given, **changes})
    plan_memory(smaller).check({"cpu": free})


def test_what_nothing_helps_says_so(tiny: Make) -> None:
    with pytest.raises(ValueError, match="not enough: set recompute, or lower length"):
        plan_memory(tiny()).check({"cpu": 100})


def test_the_plan_is_told_before_anything_else(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(trainer_module, "Learner", stop)
    with pytest.raises(Stop):
        train(tiny())
    said = capsys.readouterr().out
    assert re.match(r"memory on cpu, at most [\d.]+ MiB at once: .*update [\d.]+ MiB", said)


def test_several_processes_share_the_host(tiny: Make) -> None:
    alone, shared = plan_memory(tiny()), plan_memory(tiny(), processes=2)
    for one, other in zip(alone.parts, shared.parts, strict=True):
        if one.name in ("replay", "rollout's cache", "evaluation's cache", "exploration"):
            assert other.bytes == one.bytes // 2


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    """Both kinds; files that were read can go; "max" and numbers near 2**63 are no limit."""
    assert 0 < free_memory("cpu") < 2**62
    assert _container_memory(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 50\n")
    assert _container_memory(tmp_path) == [350]
    (tmp_path / "memory.max").write_text("max\n")
    assert _container_memory(tmp_path) == []
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (old / "memory.usage_in_bytes").write_text("5\n")
    (old / "memory.stat").write_text("total_inactive_file 1\n")
    assert _container_memory(tmp_path) == []
    (old / "memory.limit_in_bytes").write_text("10\n")
    assert _container_memory(tmp_path) == [6]
