"""Protects the tree of distinct histories, and the LSTM over it: both are `torch.nn.LSTM`'s."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastmaze._native import LstmLayer, usable_isas
from fastmaze.models.lstm import LSTM
from fastmaze.models.lstm_histories import LSTMHistories
from fastmaze.models.prefixes import Prefixes, find_prefixes
from fastmaze.models.q_network import QNetwork
from fastmaze.training.config import TrainConfig
from fastmaze.training.network import build_network


def tokens(batch_size: int, length: int, kinds: int = 5, explore: float = 0.02) -> Tensor:
    """Sequences that begin alike and part at random: int64 [B, T]."""
    generator = torch.Generator().manual_seed(batch_size + length)
    drawn = torch.randint(kinds, (batch_size, length), generator=generator)
    walked = torch.where(torch.rand(drawn.shape, generator=generator) < explore, drawn, 0)
    walked[:, 0] = torch.arange(batch_size) % 2  # a cue
    return walked


def prefixes_of(walked: Tensor, groups: int = 1) -> Prefixes:
    found = find_prefixes(walked, groups).distinct
    assert isinstance(found, Prefixes)
    return found


@pytest.mark.parametrize("groups", [1, 2, 3, 50])
@pytest.mark.parametrize(("batch_size", "length"), [(1, 1), (1, 7), (64, 1), (64, 40), (200, 90)])
def test_every_row_is_one_history_and_every_history_has_a_row(
    batch_size: int, length: int, groups: int
) -> None:
    walked = tokens(batch_size, length)
    found = find_prefixes(walked, groups)
    tree = found.distinct
    assert isinstance(tree, Prefixes)
    numbers = walked.flatten()[found.tokens].tolist()
    told: list[tuple[int, ...]] = []
    for index, parent in zip(tree.index, tree.parent, strict=True):
        told.append((told[int(parent)] if parent >= 0 else ()) + (numbers[int(index)],))
    where = tree.where.view_as(walked)
    for b, row in enumerate(walked.tolist()):
        for t in range(length):
            assert told[where[b, t]] == tuple(row[: t + 1])
    # Step by step, within a step by group; nobody's parent is another group's.
    T, G = tree.bounds.shape[0], tree.bounds.shape[1] - 1
    assert 1 <= G <= groups
    assert tree.bounds[0, 0] == 0
    assert int(tree.bounds[-1, -1]) == tree.rows == len(told)
    for t in range(T):
        for g in range(G):
            begin, end = tree.bounds[t, g : g + 2].tolist()
            own = told[begin:end]
            assert len(set(own)) == len(own), "one row each"
            assert all(len(history) == t + 1 for history in own)
            for parent in tree.parent[begin:end]:
                if t:
                    assert tree.bounds[t - 1, g] <= parent < tree.bounds[t - 1, g + 1]
                else:
                    assert parent == -1
    if groups == 1:
        assert len(set(told)) == len(told)
    assert set(told) == {tuple(row[: t + 1]) for row in walked.tolist() for t in range(length)}


def test_groups_have_about_as_many_rows() -> None:
    tree = prefixes_of(tokens(256, 100), 2)
    rows = np.diff(tree.bounds.numpy(), axis=1).sum(0)
    assert len(rows) == 2
    assert rows.min() > 0.8 * rows.max()


def test_few_rows_are_one_group() -> None:
    assert prefixes_of(torch.zeros(64, 100, dtype=torch.int64), 16).bounds.shape == (100, 2)


def results(
    lstm: LSTM, x: Tensor, walked: Tensor, weights: Tensor, *, shared: bool, groups: int = 1
) -> list[Tensor]:
    """Outputs, and gradients of inputs and weights."""
    lstm.zero_grad()
    x = x.clone().requires_grad_()
    if shared:
        found = find_prefixes(walked, groups)
        assert isinstance(found.distinct, Prefixes)
        y = lstm.encode_histories(x[walked.flatten()[found.tokens]], found.distinct)
        y = y[found.distinct.where].view(*walked.shape, -1)
    else:
        y = lstm(x[walked])
    (y * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    grads = [p.grad.clone() for p in lstm.parameters() if p.grad is not None]
    assert len(grads) == 4 * lstm.num_layers
    return [y.detach(), x.grad, *grads]


@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("width", "batch_size"), [(128, 64), (24, 17), (1, 3), (37, 9)])
def test_values_and_gradients_are_those_of_torch(
    width: int, batch_size: int, layers: int, groups: int
) -> None:
    torch.manual_seed(0)
    lstm = LSTM(6, width=width, num_layers=layers, init="chrono", memory_length=50)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    walked = tokens(batch_size, 60, explore=0.2)
    x = torch.randn(5, 6)
    weights = torch.randn(batch_size, 60, width)
    plain = results(lstm.double(), x.double(), walked, weights.double(), shared=False)
    ours = results(lstm.float(), x, walked, weights, shared=True, groups=groups)
    theirs = results(lstm, x, walked, weights, shared=False)
    for exact, got, other in zip(plain, ours, theirs, strict=True):
        largest = float(exact.abs().max())
        torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=3e-6 * largest)
        # No further from the truth than a few times what the library is.
        error, usual = ((y.double() - exact).abs().max() for y in (got, other))
        assert float(error) < 4 * float(usual) + 3e-7 * largest


@pytest.mark.parametrize("isa", usable_isas())
@pytest.mark.parametrize("width", [1, 8, 33, 128])
def test_every_instruction_set_is_torch(isa: str, width: int) -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, width)
    x = torch.randn(20, 13, 3)
    weight = lstm.weight_hh_l0
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    inputs = torch.nn.functional.linear(x, lstm.weight_ih_l0, bias).detach().flatten(0, 1)
    parent = np.concatenate([np.full(13, -1), np.arange(19 * 13)]).astype(np.int32)
    bounds = (13 * np.arange(20)[:, None] + np.array([0, 6, 13])).astype(np.int32)
    layer = LstmLayer(weight.detach().numpy(), num_threads=2, isa=isa)
    gates, cell, hidden = (np.full((260, n * width), np.nan, np.float32) for n in (4, 1, 1))
    layer.forward(inputs.numpy(), None, parent, bounds, gates=gates, cell=cell, hidden=hidden)
    expected = lstm(x)[0].detach().flatten(0, 1)
    torch.testing.assert_close(torch.from_numpy(hidden), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-5, 1e-9])
def test_small_states_keep_their_precision(scale: float) -> None:
    """A young memory's cells are small: chrono initialisation opens its gates by 1 / T."""
    torch.manual_seed(0)
    lstm = LSTM(6, width=32, num_layers=1, init="orthogonal", memory_length=50)
    walked, x = tokens(8, 40), scale * torch.randn(5, 6)
    found = find_prefixes(walked)
    assert isinstance(found.distinct, Prefixes)
    with torch.no_grad():
        ours = lstm.encode_histories(x[walked.flatten()[found.tokens]], found.distinct)
        exact = lstm.double()(x.double()[walked]).flatten(0, 1)
    error = (ours[found.distinct.where].double() - exact).abs().max() / exact.abs().max()
    assert float(error) < 1e-6


def test_equal_episodes_are_computed_once_in_any_groups() -> None:
    walked = tokens(32, 60, explore=0.9).repeat(2, 1)
    rows = [prefixes_of(walked, groups).rows for groups in (1, 2, 4)]
    assert rows[2] <= rows[0] + 3 * 4, "a cut repeats what both sides begin with, and no more"


def test_there_is_no_second_derivative() -> None:
    lstm = LSTM(2, width=8, num_layers=1, init="orthogonal", memory_length=5)
    x = torch.zeros(1, 2, requires_grad=True)
    y = lstm.encode_histories(x, prefixes_of(torch.zeros(1, 3, dtype=torch.int64)))
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_threads_may_change_between_forward_and_backward() -> None:
    """And tokens may all differ: inputs' gradients are then added up another way."""
    lstm = LSTM(6, width=16, num_layers=1, init="orthogonal", memory_length=5)
    walked = torch.arange(32 * 30).view(32, 30)
    x, weights = torch.randn(32 * 30, 6), torch.randn(32, 30, 16)
    plain = results(lstm, x, walked, weights, shared=False)
    threads = torch.get_num_threads()
    try:
        found = find_prefixes(walked, 3)
        assert isinstance(found.distinct, Prefixes)
        assert found.distinct.bounds.shape[1] == 4
        lstm.zero_grad()
        leaf = x.clone().requires_grad_()
        torch.set_num_threads(3)
        y = lstm.encode_histories(leaf[walked.flatten()[found.tokens]], found.distinct)
        torch.set_num_threads(1)
        (y[found.distinct.where].view(32, 30, -1) * weights).sum().backward()  # type: ignore[no-untyped-call]
    finally:
        torch.set_num_threads(threads)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, plain[1], rtol=1e-4, atol=1e-5)


def test_an_encoder_made_of_it_is_not_bypassed() -> None:
    class Doubled(LSTM):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    options: dict[str, Any] = {"width": 8, "num_layers": 1, "init": "chrono", "memory_length": 5}
    assert LSTM(2, **options).shares_histories
    assert not Doubled(2, **options).shares_histories
    assert not LSTM(2, **options).double().shares_histories


def test_what_is_not_a_number_stays_so() -> None:
    """A diverged run must be seen to be one, and large gates are no reason for it."""
    lstm = LSTM(2, width=8, num_layers=1, init="orthogonal", memory_length=5)
    found = prefixes_of(torch.zeros(1, 3, dtype=torch.int64))
    for value in (1e30, -1e30, float("inf")):
        with torch.no_grad():
            lstm.lstm.bias_ih_l0.fill_(value)
            assert lstm.encode_histories(torch.zeros(1, 2), found).isfinite().all()
    with torch.no_grad():
        lstm.lstm.bias_ih_l0.fill_(float("nan"))
        assert lstm.encode_histories(torch.zeros(1, 2), found).isnan().all()


def network(**changes: Any) -> QNetwork:
    torch.manual_seed(0)
    options: dict[str, Any] = {"length": 30, "width": 32, "model": "lstm"}
    return build_network(TrainConfig(**options | changes))


def episodes() -> tuple[Tensor, Tensor]:
    """Six episodes of a maze's values, of which some begin alike."""
    generator = torch.Generator().manual_seed(1)
    obs = torch.randint(0, 2, (6, 30, 2), generator=generator).float()
    actions = torch.randint(0, 4, (6, 29), generator=generator)
    obs[1:4, :20], actions[1:4, :19] = obs[0, :20], actions[0, :19]
    return obs, actions


@pytest.mark.parametrize("layers", [1, 2])
def test_rollouts_are_whole_episodes_and_share_what_is_alike(layers: int) -> None:
    model, (obs, actions) = network(num_layers=layers), episodes()
    with torch.inference_mode():
        expected = model(obs, actions)
        state = model.initial_state(6, 30)
        assert isinstance(state, LSTMHistories)
        before = torch.cat([torch.full((6, 1), 4), actions], 1)
        rows = []
        for t in range(30):
            q, state = model.step(obs[:, t], before[:, t], state)
            torch.testing.assert_close(q, expected[:, t], rtol=1e-5, atol=1e-6)
            rows.append(len(state.states[0][0]))
        assert max(rows[:20]) <= 3
        assert rows[-1] == 6
        # A copy goes on as it would, and so does the library from where it stopped.
        twin = copy.deepcopy(state)
        again, _ = model.step(obs[:, 0], before[:, 1], state)
        torch.testing.assert_close(model.step(obs[:, 0], before[:, 1], twin)[0], again)
        state = model.initial_state(6, 30)
        for t in range(30):
            _, state = model.step(obs[:, t], before[:, t], state)
        own = state.every_step()
        x = torch.randn(6, model.embedder.output_dim)
        ours = model.encoder.step(x, own)[0]
        x_all = torch.cat([model.embedder(obs, before), x[:, None]], 1)
        torch.testing.assert_close(ours, model.encoder(x_all)[:, -1], rtol=1e-5, atol=1e-6)


def test_an_update_is_that_of_every_step() -> None:
    model, (obs, actions) = network(), episodes()
    found = model.histories(obs, actions)
    assert found is not None
    assert found.distinct.rows < 0.8 * 6 * 30, "some are shared"
    weights = torch.randn(6, 30, 4)
    grads = []
    for given in (None, found):
        model.zero_grad()
        (model(obs, actions, given) * weights).sum().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, ours in zip(*grads, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def test_gates_are_not_used_twice() -> None:
    lstm = LSTM(2, width=8, num_layers=1, init="orthogonal", memory_length=5)
    y = lstm.encode_histories(torch.zeros(1, 2), prefixes_of(torch.zeros(1, 3, dtype=torch.int64)))
    y.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        y.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": np.array([0, 3], np.int32)}, "index: expected a row of inputs, got 3 at 1"),
        ({"index": np.array([0, -1], np.int32)}, "index"),
        ({"index": np.array([0], np.int32)}, r"index: expected shape \(2,\)"),
        ({"index": None}, "inputs: expected one for each row"),
        ({"parent": np.array([-1, 1], np.int32)}, "parent: expected a row of the step before"),
        ({"parent": np.array([0, 0], np.int32)}, "parent"),
        ({"parent": np.array([-2, 0], np.int32)}, "parent"),
        ({"bounds": np.array([[0, 1], [0, 2]], np.int32)}, "bounds"),
        ({"bounds": np.array([[0, 1], [1, 3]], np.int32)}, "bounds"),
        ({"bounds": np.array([[0, 2]], np.int32)}, "parent"),
        ({"bounds": np.array([0, 2], np.int32)}, "bounds: expected 2 dimensions"),
        ({"inputs": np.zeros((3, 7), np.float32)}, "inputs: expected shape"),
        ({"gates": np.zeros((2, 9), np.float32)}, "gates: expected shape"),
        ({"cell": np.zeros((2, 2))}, "cell: expected dtype float32"),
        ({"cell_before": np.zeros((1, 2), np.float32)}, "expected both or neither"),
        (dict.fromkeys(("cell", "hidden"), np.zeros((2, 2), np.float32)), "separate arrays"),
    ],
)
def test_the_core_reads_no_row_that_is_not_there(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "inputs": np.zeros((3, 8), np.float32),
        "index": np.array([0, 2], np.int32),
        "parent": np.array([-1, 0], np.int32),
        "bounds": np.array([[0, 1], [1, 2]], np.int32),
        "gates": np.zeros((2, 8), np.float32),
        "cell": np.zeros((2, 2), np.float32),
        "hidden": np.zeros((2, 2), np.float32),
    }
    layer = LstmLayer(np.zeros((8, 2), np.float32), num_threads=1)
    layer.forward(**arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        layer.forward(**arguments | change)


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (np.zeros((7, 2), np.float32), {}, "weight: expected shape"),
        (np.zeros(8, np.float32), {}, "weight: expected 2 dimensions"),
        (np.zeros((8, 2)), {}, "weight: expected dtype float32"),
        (np.zeros((8, 2), np.float32), {"num_threads": 0}, "num_threads"),
        (np.zeros((8, 2), np.float32), {"isa": "neon"}, "isa"),
    ],
)
def test_the_core_refuses_what_is_no_layer(
    weight: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LstmLayer(weight, **{"num_threads": 1} | options)
