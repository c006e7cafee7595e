"""Protects one update: however it is cut, recomputed or launched, it is the whole batch's."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.agents.batch import Batch
from fastmaze.models.histories import Histories
from fastmaze.models.q_network import QNetwork
from fastmaze.training import TrainConfig
from fastmaze.training.learner import Learner
from fastmaze.training.memory import plan_memory
from fastmaze.training.network import build_network
from fastmaze.training.torch_settings import check_compute_dtype
from fastmaze.training.update import Update

Make = Callable[..., TrainConfig]


def padded_batch(config: TrainConfig, rows: int) -> Batch:
    """Random episodes of different lengths, so that slices differ in their number of steps."""
    random = torch.Generator().manual_seed(3)
    T, D = config.spec.episode_length, config.spec.obs_shape[0]
    ends = torch.randint(1, T + 1, (rows,), generator=random)
    steps = torch.arange(T)
    return Batch(
        obs=torch.randn(rows, T + 1, D, generator=random),
        actions=torch.randint(0, 4, (rows, T), generator=random),
        rewards=torch.randn(rows, T, generator=random),
        terminated=steps[None] == ends[:, None] - 1,
        mask=steps[None] < ends[:, None],
    )


def one_update(
    config: TrainConfig,
    batch: Batch,
    *,
    micro: int | None = None,
    rows: int | None = None,
    recompute: bool = False,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Statistics, gradients and new weights of both networks."""
    torch.manual_seed(1)
    online = build_network(config, recompute=recompute).to(dtype)
    target = build_network(config).to(dtype).requires_grad_(False)
    update = Update(config, online, target, micro_batch_size=micro, distinct_rows=rows)
    batch = batch._replace(obs=batch.obs.to(dtype), rewards=batch.rewards.to(dtype))
    torch.manual_seed(2)
    stats = update(batch, 1e-3)
    found = {"stats": stats}
    for name, parameter in online.named_parameters():
        assert parameter.grad is not None
        found |= {f"d {name}": parameter.grad, name: parameter.detach()}
    return found | {f"target {n}": p for n, p in target.named_parameters()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"grad_clip": 0.01, "trace": 0.7, "discount": 0.9, "value_scale": "symlog"},
        {"separate_forwards": True, "num_layers": 2, "num_heads": 2, "discount": 0.99},
        {"discount": 0.0},
        {"model": "lstm"},
    ],
    ids=["default", "clipped", "paper", "no-future", "lstm"],
)
@pytest.mark.parametrize("micro", [1, 3, 5])
def test_micro_batches_add_up_to_the_batch(tiny: Make, changes: dict[str, Any], micro: int) -> None:
    """In float64 to rounding; in float32 to 1e-6 of the largest gradient."""
    config = tiny(length=11, reward_scale=1.0, **changes)
    batch = padded_batch(config, 7)
    exact = one_update(config, batch, dtype=torch.float64)
    cut = one_update(config, batch, micro=micro, dtype=torch.float64)
    for name, value in exact.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-9, atol=1e-11, msg=name)
    whole, cut = one_update(config, batch), one_update(config, batch, micro=micro)
    torch.testing.assert_close(cut["stats"], whole["stats"], rtol=1e-6, atol=1e-6)
    gradients = [name for name in whole if name.startswith("d ")]
    largest = max(float(whole[name].abs().max()) for name in gradients)
    for name in gradients:
        assert float((cut[name] - whole[name]).abs().max()) <= 1e-6 * largest, name


def maze_batch(config: TrainConfig, rows: int) -> Batch:
    """As `padded_batch`, with observations of a maze: half of the episodes begin alike."""
    batch = padded_batch(config, rows)
    batch.obs[...] = batch.obs.sign()
    batch.obs[1 : rows // 2, :8] = batch.obs[0, :8]
    batch.actions[1 : rows // 2, :8] = batch.actions[0, :8]
    return batch


@pytest.mark.parametrize("rows", [None, 30, 1])
@pytest.mark.parametrize(
    "changes",
    [{"discount": 0.0}, {"discount": 1.0, "trace": 1.0}, {"discount": 0.9, "micro_batch_size": 3}],
    ids=["no-future", "whole-future", "cut"],
)
def test_distinct_histories_give_the_update_of_all_steps(
    tiny: Make, changes: dict[str, Any], rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics, gradients and new weights, in however few histories at a time."""
    used: list[tuple[int, int]] = []
    forward = QNetwork.forward

    def watched(
        network: QNetwork, obs: Tensor, actions: Tensor, histories: Histories | None = None
    ) -> Tensor:
        assert histories is not None
        used.append((len(obs), len(histories.distinct.newest)))
        return forward(network, obs, actions, histories)

    config = tiny(length=11, batch_size=7, num_episodes=8, **changes)
    batch = maze_batch(config, 7)
    with monkeypatch.context() as patch:
        patch.setattr(QNetwork, "forward", watched)
        got = one_update(config, batch, rows=rows, dtype=torch.float64)
    for episodes, histories in used:
        assert histories <= episodes * 13
        assert episodes <= changes.get("micro_batch_size", 7)
        assert rows is None or episodes == 1 or histories <= rows
    assert rows is not None or used[0][1] < used[0][0] * 13, "some are shared"
    plain = tiny(length=11, batch_size=7, num_episodes=8, attention_impl="sdpa", **changes)
    for name, value in one_update(plain, batch, dtype=torch.float64).items():
        largest = max(float(value.abs().max()), 1e-6)
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-5 * largest, msg=name)


def test_episodes_that_begin_alike_share_a_slice(tiny: Make) -> None:
    config = tiny(length=11)
    batch = maze_batch(config, 8)  # the first four begin alike
    shuffled = Batch(*(x[torch.tensor([4, 0, 5, 1, 6, 2, 7, 3])] for x in batch))
    order = build_network(config).alike_together(shuffled.obs, shuffled.actions)
    places = sorted(order.tolist().index(row) for row in (1, 3, 5, 7))
    assert places == list(range(places[0], places[0] + 4))


@pytest.mark.parametrize("changes", [{"compile_update": True}, {"separate_forwards": True}])
def test_what_needs_all_steps_is_given_them(
    tiny: Make, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("histories were looked for")

    monkeypatch.setattr(QNetwork, "histories", fail)
    monkeypatch.setattr(torch, "compile", lambda network: network)
    config = tiny(length=11, discount=0.9, **changes)
    one_update(config, maze_batch(config, 3))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_blocks_give_the_same_gradients(tiny: Make, dropout: float) -> None:
    """Bit for bit, and with dropout the same values are dropped again."""
    config = tiny(length=11, num_layers=2, dropout=dropout)
    batch = padded_batch(config, 4)
    plain, again = one_update(config, batch), one_update(config, batch, recompute=True)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_recomputing_keeps_less(tiny: Make) -> None:
    config = tiny(length=31, num_layers=4)
    batch = padded_batch(config, 4)

    def kept(recompute: bool) -> int:
        storages: dict[int, tuple[int, Tensor]] = {}

        def pack(x: Tensor) -> Tensor:
            storages[x.untyped_storage().data_ptr()] = (x.untyped_storage().nbytes(), x)
            return x

        network = build_network(config, recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            network(batch.obs, batch.actions)
        return sum(size for size, _ in storages.values())

    assert kept(True) < 0.35 * kept(False)


def test_without_a_future_the_target_network_is_not_asked(tiny: Make) -> None:
    config = tiny(discount=0.0, reward_scale=2.0, value_scale="linear", edge_share=0.0)
    online = build_network(config)

    def target(*_: object) -> Tensor:
        raise AssertionError("the target network was asked")

    learner = Learner(config)
    batch = padded_batch(config, 4)
    loss = learner.update.algorithm.loss(online, target, batch)
    learner.close()
    q = online(batch.obs, batch.actions)[:, :-1].gather(2, batch.actions[:, :, None])[:, :, 0]
    expected = (q - 2 * batch.rewards)[batch.mask].square().mean()
    torch.testing.assert_close(loss.loss, expected)


def test_an_empty_share_of_a_batch_changes_nothing(tiny: Make) -> None:
    config = tiny()
    batch = padded_batch(config, 1)
    found = one_update(config, batch._replace(mask=torch.zeros_like(batch.mask)))
    assert float(found["stats"].abs().max()) == 0.0
    assert all(not gradient.any() for name, gradient in found.items() if name.startswith("d "))


def test_bfloat16_is_near_and_ends_in_float32(tiny: Make) -> None:
    """The network alone, on a CPU: what the blocks compute is rounded, weights and values not."""
    options: dict[str, Any] = {
        "length": 40, "attention_std": 0.2, "positions": "rotary", "num_heads": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    wide = build_network(tiny(**options))
    torch.manual_seed(0)
    narrow = build_network(tiny(**options, compute_dtype="bfloat16"))
    batch = padded_batch(tiny(**options), 4)
    dtypes = []
    for module in (narrow.embedder.obs, narrow.encoder.blocks[0].expand, narrow.head[0]):
        module.register_forward_hook(lambda _, __, y: dtypes.append(y.dtype))
    q, expected = narrow(batch.obs, batch.actions), wide(batch.obs, batch.actions)
    assert dtypes == [torch.float32, torch.bfloat16, torch.float32]
    assert q.dtype == torch.float32
    difference = float((q - expected).detach().abs().max())
    assert 0 < difference < 0.02 * float(expected.detach().abs().max())
    q.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in narrow.parameters())


def test_bfloat16_is_refused_where_it_does_not_help(tiny: Make) -> None:
    with pytest.raises(
        ValueError, match="compute_dtype: bfloat16 expected a GPU, got device 'cpu'"
    ):
        check_compute_dtype(tiny(compute_dtype="bfloat16"))
    with pytest.raises(ValueError, match="compute_dtype: bfloat16 needs model gpt"):
        tiny(compute_dtype="bfloat16", model="lstm")
    check_compute_dtype(tiny())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute_dtype": "half"}, "compute_dtype: expected one of"),
        ({"micro_batch_size": 0}, "micro_batch_size: expected an integer of at least 1"),
        ({"recompute": 1}, "recompute: expected True, False or None"),
        ({"recompute": True, "model": "lstm"}, "recompute: needs model gpt"),
        ({"compile_update": 1}, "compile_update: expected True or False"),
        ({"replay_on": "disk"}, "replay_on: expected one of"),
        ({"replay_balance": 1.5}, "replay_balance: expected a finite number from 0.0 to 1.0"),
    ],
)
def test_bad_fields_are_named(tiny: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tiny(**changes)


def test_no_graph_on_a_cpu_is_said_once_and_changes_nothing(tiny: Make) -> None:
    config = tiny(length=11)
    batch = padded_batch(config, 4)
    plain = one_update(config, batch)
    with pytest.warns(RuntimeWarning, match="not captured in a CUDA graph.*the device is cpu") as w:
        graphed = one_update(tiny(length=11, cuda_graph_update=True), batch)
    assert len(w) == 1
    assert all(torch.equal(plain[name], graphed[name]) for name in plain)


def test_a_compiler_that_fails_is_said_once_and_changes_nothing(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("no compiler here\nmore of it")

    config = tiny(length=11)
    batch = padded_batch(config, 4)
    plain = one_update(config, batch)
    monkeypatch.setattr(torch, "compile", lambda network: broken)
    with pytest.warns(RuntimeWarning, match="not compiled.*RuntimeError: no compiler here$") as w:
        compiled = one_update(tiny(length=11, compile_update=True), batch)
    assert len(w) == 1
    assert all(torch.equal(plain[name], compiled[name]) for name in plain)


def test_a_compiled_update_is_near(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and taken apart as for any compiler; the last step, machine code, is not ours."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    config = tiny(length=11)
    batch = padded_batch(config, 4)
    plain = one_update(config, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the compiler's own parts
        compiled = one_update(tiny(length=11, compile_update=True), batch)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_learner_cuts_its_updates_as_planned(tiny: Make) -> None:
    config = tiny(micro_batch_size=3, recompute=True)
    learner = Learner(config, memory=plan_memory(config))
    assert learner.update.micro_batch_size == 2  # of 4, in equal slices
    assert learner.online.encoder.recompute
    learner.close()
