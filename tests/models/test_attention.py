"""Protects the transformer's attention: every implementation gives one model, stepped or whole."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastmaze.models.attention import ATTENTION_IMPLS, attend_to_cache
from fastmaze.models.gpt import GPT

B, T, E = 3, 19, 12
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=ATTENTION_IMPLS)
def impl(request: pytest.FixtureRequest) -> str:
    if request.param == "triton":
        pytest.importorskip("triton")
    return str(request.param)


def gpt(impl: str, **changes: Any) -> GPT:
    """The same model whatever the implementation, with weights that make every part matter."""
    torch.manual_seed(0)
    options: dict[str, Any] = dict(
        width=32, num_layers=2, num_heads=2, positions="rotary", max_length=T, dropout=0.0
    )
    model = GPT(E, **{**options, **changes}, attention_impl=impl)  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.to(DEVICE).eval()


def steps(model: GPT, x: Tensor) -> Tensor:
    """What stepping through x gives, as rollouts do it: float32 [B, T, F]."""
    with torch.inference_mode():
        state, outputs = model.initial_state(len(x), x.shape[1]), []
        for t in range(x.shape[1]):
            y, state = model.step(x[:, t], state)
            outputs.append(y)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_stepping_equals_the_whole_sequence(impl: str, num_heads: int) -> None:
    length = 5 if impl == "triton" and DEVICE == "cpu" else T  # interpreted, it is slow
    model, x = gpt(impl, num_heads=num_heads), torch.randn(B, length, E, device=DEVICE)
    with torch.no_grad():
        whole = model(x)
    assert whole.std() > 0.1
    torch.testing.assert_close(steps(model, x), whole, rtol=1e-4, atol=1e-5)


def test_every_implementation_is_the_same_model(impl: str) -> None:
    x = torch.randn(B, T, E, device=DEVICE)
    results = []
    for name in (impl, "reference"):
        model = gpt(name)
        y = model(x)
        y.square().mean().backward()
        results.append([y.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_from_the_seed_alike(impl: str) -> None:
    """In whole sequences; the same torch seed, the same weights dropped, gradients included."""
    x = torch.randn(B, T, E, device=DEVICE)
    if impl == "sdpa":
        with pytest.raises(ValueError, match="draws another dropout mask"):
            gpt(impl, dropout=0.1).train()(x)
        return
    results = []
    for name in (impl, "reference", "reference"):
        model = gpt(name, dropout=0.1).train()
        torch.manual_seed(3 + len(results) // 2)  # the last has another seed
        y = model(x)
        y.square().mean().backward()
        results.append([y.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*results[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (results[2][0] - results[0][0]).abs().max() > 1e-2


def test_a_head_width_that_triton_lacks_falls_back() -> None:
    x = torch.randn(B, T, E, device=DEVICE)
    model = gpt("auto", width=24, num_heads=3)
    with torch.no_grad():
        whole = model(x)
    torch.testing.assert_close(steps(model, x), whole, rtol=1e-4, atol=1e-5)


def cache_problem(length: int) -> tuple[list[Tensor], list[Tensor]]:
    """A step's query, key and value [B, H, D]; caches [B, H, T, D], NaN from `length` on."""
    step = list(torch.randn(3, B, 2, T, device=DEVICE, dtype=torch.float64))
    caches = list(torch.randn(2, B, 2, T, T, device=DEVICE, dtype=torch.float64))
    for cache in caches:
        cache[:, :, length:] = torch.nan
    return step, caches


@pytest.mark.parametrize("length", [0, 7, T - 1])
def test_a_step_is_the_textbook_formula_over_the_cache(length: int) -> None:
    (q, k, v), (keys, values) = cache_problem(length)
    y = attend_to_cache(q, k, v, keys, values, length)
    assert torch.equal(keys[:, :, length], k)
    assert torch.equal(values[:, :, length], v)
    held = slice(length + 1)
    scores = (keys[:, :, held] @ q[..., None])[..., 0] / math.sqrt(T)  # [B, H, held]
    expected = (scores.softmax(-1)[..., None] * values[:, :, held]).sum(-2)
    torch.testing.assert_close(y, expected)


def test_a_step_with_dropout_drops_weights_and_scales_the_rest() -> None:
    length, p = T - 1, 0.25
    (q, k, _), (keys, values) = cache_problem(length)
    one_hot = torch.eye(T, device=DEVICE, dtype=torch.float64)
    values[:] = one_hot  # the output is the weights
    v = one_hot[-1].expand_as(k)
    weights = attend_to_cache(q, k, v, keys, values, length)
    dropped = attend_to_cache(q, k, v, keys, values, length, dropout_p=p)
    assert torch.equal(keys[:, :, length], k)
    share = (dropped == 0).double().mean()
    assert 0.05 < share < 0.5  # 114 weights
    torch.testing.assert_close(dropped, (weights / (1 - p)).where(dropped != 0, 0))
