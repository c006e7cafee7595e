"""The Triton kernels of causal attention against float64: values, gradients, mask, lengths."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastmaze.kernels import reference, tiles

pytest.importorskip("triton", reason="Triton is not installed")

from fastmaze.kernels import causal_attention_triton as kernels

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 200)
HEAD_DIMS = (16, 32, 64, 128)
DROPOUTS = (0.0, 0.1, 0.5)
SEED = -7_000_000_000_007


LARGE = tiles.Tile(128, 128, 4, 1)


def keys(D: int) -> Iterator[tiles.Key]:
    """What selects the tiles of float32 kernels, with and without dropout."""
    return product(tiles.KERNELS, [torch.float32], [D], [False, True])


def projection(T: int, D: int, dtype: torch.dtype, device: torch.device, B: int = 3) -> Tensor:
    """What a fused projection gives, [B, T, 3, 1, D]."""
    generator = torch.Generator().manual_seed(1000 * T + D)
    return torch.randn(B, T, 3, 1, D, generator=generator).to(device, dtype)


def heads(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views [B, H, T, D] of q, k and v, none contiguous."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def run_kernels(
    qkv: Tensor, grad: Tensor, seqlens: Tensor | None, dropout_p: float
) -> list[Tensor]:
    q, k, v = heads(qkv)
    seed = torch.tensor([SEED], device=q.device) if dropout_p else None
    options: tuple[Any, ...] = (seqlens, seed, dropout_p, q.shape[-1] ** -0.5, "ieee")
    out, lse = kernels.forward(q, k, v, *options)
    return [out, *kernels.backward(grad, q, k, v, out, lse, *options)]


def run_reference(
    qkv: Tensor, grad: Tensor, seqlens: Tensor, dropout_p: float, dtype: torch.dtype
) -> list[Tensor]:
    q, k, v = (x.to(dtype).requires_grad_() for x in heads(qkv.nan_to_num(nan=0.0)))
    seed = torch.tensor([SEED], device=q.device)
    out, _ = reference.causal_attention(q, k, v, seqlens=seqlens, dropout_p=dropout_p, seed=seed)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), grad.to(dtype))]


def check_against_float64(T: int, D: int, dropout_p: float, qkv: Tensor) -> None:
    """At most twice the error of plain torch in the same precision, nothing past the lengths."""
    lengths = [T, max(T // 2, 1), (2 * T) // 3][: len(qkv)]
    seqlens = torch.tensor(lengths, device=qkv.device)
    for b, length in enumerate(lengths):
        qkv[b, length:] = torch.nan
    generator = torch.Generator().manual_seed(T)
    grad = torch.randn(heads(qkv)[0].shape, generator=generator).to(qkv)
    ours = run_kernels(qkv, grad, seqlens, dropout_p)
    exact = run_reference(qkv, grad, seqlens, dropout_p, torch.float64)
    plain = run_reference(qkv, grad, seqlens, dropout_p, qkv.dtype)
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), ours, plain, exact, strict=True):
        for i, length in enumerate(lengths):
            assert (a[i, :, length:] == 0).all(), f"{name} past length {length} of {T}"
        error, allowed = ((x.double() - c).abs().max().item() for x in (a, b))
        allowed += error_of_delta(name, qkv, grad, exact[0])
        # One rounding of the largest entry is granted to what plain torch happens to get exactly.
        one = torch.finfo(qkv.dtype).eps * c.abs().max().item()
        assert error <= 2 * allowed + one, f"{name}: error {error}, plain torch {allowed}"


def error_of_delta(name: str, qkv: Tensor, grad: Tensor, out: Tensor) -> float:
    """What rounding delta = grad · out costs dq and dk, which autograd does not need to form.

    In the first rows dP and delta nearly cancel. Autograd subtracts the sum of P∘dP, whose errors
    cancel too (with one key it is exact); a backward pass that does not store P cannot. Granted
    is one rounding of delta at its full size, |grad| |out|.
    """
    if name not in ("dq", "dk"):
        return 0.0
    error = torch.finfo(qkv.dtype).eps * (grad.double().norm(dim=-1) * out.norm(dim=-1)).max()
    q, k, _ = heads(qkv.nan_to_num(nan=0.0))
    return (error * q.shape[-1] ** -0.5 * (k if name == "dq" else q).abs().max()).item()


@pytest.mark.parametrize("dropout_p", DROPOUTS)
@pytest.mark.parametrize("D", HEAD_DIMS)
@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.usefixtures("poisoned")
def test_float32_errs_at_most_twice_as_much_as_plain_torch(
    T: int, D: int, dropout_p: float, device: torch.device
) -> None:
    # In the interpreter time goes by the tile, so most cases run with few large ones.
    few = {} if device.type == "cuda" or T in (65, 129) else dict.fromkeys(keys(D), LARGE)
    with tiles.override(few):
        check_against_float64(T, D, dropout_p, projection(T, D, torch.float32, device, B=2))


@pytest.mark.parametrize("dropout_p", DROPOUTS)
@pytest.mark.parametrize(("T", "D"), [(17, 16), (65, 64), (129, 32), (200, 128)])
@pytest.mark.usefixtures("poisoned")
def test_float16_errs_at_most_twice_as_much_as_plain_torch(
    T: int, D: int, dropout_p: float, device: torch.device
) -> None:
    check_against_float64(T, D, dropout_p, projection(T, D, torch.float16, device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the interpreter errs in bfloat16")
@pytest.mark.parametrize("dropout_p", DROPOUTS)
@pytest.mark.parametrize(("T", "D"), [(17, 16), (65, 64), (129, 32), (200, 128)])
@pytest.mark.usefixtures("poisoned")
def test_bfloat16_errs_at_most_twice_as_much_as_plain_torch(
    T: int, D: int, dropout_p: float, device: torch.device
) -> None:
    check_against_float64(T, D, dropout_p, projection(T, D, torch.bfloat16, device))


class Attention(torch.autograd.Function):
    """The kernels under autograd in float64, which the public function does not offer."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *options: Any) -> Tensor:
        out, lse = kernels.forward(q, k, v, *options)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.options = options
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return *kernels.backward(grad, *ctx.saved_tensors, *ctx.options), *[None] * 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="tiles for float64 exist to be interpreted")
@pytest.mark.parametrize("dropout_p", [0.0, 0.5])
def test_gradients_are_those_of_finite_differences(dropout_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 1, 18, 16, generator=generator, dtype=torch.float64)
    options = (torch.tensor([18, 5]), torch.tensor([3]), dropout_p, 0.25, "ieee")
    inputs = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(
        lambda *x: Attention.apply(*x, *options), inputs, fast_mode=True, atol=1e-6
    )


TILES = [
    tiles.Tile(128, 128, 4, 1),
    tiles.Tile(64, 16, 4, 1),
    tiles.Tile(16, 16, 4, 1),
    tiles.Tile(32, 32, 4, 1),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="not every tile suits a device")
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_dropout_takes_the_same_weights_whatever_the_tiles(tile: tiles.Tile) -> None:
    # Uniform weights and unit vectors as values: out shows the mask, and dv that of the backward.
    T = D = 64
    q = k = torch.zeros(2, 2, T, D)
    v = torch.eye(T).expand(2, 2, T, D).contiguous()
    seed = torch.tensor([SEED])
    mask = reference.dropout_keep_mask(seed, 2, 2, T, 0.5, q.device).tril()
    swapped = tiles.Tile(tile.block_n, tile.block_m, tile.num_warps, tile.num_stages)
    chosen: dict[tiles.Key, tiles.Tile] = {
        ("forward", torch.float32, D, True): tile,
        ("backward_dq", torch.float32, D, True): tile,
        ("backward_dkv", torch.float32, D, True): swapped,
    }
    options = (None, seed, 0.5, 1.0, "ieee")
    with tiles.override(chosen):
        out, lse = kernels.forward(q, k, v, *options)
        _, _, dv = kernels.backward(v, q, k, v, out, lse, *options)
    counts = torch.arange(1.0, T + 1)
    threshold = reference.keep_threshold(0.5)
    expected = mask / counts[:, None] * (65536 / threshold)
    torch.testing.assert_close(out, expected)
    assert ((out != 0) == mask).all()
    assert ((dv.mT != 0) == mask).all()
    torch.testing.assert_close(lse, counts.log().expand_as(lse))


def test_lengths_out_of_range_give_nan_and_spare_their_neighbours(device: torch.device) -> None:
    qkv = projection(20, 16, torch.float32, device, B=4)
    grad = torch.ones_like(heads(qkv)[0])
    outcome = run_kernels(qkv, grad, torch.tensor([21, 20, -1, 0], device=device), 0.1)
    expected = run_kernels(qkv[1:2], grad[1:2], None, 0.0)
    for x in outcome:
        assert x[0].isnan().all()
        assert x[2].isnan().all()
        assert (x[3] == 0).all()
        assert x[1].isfinite().all()
    valid = run_kernels(qkv, grad, torch.tensor([21, 20, -1, 0], device=device), 0.0)
    for x, y in zip(valid, expected, strict=True):
        assert torch.equal(x[1], y[0])


def test_the_logarithm_of_the_sum_is_that_before_dropout(device: torch.device) -> None:
    q, k, v = heads(projection(37, 32, torch.float32, device))
    seqlens = torch.tensor([37, 0, 20], dtype=torch.int32, device=device)
    seed = torch.tensor([SEED], device=device)
    _, lse = kernels.forward(q, k, v, seqlens, seed, 0.5, 0.3, "ieee")
    _, expected = reference.causal_attention(q, k, v, seqlens=seqlens, scale=0.3)
    torch.testing.assert_close(lse, expected)


@pytest.mark.parametrize("heads_in_all", [(3, 3), (11, 1)], ids=str)
def test_many_heads_and_tiles_find_their_own_place(
    heads_in_all: tuple[int, int], device: torch.device
) -> None:
    B, H = heads_in_all  # more than share a group of programs
    generator = torch.Generator().manual_seed(B)
    q, k, v, grad = torch.randn(4, B, H, 40, 16, generator=generator).to(device)
    seqlens = torch.arange(B, device=device) * 40 // B + 1
    seed = torch.tensor([SEED], device=device)
    options = (seqlens, seed, 0.3, 0.25, "ieee")
    small = tiles.Tile(16, 16, 4, 1)
    with tiles.override(dict.fromkeys(keys(16), small)):
        out, lse = kernels.forward(q, k, v, *options)
        ours = [out, *kernels.backward(grad, q, k, v, out, lse, *options)]
    inputs = [x.requires_grad_() for x in (q, k, v)]
    expected, _ = reference.causal_attention(
        *inputs, seqlens=seqlens, dropout_p=0.3, seed=seed, scale=0.25
    )
    for x, y in zip(ours, (expected, *torch.autograd.grad(expected, inputs, grad)), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("last", ["padded", "transposed", "unfolded"])
def test_gradients_of_layouts_that_a_descriptor_cannot_address(
    last: str, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 64, generator=generator).to(device)
    q = {
        "padded": x[:, :, None, :19][..., :16],
        "transposed": x[:, :, :16, None].mT,
        "unfolded": x[:, :1].unfold(2, 16, 1)[:, :, :5],
    }[last]
    options = (None, None, 0.0, 0.25, "ieee")

    def run(q: Tensor) -> list[Tensor]:
        out, lse = kernels.forward(q, q, q, *options)
        return [out, *kernels.backward(out, q, q, q, out, lse, *options)]

    for x, y in zip(run(q), run(q.contiguous()), strict=True):
        assert torch.equal(x, y)


def test_more_programs_than_descriptors_can_be_kept_for_are_refused() -> None:
    q = torch.empty(1, 1, 1, 16, device="meta").expand(2**21, 16, 1, 16)
    with pytest.raises(ValueError, match=r"q: expected B \* H \* T / 32 of at most 2097151"):
        kernels.forward(q, q, q, None, None, 0.0, 1.0, "ieee")


def test_a_launch_leaves_the_allocator_of_the_program_alone() -> None:
    from triton.runtime import _allocation

    before = _allocation._allocator.get()
    q = torch.zeros(1, 1, 1, 16)
    kernels.forward(q, q, q, None, None, 0.0, 1.0, "ieee")
    assert _allocation._allocator.get() is before


@pytest.mark.parametrize("layout", ["heads last", "contiguous", "expanded", "odd offset"])
def test_any_layout_gives_the_same_bits(layout: str, device: torch.device) -> None:
    q, k, v = (x.contiguous() for x in heads(projection(40, 16, torch.float32, device)))
    k = v = k[:1].expand_as(k)
    options = (None, None, 0.0, 0.25, "ieee")

    def run(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        out, lse = kernels.forward(q, k, v, *options)
        return [out, *kernels.backward(q, q, k, v, out, lse, *options)]

    expected = run(q, k.contiguous(), v.contiguous())
    if layout == "heads last":
        q = q.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "contiguous":
        k = k.contiguous()
    elif layout == "odd offset":  # 4 bytes off what a descriptor can address
        memory = q.new_empty(q.numel() + 1)
        q = memory[1:].view(q.shape).copy_(q)
    for x, y in zip(run(q, k, v), expected, strict=True):
        assert torch.equal(x, y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="races do not show in the interpreter")
def test_the_same_input_gives_the_same_bits_every_time(device: torch.device) -> None:
    qkv = projection(1000, 64, torch.bfloat16, device, B=8)
    grad = torch.randn_like(heads(qkv)[0])
    first = run_kernels(qkv, grad, None, 0.1)
    for _ in range(200):
        for x, y in zip(run_kernels(qkv, grad, None, 0.1), first, strict=True):
            assert torch.equal(x, y)


class Allocations(TorchDispatchMode):
    """Counts the entries of all tensors that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and func.__name__.startswith(("empty", "new_empty")):
            self.entries.append(result.numel())
        return result


def test_memory_grows_with_the_length_and_not_with_its_square(device: torch.device) -> None:
    taken = {}
    for T in (64, 128, 256):
        qkv = torch.zeros(1, T, 3, 1, 16, device=device)
        with Allocations() as allocations:
            run_kernels(qkv, heads(qkv)[0], None, 0.1)
        assert len(allocations.entries) >= 5  # out, lse, dq, dk, dv
        assert max(allocations.entries) <= 16 * T
        taken[T] = sum(allocations.entries)
    assert taken[256] == 2 * taken[128] == 4 * taken[64]
