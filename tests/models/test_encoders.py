"""Protects the memory models: stepping equals the whole sequence, and nothing sees the future."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fastmaze.models.embedders import StepEmbedder
from fastmaze.models.gpt import GPT, POSITIONS, Block, rotate, sinusoids
from fastmaze.models.lstm import LSTM

B, T, E = 3, 17, 12


def gpt(**changes: object) -> GPT:
    options = dict(width=24, num_layers=2, num_heads=3, positions="none", max_length=T, dropout=0.0)
    return GPT(E, **{**options, **changes}).eval()  # type: ignore[arg-type]


def lstm(**changes: object) -> LSTM:
    options = dict(width=20, num_layers=2, init="chrono", memory_length=T)
    return LSTM(E, **{**options, **changes}).eval()  # type: ignore[arg-type]


ENCODERS = {
    **{f"gpt-{name}": (lambda name=name: gpt(positions=name)) for name in POSITIONS},
    "gpt-same-width": lambda: gpt(width=E, num_heads=1, num_layers=1),
    "lstm-chrono": lstm,
    "lstm-orthogonal": lambda: lstm(init="orthogonal", num_layers=1),
}


def spread(model: nn.Module) -> None:
    """Larger weights than the initial ones, so that every part of the model matters."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = ENCODERS[request.param]()
    spread(model)
    return model


@torch.no_grad()
def test_stepping_equals_the_whole_sequence(encoder: nn.Module) -> None:
    x = torch.randn(B, T, E)
    whole = encoder(x)  # [B, T, F]
    state = encoder.initial_state(B, T)
    steps = []
    for t in range(T):
        y, state = encoder.step(x[:, t], state)
        steps.append(y)
    assert whole.shape == (B, T, encoder.output_dim)
    assert whole.std() > 0.1
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_step_sees_a_later_one(encoder: nn.Module) -> None:
    x = torch.randn(B, T, E)
    other = x.clone()
    other[:, 9:] += torch.randn(B, T - 9, E)
    before, after = encoder(x), encoder(other)
    torch.testing.assert_close(before[:, :9], after[:, :9], rtol=0, atol=1e-6)
    assert (before[:, 9] - after[:, 9]).abs().max() > 1e-3


@torch.no_grad()
def test_the_last_step_still_sees_the_first(encoder: nn.Module) -> None:
    x = torch.randn(B, T, E)
    other = x.clone()
    other[:, 0] += torch.randn(B, E)
    assert (encoder(x)[:, -1] - encoder(other)[:, -1]).abs().max() > 1e-6


@torch.no_grad()
def test_two_episodes_in_turn_do_not_mix(encoder: nn.Module) -> None:
    x = torch.randn(B, E)
    first, state = encoder.step(x, encoder.initial_state(B, T))
    encoder.step(x, state)
    again, _ = encoder.step(x, encoder.initial_state(B, T))
    torch.testing.assert_close(first, again, rtol=0, atol=0)


@torch.no_grad()
def test_without_positions_the_same_step_looks_the_same_at_any_time() -> None:
    model = gpt(positions="none")
    spread(model)
    x = torch.randn(B, 1, E).expand(B, T, E)
    y = model(x)
    torch.testing.assert_close(y, y[:, :1].expand_as(y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@torch.no_grad()
def test_added_positions_tell_steps_apart(positions: str) -> None:
    model = gpt(positions=positions)
    spread(model)
    y = model(torch.randn(B, 1, E).expand(B, T, E))
    assert (y[:, 1:] - y[:, :-1]).abs().amax(-1).min() > 1e-3


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i: int, j: int) -> Tensor:
        return (rotate(q, i) * rotate(k, j)).sum()

    torch.testing.assert_close(score(7, 3), score(104, 100), rtol=1e-4, atol=1e-4)
    assert (score(7, 3) - score(7, 5)).abs() > 1e-4
    torch.testing.assert_close(rotate(q, 0), q)


def test_sinusoids_have_the_published_values() -> None:
    table = sinusoids(5, 6)
    assert table.shape == (5, 6)
    for t in range(5):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_dropout_acts_in_training_only() -> None:
    model = gpt(dropout=0.5)
    x = torch.randn(B, T, E)
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)
    model.train()
    assert (model(x) - model(x)).abs().max() > 1e-3


def test_initial_weights_of_the_transformer_are_gpt2s() -> None:
    model = gpt(width=96, num_heads=1, dropout=0.0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" not in name:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_published_lstm_is_orthogonal_without_biases() -> None:
    model = lstm(init="orthogonal").lstm
    for layer in range(2):
        assert not getattr(model, f"bias_ih_l{layer}").any()
        assert not getattr(model, f"bias_hh_l{layer}").any()
        weight = getattr(model, f"weight_hh_l{layer}")  # [4F, F]
        torch.testing.assert_close(weight.T @ weight, torch.eye(20), rtol=1e-4, atol=1e-5)


def test_chrono_gates_remember_for_up_to_the_given_length() -> None:
    model = lstm(width=400, num_layers=1, memory_length=1000).lstm
    bias = model.bias_ih_l0 + model.bias_hh_l0
    gate_in, forget, cell, out = bias.chunk(4)
    # sigmoid(log s) = 1 - 1 / (s + 1): the memory lasts s + 1 steps.
    lasts = 1 / (1 - forget.sigmoid())
    assert 1.9 < lasts.min() < 50
    assert 900 < lasts.max() < 1001
    torch.testing.assert_close(gate_in, -forget)
    assert not cell.any()
    assert not out.any()


@torch.no_grad()
def test_chrono_keeps_what_the_published_lstm_forgets() -> None:
    """The reason for the default: how much of the first step is left after 200 steps."""

    def left(init: str) -> float:
        torch.manual_seed(0)
        model = lstm(init=init, width=64, num_layers=1, memory_length=200)
        x = torch.randn(64, 200, E)
        other = x.clone()
        other[:, 0] = -other[:, 0]
        return (model(x)[:, -1] - model(other)[:, -1]).abs().mean().item()

    assert left("chrono") > 1_000 * left("orthogonal")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gpt(num_heads=5), "num_heads: expected a divisor of width 24, got 5"),
        (lambda: gpt(positions="alibi"), "positions: expected one of"),
        (lambda: gpt(positions="rotary", width=9, num_heads=3), "even head width, got 3"),
        (lambda: lstm(init="zeros"), "lstm_init: expected one of"),
        (lambda: gpt(attention_impl="cudnn"), "attention_impl: expected one of .*got 'cudnn'"),
        (lambda: gpt(positions="learned")(torch.randn(1, T + 1, E)), "learned ones end at 17"),
    ],
)
def test_errors_name_the_argument(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_initial_weights_have_the_sizes_asked_for() -> None:
    """Queries and keys, values and output, the embedder: each has its own; the rest has GPT-2's."""
    torch.manual_seed(0)
    gpt = GPT(
        128, width=128, num_layers=2, num_heads=4, positions="none", max_length=9, dropout=0.0,
        query_std=0.3, attention_std=0.1,
    )  # fmt: skip
    for block in gpt.blocks:
        assert isinstance(block, Block)
        queries_and_keys, values = block.qkv.weight[:256], block.qkv.weight[256:]
        for weight, std in (
            (queries_and_keys, 0.3), (values, 0.1), (block.project.weight, 0.1),
            (block.expand.weight, 0.02), (block.contract.weight, 0.02),
        ):  # fmt: skip
            assert weight.std().item() == pytest.approx(std, rel=0.05)
    sizes = []
    for scale in (1.0, 4.0):
        torch.manual_seed(0)
        embedder = StepEmbedder(2, 4, 64, 64, scale=scale)
        sizes.append(torch.cat([p.flatten() for p in embedder.parameters()]))
    torch.testing.assert_close(sizes[1], 4 * sizes[0])
