"""The MLP without hidden activations in memory, on a GPU or under the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

pytest.importorskip("triton")

from fastmaze.kernels import mlp_triton
from fastmaze.kernels.mlp import mlp

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMPLS = ("reference", "triton")


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What memory held before is NaN, so that no entry may stay unwritten."""
    for name in ("empty", "empty_like"):
        make = getattr(torch, name)

        def poisoned(*args: Any, make: Any = make, **kind: Any) -> Tensor:
            out: Tensor = make(*args, **kind)
            return out.fill_(float("nan")) if out.is_floating_point() else out

        monkeypatch.setattr(torch, name, poisoned)


def inputs(rows: int, F: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Rows, weights and biases; hidden activations of both signs, some large."""
    rng = torch.Generator().manual_seed(rows + F)
    shapes = ((rows, F), (4 * F, F), (4 * F,), (F, 4 * F), (F,))
    sizes = (1.5, F**-0.5, 1.0, F**-0.5, 1.0)
    made = (torch.randn(s, generator=rng) * k for s, k in zip(shapes, sizes, strict=True))
    return [t.to(DEVICE, dtype).requires_grad_() for t in made]


def plain(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """What is replaced."""
    return linear(gelu(linear(x, w1, b1), approximate="tanh"), w2, b2)


def run(function: Any, tensors: list[Tensor], **options: Any) -> list[Tensor]:
    """The output and all gradients, for one fixed gradient of the output."""
    out = function(*tensors, **options)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).half()
    return [out, *torch.autograd.grad(out, tensors, grad.to(DEVICE, out.dtype))]


def exact(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def assert_as_good(actual: list[Tensor], usual: list[Tensor], wanted: list[Tensor]) -> None:
    """The largest error is at most twice plain torch's and two roundings of the largest value."""
    for x, y, z in zip(actual, usual, wanted, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        error, usual_error = ((t.double() - z).abs().max().item() for t in (x, y))
        rounding = torch.finfo(x.dtype).eps * z.abs().max().item()
        assert error <= 2.0 * (usual_error + rounding)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("rows", "F", "dtype"),
    [
        (1, 64, torch.float32),
        (130, 64, torch.float32),
        (67, 128, torch.float32),
        (67, 64, torch.float16),
        (129, 128, torch.float16),
    ],
)
def test_is_as_good_as_plain_torch(impl: str, rows: int, F: int, dtype: torch.dtype) -> None:
    """Output and all five gradients against float64; blocks of rows that are not full."""
    tensors = inputs(rows, F, dtype)
    actual = run(mlp, tensors, impl=impl, precision="ieee")
    assert_as_good(actual, run(plain, tensors), run(plain, exact(tensors)))


def test_weights_gradients_in_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """One share with several blocks of rows, or as many shares as blocks; the same bits again."""
    tensors = inputs(150, 64)
    usual, wanted = run(plain, tensors), run(plain, exact(tensors))
    assert_as_good(run(mlp, tensors, impl="triton", precision="ieee"), usual, wanted)
    monkeypatch.setattr(mlp_triton, "PROGRAMS", 4)  # two shares of five blocks
    first, second = (run(mlp, tensors, impl="triton", precision="ieee") for _ in range(2))
    assert_as_good(first, usual, wanted)
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("impl", IMPLS)
def test_large_activations_do_not_overflow(impl: str) -> None:
    """GELU of ±10,000 is that or 0, with slope 1 or 0: no exp overflows into NaN."""
    x, w1, b1, w2, b2 = inputs(2, 64)
    b1 = (1e4 * b1.detach().sign()).requires_grad_()
    actual = run(mlp, [x, w1, b1, w2, b2], impl=impl, precision="ieee")
    wanted = run(plain, exact([x, w1, b1, w2, b2]))
    for x, y in zip(actual, wanted, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-5, atol=1e-5 * y.abs().max().item())


def test_keeps_nothing_hidden_for_the_backward() -> None:
    """What it promises to save: only the inputs wait for the backward."""
    tensors = inputs(50, 64)
    kept: list[int] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        mlp(*tensors)
    assert sum(kept) <= sum(t.numel() for t in tensors)


def test_gradients_in_float64() -> None:
    """The twin's formulas are exact, for any width and any number of leading dimensions."""
    x, *weights = exact([t.cpu() for t in inputs(6, 3)])
    assert torch.autograd.gradcheck(lambda x, *w: mlp(x.view(2, 3, 3), *w), [x, *weights])


@pytest.mark.parametrize("impl", IMPLS)
def test_is_a_good_custom_operation(impl: str) -> None:
    """Schema, fake tensors and autograd registration agree with what it does."""
    arguments = (*inputs(3, 64), "ieee", impl)
    torch.library.opcheck(torch.ops.fastmaze.mlp.default, arguments)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x", torch.zeros(0, 8), ValueError),
        ("x", torch.zeros(2, 8, dtype=torch.int64), TypeError),
        ("w_expand", torch.zeros(8, 32), ValueError),
        ("w_expand", torch.zeros(32, 8, dtype=torch.float16), TypeError),
        ("b_expand", torch.zeros(31), ValueError),
        ("w_contract", torch.zeros(32, 8), ValueError),
        ("w_contract", torch.zeros(8, 32, device="meta"), ValueError),
        ("b_contract", torch.zeros(32), ValueError),
        ("precision", "bf16", ValueError),
        ("impl", "sdpa", ValueError),
    ],
)
def test_refuses_what_does_not_fit(name: str, value: object, error: type[Exception]) -> None:
    """Each message begins with the argument that is wrong."""
    arguments: dict[str, Any] = {
        "x": torch.zeros(2, 8),
        "w_expand": torch.zeros(32, 8),
        "b_expand": torch.zeros(32),
        "w_contract": torch.zeros(8, 32),
        "b_contract": torch.zeros(8),
    }
    with pytest.raises(error, match=f"^{name}: expected "):
        mlp(**(arguments | {name: value}))


def test_the_kernel_takes_two_widths() -> None:
    """Others have no tiles; "auto" leaves them to plain torch."""
    tensors = inputs(2, 32)
    assert mlp(*tensors).shape == (2, 32)
    with pytest.raises(ValueError, match=r"^x: impl 'triton' takes a width of \(64, 128\), got 32"):
        mlp(*tensors, impl="triton")


def test_autocast_casts_inputs_and_gradients_come_back() -> None:
    x, *weights = (t.requires_grad_() for t in inputs_for_autocast())
    with torch.autocast("cpu", torch.bfloat16):
        out = mlp(x, *weights)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    exact = mlp(x, *weights)
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.1)
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


def inputs_for_autocast() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 64), (256, 64), (256,), (64, 256), (64,))
    return [torch.randn(shape, generator=generator) / 8 for shape in shapes]
