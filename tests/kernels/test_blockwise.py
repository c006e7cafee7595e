"""Attention over blocks of rows: against the oracle, whatever the blocks, on poisoned memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fastmaze.kernels import blockwise, reference

LENGTHS = [1, 2, 15, 16, 17, 63, 65, 129, 200]


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Under torch's deterministic mode, memory that nobody has written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def random_case(
    T: int, dtype: torch.dtype, *, B: int = 3, H: int = 2, D: int = 8
) -> tuple[list[Tensor], Tensor]:
    """q, k, v and a gradient [B, H, T, D] of a fused projection's strides; lengths, mixed."""
    generator = torch.Generator().manual_seed(T)
    draws = torch.randn(B, T, 4, H, D, generator=generator, dtype=torch.float64)
    inputs = draws.to(dtype).permute(2, 0, 3, 1, 4).unbind(0)
    return list(inputs), torch.tensor([T, 0, -(-T // 2)])[:B]


def oracle(
    inputs: list[Tensor],
    dtype: torch.dtype,
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
) -> list[Tensor]:
    """out, lse, dq, dk, dv of the reference, computed in `dtype`."""
    *qkv, grad = (x.to(dtype) for x in inputs)
    qkv = [x.detach().requires_grad_() for x in qkv]
    out, lse = reference.causal_attention(*qkv, seqlens=seqlens, dropout_p=dropout_p, seed=seed)
    return [out.detach(), lse, *torch.autograd.grad(out, qkv, grad)]


def ours(
    inputs: list[Tensor],
    seqlens: Tensor | None,
    seed: Tensor | None,
    dropout_p: float,
    block_rows: int = blockwise.BLOCK_ROWS,
) -> list[Tensor]:
    q, k, v, grad = inputs
    rest = (seqlens, seed, dropout_p, q.shape[-1] ** -0.5, block_rows)
    out, lse = blockwise.forward(q, k, v, *rest)
    return [out, lse, *blockwise.backward(grad, q, k, v, lse, *rest)]


@pytest.mark.parametrize("dropout_p", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("T", LENGTHS)
def test_equals_the_reference_in_float64(T: int, dropout_p: float) -> None:
    inputs, lengths = random_case(T, torch.float64)
    seed = torch.tensor([T - 100]) if dropout_p else None
    for seqlens in (None, lengths):
        expected = oracle(inputs, torch.float64, seqlens, seed, dropout_p)
        for block_rows in (16, 128):
            got = ours(inputs, seqlens, seed, dropout_p, block_rows)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_errs_no_more_than_plain_torch(dtype: torch.dtype, dropout_p: float) -> None:
    """On average at most half as much again; the largest error at most twice as large."""
    inputs, lengths = random_case(200, dtype, D=32)
    seed = torch.tensor([8]) if dropout_p else None
    exact = oracle(inputs, torch.float64, lengths, seed, dropout_p)
    plain = oracle(inputs, dtype, lengths, seed, dropout_p)
    got = ours(inputs, lengths, seed, dropout_p)
    assert [x.dtype for x in got] == [x.dtype for x in plain]
    for x, y, z in zip(got, plain, exact, strict=True):
        errors, allowed = ((a.double() - z).nan_to_num() for a in (x, y))
        assert errors.square().mean() <= 1.5**2 * allowed.square().mean()
        if dtype != torch.float32:
            # Of a few roundings of float32 the largest is a matter of luck, and of the processor.
            assert errors.abs().max() <= 2 * allowed.abs().max()
        assert torch.equal(x.isinf(), z.isinf())


def test_the_mask_does_not_depend_on_blocks() -> None:
    T = 150
    (q, k, *_), _ = random_case(T, torch.float64, D=T)
    v = torch.eye(T, dtype=torch.float64).expand_as(q)  # out is the matrix of weights
    seed = torch.tensor([11])
    keep = reference.dropout_keep_mask(seed, 3, 2, T, 0.2).tril()
    for block_rows in (16, 48, 128, 160):
        out, _ = blockwise.forward(q, k, v, None, seed, 0.2, 0.1, block_rows)
        assert torch.equal(out != 0, keep)


@pytest.mark.parametrize("max_scores", [1, 2 * 65 * 16 * 2])
def test_a_batch_taken_in_slices_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, max_scores: int
) -> None:
    inputs, lengths = random_case(65, torch.float64)
    seed = torch.tensor([1])
    expected = ours(inputs, lengths, seed, 0.2, 16)
    monkeypatch.setattr(blockwise, "_MAX_SCORES", max_scores)
    torch.testing.assert_close(ours(inputs, lengths, seed, 0.2, 16), expected)


def test_nothing_past_the_length_is_used_forward_or_backward() -> None:
    inputs, lengths = random_case(33, torch.float32)
    past = torch.arange(33)[:, None] >= lengths[:, None, None, None]
    zeros, nans = (
        ours([x.masked_fill(past, fill) for x in inputs], lengths, torch.tensor([2]), 0.1)
        for fill in (0.0, torch.nan)
    )
    for x, y in zip(zeros, nans, strict=True):
        assert torch.equal(x, y)  # NaN equals nothing
    assert all((x * past == 0).all() for x in (zeros[0], *zeros[2:]))
    assert (zeros[1].isinf() == past[..., 0]).all()


def test_nan_within_one_sequence_stays_there_and_padding_stays_zero() -> None:
    inputs, _ = random_case(20, torch.float32)
    lengths = torch.tensor([12, 20, 3])
    inputs[2][0, :, 4] = torch.nan
    out, lse, *gradients = ours(inputs, lengths, None, 0.0)
    for x in (out, *gradients):
        assert (x[0, :, 12:] == 0).all()
        assert not x[1:].isnan().any()
    assert out[0, :, 4:12].isnan().all()
    assert not lse.isnan().any()


@pytest.mark.parametrize("wrong", [-1, 34])
def test_a_length_out_of_range_is_nan_in_that_sequence_alone(wrong: int) -> None:
    inputs, _ = random_case(33, torch.float32)
    for x in ours(inputs, torch.tensor([33, wrong, 7]), torch.tensor([2]), 0.1):
        assert x[1].isnan().all()
        assert not x[[0, 2]].isnan().any()


def test_layouts_of_results() -> None:
    inputs, _ = random_case(33, torch.float32)
    out, lse, *gradients = ours(inputs, None, None, 0.0)
    assert out.transpose(1, 2).is_contiguous()  # an output projection needs no copy
    assert lse.is_contiguous()
    for x, gradient in zip(inputs, gradients, strict=False):
        assert gradient.stride() == torch.empty_like(x).stride()
