"""LayerNorm with and without the addition before it, on a GPU or under the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

pytest.importorskip("triton")

from fastmaze.kernels import layer_norm_triton
from fastmaze.kernels.layer_norm import add_layer_norm, layer_norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMPLS = ("reference", "triton")
DTYPES = (torch.float32, torch.float16)  # the interpreter cuts bfloat16 off instead of rounding
NAMES = ("x", "residual", "weight", "bias")


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What memory held before is NaN, so that no entry may stay unwritten."""
    for name in ("empty", "empty_like"):
        make = getattr(torch, name)

        def poisoned(*args: Any, make: Any = make, **kind: Any) -> Tensor:
            out: Tensor = make(*args, **kind)
            return out.fill_(float("nan")) if out.is_floating_point() else out

        monkeypatch.setattr(torch, name, poisoned)


def inputs(
    rows: int, F: int, dtype: torch.dtype = torch.float32, weights: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Rows of different means and sizes, a residual, weights and biases; all want gradients."""
    rng = torch.Generator().manual_seed(rows * F)
    size = 2.0 ** torch.randint(-3, 4, (rows, 1), generator=rng)
    x = torch.randn(rows, F, generator=rng) * size + torch.randn(rows, 1, generator=rng)
    residual = torch.randn(rows, F, generator=rng)
    weight, bias = 1.0 + 0.2 * torch.randn(F, generator=rng), torch.randn(F, generator=rng)
    made = (x, residual, weight, bias)
    dtypes = (dtype, dtype, weights or dtype, weights or dtype)
    return {
        name: t.to(DEVICE, kind).requires_grad_()
        for name, t, kind in zip(NAMES, made, dtypes, strict=True)
    }


def plain(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """What is replaced."""
    total = x + residual
    return functional.layer_norm(total, total.shape[-1:], weight, bias, 1e-5), total


def run(function: Any, tensors: dict[str, Tensor], **options: Any) -> list[Tensor]:
    """Outputs and gradients of a function of `tensors`, for fixed gradients of its outputs."""
    out = function(**tensors, **options)
    outputs = out if isinstance(out, tuple) else (out,)
    rng = torch.Generator().manual_seed(5)
    grads = [torch.randn(o.shape, generator=rng).to(DEVICE).half().to(o.dtype) for o in outputs]
    return [*outputs, *torch.autograd.grad(outputs, list(tensors.values()), grads)]


def exact(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().double().requires_grad_() for name, t in tensors.items()}


def assert_as_good(actual: list[Tensor], usual: list[Tensor], wanted: list[Tensor]) -> None:
    """The largest error is at most twice plain torch's and two roundings of the largest value."""
    for x, y, z in zip(actual, usual, wanted, strict=True):
        assert x.dtype == y.dtype
        error, usual_error = ((t.double() - z).abs().max().item() for t in (x, y))
        rounding = torch.finfo(x.dtype).eps * z.abs().max().item()
        assert error <= 2.0 * (usual_error + rounding)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "F"), [(1, 32), (5, 64), (33, 100), (20, 128), (7, 512)])
def test_with_addition(impl: str, dtype: torch.dtype, rows: int, F: int) -> None:
    """Both outputs and all gradients, as exact as plain torch's, against float64."""
    tensors = inputs(rows, F, dtype)
    wanted = run(plain, exact(tensors))
    assert_as_good(run(add_layer_norm, tensors, impl=impl), run(plain, tensors), wanted)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_alone(impl: str, dtype: torch.dtype) -> None:
    """The same without a residual."""
    tensors = inputs(19, 96, dtype)
    del tensors["residual"]

    def usual(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)

    actual = run(layer_norm, tensors, impl=impl)
    assert_as_good(actual, run(usual, tensors), run(usual, exact(tensors)))


@pytest.mark.parametrize("programs", [1, 3])
def test_weights_gradients_over_many_blocks(monkeypatch: pytest.MonkeyPatch, programs: int) -> None:
    """Programs that take several blocks of rows, a last block that is not full; the same bits."""
    monkeypatch.setattr(layer_norm_triton, "ELEMENTS", 64)
    monkeypatch.setattr(layer_norm_triton, "PROGRAMS", programs)
    tensors = inputs(15, 32)
    first, second = (run(add_layer_norm, tensors, impl="triton") for _ in range(2))
    assert_as_good(first, run(plain, tensors), run(plain, exact(tensors)))
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("impl", IMPLS)
def test_float32_weights_for_half_precision_rows(impl: str) -> None:
    """Gradients of the weights come in the weights' dtype, summed in float32."""
    tensors = inputs(40, 64, torch.float16, weights=torch.float32)
    actual = run(add_layer_norm, tensors, impl=impl)
    wanted = run(plain, exact(tensors))
    # x + residual is rounded to float16 before its rows are normalised.
    for x, y in zip(actual[-2:], wanted[-2:], strict=True):
        assert x.dtype == torch.float32
        torch.testing.assert_close(x.double(), y, rtol=2e-3, atol=2e-3 * y.abs().max().item())


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("used", [0, 1])
def test_one_output_alone_gives_gradients(impl: str, used: int) -> None:
    """Where only the normalised rows, or only the sum, go on."""
    tensors = inputs(6, 32)

    def one(function: Any, given: dict[str, Tensor], **options: Any) -> tuple[Tensor | None, ...]:
        out = function(**given, **options)[used]
        return torch.autograd.grad(out.square().sum(), list(given.values()), allow_unused=True)

    actual = one(add_layer_norm, tensors, impl=impl)
    wanted = one(plain, exact(tensors))
    for x, y in zip(actual, wanted, strict=True):
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("impl", IMPLS)
def test_large_means_keep_their_digits(impl: str) -> None:
    """The variance is not a difference of large squares."""
    x = 4096.0 + torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    weight, bias = torch.ones(64, device=DEVICE), torch.zeros(64, device=DEVICE)
    wanted = functional.layer_norm(x.double(), (64,))
    actual = layer_norm(x, weight, bias, impl=impl).double()
    torch.testing.assert_close(actual, wanted, rtol=0.0, atol=2e-3)


def test_gradients_in_float64() -> None:
    """The twin's formulas are exact, for any number of leading dimensions."""
    tensors = [t.cpu().detach().double() for t in inputs(6, 5).values()]
    shaped = [t.view(2, 3, 5) if t.ndim == 2 else t for t in tensors]
    leaves = [t.requires_grad_() for t in shaped]
    assert torch.autograd.gradcheck(add_layer_norm, leaves)


@pytest.mark.parametrize("impl", IMPLS)
def test_leading_dimensions_and_strides(impl: str) -> None:
    """[B, T, F] as a transposed [T, B, F] is the same rows in another order."""
    tensors = {name: t.detach() for name, t in inputs(6, 32).items()}
    flat, flat_total = add_layer_norm(**tensors, impl=impl)
    for name in ("x", "residual"):
        tensors[name] = tensors[name].view(2, 3, 32).transpose(0, 1)
    out, total = add_layer_norm(**tensors, impl=impl)
    assert torch.equal(out.transpose(0, 1).reshape(6, 32), flat)
    assert torch.equal(total.transpose(0, 1).reshape(6, 32), flat_total)


@pytest.mark.parametrize("impl", IMPLS)
def test_are_good_custom_operations(impl: str) -> None:
    """Schema, fake tensors and autograd registration agree with what they do."""
    x, residual, weight, bias = inputs(3, 32).values()
    alone = (x, weight, bias, 1e-5, impl)
    torch.library.opcheck(torch.ops.fastmaze.layer_norm.default, alone)
    added = (x, residual, weight, bias, 1e-5, impl)
    torch.library.opcheck(torch.ops.fastmaze.add_layer_norm.default, added)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x", torch.zeros(0, 8), ValueError),
        ("x", torch.zeros(2, 4096), ValueError),
        ("x", torch.zeros(2, 8, dtype=torch.int64), TypeError),
        ("residual", torch.zeros(1, 8), ValueError),
        ("residual", torch.zeros(2, 8, dtype=torch.float16), TypeError),
        ("weight", torch.zeros(7), ValueError),
        ("weight", torch.zeros(8, dtype=torch.int64), TypeError),
        ("bias", torch.zeros(8, device="meta"), ValueError),
        ("bias", torch.zeros(8, dtype=torch.float16), TypeError),
        ("eps", 0.0, ValueError),
        ("impl", "torch", ValueError),
    ],
)
def test_refuses_what_does_not_fit(name: str, value: object, error: type[Exception]) -> None:
    """Each message begins with the argument that is wrong."""
    arguments: dict[str, Any] = {
        "x": torch.zeros(2, 8),
        "residual": torch.zeros(2, 8),
        "weight": torch.ones(8),
        "bias": torch.zeros(8),
    }
    with pytest.raises(error, match=f"^{name}: expected "):
        add_layer_norm(**(arguments | {name: value}))
