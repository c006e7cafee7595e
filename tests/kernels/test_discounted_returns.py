"""The recurrence of returns against a loop in float64, on a GPU or under the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from fastmaze.kernels import discounted_returns_triton
from fastmaze.kernels.discounted_returns import discounted_returns

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMPLS = ("reference", "triton")
LENGTHS = (1, 2, 3, 5, 15, 16, 17, 31, 33, 63, 97, 130)


@pytest.fixture(autouse=True)
def _small_blocks_of_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks in a short row, and results laid over NaN."""
    empty_like = torch.empty_like

    def poisoned(x: Tensor, **kind: Any) -> Tensor:
        return empty_like(x, **kind).fill_(float("nan"))

    monkeypatch.setattr(discounted_returns_triton, "LARGEST_BLOCK", 16)
    monkeypatch.setattr(torch, "empty_like", poisoned)


def loop(base: Tensor, carried: Tensor) -> Tensor:
    """The definition, a step at a time."""
    total = torch.zeros_like(base[:, 0])
    returns = []
    for t in reversed(range(base.shape[1])):
        total = base[:, t] + carried[:, t] * total
        returns.append(total)
    return torch.stack(returns[::-1], dim=1)


def random_case(B: int, T: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Bases around 0, and factors in [0, 1] of which some are exactly 0 or 1."""
    rng = torch.Generator().manual_seed(T)
    base = torch.randn(B, T, generator=rng)
    carried = (1.4 * torch.rand(B, T, generator=rng) - 0.1).clamp(0.0, 1.0)
    return base.to(DEVICE, dtype), carried.to(DEVICE, dtype)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("T", LENGTHS)
def test_is_the_loop_within_a_few_roundings(impl: str, T: int) -> None:
    """The stated error: a few float32 roundings of the sum of the terms' sizes."""
    base, carried = random_case(3, T)
    wanted = loop(base.double(), carried.double())
    size = loop(base.double().abs(), carried.double())
    error = (discounted_returns(base, carried, impl=impl).double() - wanted).abs()
    assert (error <= 4.0 * torch.finfo(torch.float32).eps * size).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(impl: str, dtype: torch.dtype) -> None:
    """One rounding at the end, not one a step."""
    base, carried = random_case(2, 70, dtype)
    wanted = loop(base.double(), carried.double())
    actual = discounted_returns(base, carried, impl=impl)
    assert actual.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(actual.double(), wanted, rtol=eps, atol=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_long_undiscounted_rows(impl: str) -> None:
    """Factors of 1: a plain sum of 300 equal rewards is exact."""
    base = torch.ones(1, 300, device=DEVICE)
    returns = discounted_returns(base, torch.ones_like(base), impl=impl)
    assert returns[0].tolist() == list(range(300, 0, -1))


@pytest.mark.parametrize("impl", IMPLS)
def test_a_factor_of_zero_cuts(impl: str) -> None:
    """What lies behind an episode's end leaves no trace, however large."""
    base, carried = random_case(2, 50)
    carried[:, 20] = 0.0
    before = discounted_returns(base, carried, impl=impl)[:, :21]
    base[:, 21:] = 1e30
    assert torch.equal(discounted_returns(base, carried, impl=impl)[:, :21], before)


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients(impl: str) -> None:
    """Of both arguments, against autograd through the loop in float64."""
    inputs = [x.requires_grad_() for x in random_case(3, 37)]
    weights = torch.randn(3, 37, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = torch.autograd.grad(loop(*exact), exact, weights.double())
    actual = torch.autograd.grad(discounted_returns(*inputs, impl=impl), inputs, weights)
    for x, y in zip(actual, wanted, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-5, atol=1e-5)


def test_gradients_in_float64() -> None:
    """The twin's formula is exact."""
    inputs = [x.cpu().double().requires_grad_() for x in random_case(2, 9)]
    assert torch.autograd.gradcheck(discounted_returns, inputs)


@pytest.mark.parametrize("impl", IMPLS)
def test_any_strides(impl: str) -> None:
    """Rows that lie across memory."""
    base, carried = random_case(3, 21)
    wanted = discounted_returns(base, carried, impl=impl)
    across = (x.t().contiguous().t() for x in (base, carried))
    assert torch.equal(discounted_returns(*across, impl=impl), wanted)


@pytest.mark.parametrize("impl", IMPLS)
def test_is_a_good_custom_operation(impl: str) -> None:
    """Schema, fake tensors and autograd registration agree with what it does."""
    inputs = [x.requires_grad_() for x in random_case(2, 5)]
    torch.library.opcheck(torch.ops.fastmaze.discounted_returns.default, (*inputs, impl))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("base", torch.zeros(4), ValueError),
        ("base", torch.zeros(2, 0), ValueError),
        ("base", torch.zeros(2, 4, dtype=torch.int64), TypeError),
        ("carried", torch.zeros(2, 5), ValueError),
        ("carried", torch.zeros(2, 4, dtype=torch.float64), TypeError),
        ("carried", torch.zeros(2, 4, device="meta"), ValueError),
        ("impl", "loop", ValueError),
    ],
)
def test_refuses_what_does_not_fit(name: str, value: object, error: type[Exception]) -> None:
    """Each message begins with the argument that is wrong."""
    arguments: dict[str, Any] = {"base": torch.zeros(2, 4), "carried": torch.zeros(2, 4)}
    with pytest.raises(error, match=f"^{name}: expected "):
        discounted_returns(**(arguments | {name: value}))


def test_the_kernel_refuses_float64() -> None:
    """It would silently be computed in float32."""
    base = torch.zeros(1, 2, dtype=torch.float64, device=DEVICE)
    with pytest.raises(TypeError, match=r"^impl: 'triton' expected one of"):
        discounted_returns(base, base, impl="triton")
