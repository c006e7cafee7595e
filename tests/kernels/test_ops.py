"""The public functions: every implementation means the same, under autograd, autocast, compile."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastmaze.kernels import (
    AttentionImpl,
    blockwise,
    causal_attention,
    decode_attention,
    dispatch,
)

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1" and not dispatch.triton_missing()
needs_interpreter = pytest.mark.skipif(not INTERPRETS, reason="Triton's interpreter is not on")
triton = pytest.param("triton", marks=needs_interpreter)
B, H, T, D = 3, 2, 40, 16
LENGTHS = torch.tensor([40, 7, 0])
SEED = torch.tensor([9])


def random_tensors(count: int, *shape: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    return [x.clone() for x in draws.to(dtype)]


def qkv(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [x.requires_grad_() for x in random_tensors(3, B, H, T, D, dtype=dtype)]


def run(function: Callable[..., Any], inputs: list[Tensor], **options: Any) -> list[Tensor]:
    """out and the gradients of q, k, v, from a gradient that is not the same everywhere."""
    out = function(*inputs, **options)
    grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


# Agreement of the implementations


@pytest.mark.parametrize("impl", ["auto", "sdpa", triton])
@pytest.mark.parametrize("seqlens", [None, LENGTHS, LENGTHS.int().repeat_interleave(2)[::2]])
def test_implementations_agree_without_dropout(impl: str, seqlens: Tensor | None) -> None:
    options: dict[str, Any] = {"seqlens": seqlens, "scale": 0.3, "precision": "ieee"}
    expected = run(causal_attention, qkv(), impl="reference", **options)
    torch.testing.assert_close(run(causal_attention, qkv(), impl=impl, **options), expected)


@pytest.mark.parametrize("impl", ["auto", triton])
@pytest.mark.parametrize("seqlens", [None, LENGTHS])
def test_implementations_agree_with_dropout(impl: str, seqlens: Tensor | None) -> None:
    options: dict[str, Any] = {"seqlens": seqlens, "dropout_p": 0.3, "seed": SEED}
    expected = run(causal_attention, qkv(), impl="reference", **options)
    got = run(causal_attention, qkv(), impl=impl, precision="ieee", **options)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("impl", ["auto", triton])
def test_implementations_agree_on_the_log_sum_exp(impl: str) -> None:
    options: dict[str, Any] = {"seqlens": LENGTHS, "return_lse": True}
    out, lse = causal_attention(*qkv(), impl="reference", **options)
    got, got_lse = causal_attention(*qkv(), impl=impl, precision="ieee", **options)
    torch.testing.assert_close([got, got_lse], [out, lse])
    assert not got_lse.requires_grad


@pytest.mark.parametrize("impl", ["auto", "sdpa", "reference", triton])
@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
def test_padding_is_neither_read_nor_given_gradients(impl: str, dropout_p: float) -> None:
    if impl == "sdpa" and dropout_p:
        pytest.skip("it has no dropout")
    past = torch.arange(T)[:, None] >= LENGTHS[:, None, None, None]
    results = []
    for fill in (0.0, torch.nan):
        inputs = [x.detach().masked_fill(past, fill).requires_grad_() for x in qkv()]
        out = causal_attention(*inputs, seqlens=LENGTHS, dropout_p=dropout_p, seed=SEED, impl=impl)
        out.backward(torch.ones_like(out).masked_fill(past, fill))
        results.append([out.detach(), *(x.grad for x in inputs)])
    for zeros, nans in zip(*results, strict=True):
        assert torch.equal(zeros, nans)  # NaN equals nothing
        assert (zeros * past == 0).all()


def test_gradcheck_of_the_operator() -> None:
    inputs = [x.requires_grad_() for x in random_tensors(3, 2, 2, 20, 3, dtype=torch.float64)]

    def out(*inputs: Tensor) -> Tensor:
        return causal_attention(*inputs, seqlens=torch.tensor([20, 6]), dropout_p=0.3, seed=SEED)

    assert torch.autograd.gradcheck(out, inputs, fast_mode=True)


def test_a_second_derivative_is_refused() -> None:
    inputs = qkv()
    out = causal_attention(*inputs, dropout_p=0.1)
    (gradient, *_) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradient.sum().backward()


# The seed


def test_without_a_seed_torchs_generator_decides() -> None:
    inputs = qkv()
    outs = []
    for manual in (0, 0, 1):
        torch.manual_seed(manual)
        outs.append([causal_attention(*inputs, dropout_p=0.5) for _ in range(2)])
    assert torch.equal(outs[0][0], outs[1][0])
    assert torch.equal(outs[0][1], outs[1][1])
    assert not torch.equal(outs[0][0], outs[0][1])
    assert not torch.equal(outs[0][0], outs[2][0])


def test_without_dropout_no_random_number_is_drawn() -> None:
    state = torch.get_rng_state()
    causal_attention(*qkv())
    causal_attention(*qkv(), dropout_p=0.5, seed=SEED)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [torch.tensor(9), torch.tensor([9]), torch.tensor([[9]])])
def test_a_seed_may_have_any_shape_of_one_element(seed: Tensor) -> None:
    expected = causal_attention(*qkv(), dropout_p=0.5, seed=SEED)
    assert torch.equal(causal_attention(*qkv(), dropout_p=0.5, seed=seed), expected)


# Memory


class LargestTensor(TorchDispatchMode):
    """Notes the entries of the largest storage that an operation of torch returns."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                size = x.untyped_storage().nbytes() // x.element_size()
                self.entries = max(self.entries, size)
        return out

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is watched even within a custom operator, where modes are off."""

        def watched(*args: Any) -> Any:
            with self:
                return function(*args)

        return watched


def largest_tensor(length: int, impl: str, dropout_p: float, seqlens: bool) -> int:
    """Entries of the largest tensor of a training step over one sequence and one head."""
    inputs = [x.requires_grad_() for x in random_tensors(3, 1, 1, length, 16)]
    lengths = torch.tensor([length - 3]) if seqlens else None
    options: dict[str, Any] = {"dropout_p": dropout_p, "seqlens": lengths, "seed": SEED}
    with pytest.MonkeyPatch.context() as patch, LargestTensor() as largest:
        for name in ("forward", "backward"):
            patch.setattr(blockwise, name, largest.watch(getattr(blockwise, name)))
        causal_attention(*inputs, impl=impl, **options).sum().backward()
    if dropout_p:  # else it is torch's own code, which shows what it returns alone
        assert largest.entries >= min(blockwise.BLOCK_ROWS, length) * length
    return largest.entries


@pytest.mark.parametrize("seqlens", [False, True])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_memory_of_a_training_step_is_linear_in_the_length(dropout_p: float, seqlens: bool) -> None:
    sizes = {n: largest_tensor(n, "auto", dropout_p, seqlens) for n in (512, 1024, 2048)}
    assert all(size < n * n for n, size in sizes.items())
    assert sizes[1024] <= 2 * sizes[512]
    assert sizes[2048] <= 2 * sizes[1024]
    # The measure sees a matrix of T x T where there is one.
    assert largest_tensor(512, "reference", dropout_p, seqlens) >= 512 * 512


# Autocast


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_autocast_gives_its_dtype_and_gradients_of_the_inputs(impl: str, dropout_p: float) -> None:
    options: dict[str, Any] = {"dropout_p": dropout_p, "seed": SEED, "impl": impl}
    inputs = qkv()
    halves = [x.detach().bfloat16().requires_grad_() for x in inputs]
    expected = run(causal_attention, halves, **options)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(causal_attention, inputs, **options)
        mixed = causal_attention(inputs[0], *(x.bfloat16() for x in inputs[1:]), **options)
        assert causal_attention(*qkv(torch.float64), **options).dtype == torch.float64
    assert [x.dtype for x in got] == [torch.bfloat16] + [torch.float32] * 3
    assert mixed.dtype == torch.bfloat16
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x.bfloat16(), y, rtol=0.02, atol=0.02)


def test_decoding_under_autocast_has_the_caches_dtype() -> None:
    q, k, v = random_tensors(3, B, H, D, dtype=torch.bfloat16)
    k_cache, v_cache = random_tensors(2, B, H, T, D)
    expected = decode_attention(
        q.float(), k_cache.clone(), v_cache.clone(), 5, k=k.float(), v=v.float()
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = decode_attention(q, k_cache, v_cache, 5, k=k, v=v)
    assert torch.equal(out, expected)


# Decoding


@pytest.mark.parametrize("impl", ["sdpa", "reference", triton])
@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize(
    "lengths", [0, 1, 39, torch.tensor([39, 0, 7]), torch.tensor([5, 5, 5]).int()]
)
def test_decoding_is_attention_over_each_sequences_keys(
    impl: str, append: bool, lengths: Tensor | int
) -> None:
    q, k, v = random_tensors(3, B, H, D)
    caches = random_tensors(2, B, H, T, D)
    counts = torch.as_tensor(lengths).expand(B)
    unused = torch.arange(T)[:, None] >= counts[:, None, None, None]
    k_cache, v_cache = (x.masked_fill(unused, torch.nan) for x in caches)
    want_k, want_v = k_cache.clone(), v_cache.clone()
    before = lengths.clone() if isinstance(lengths, Tensor) else lengths
    new = {"k": k, "v": v} if append else {}
    out = decode_attention(q, k_cache, v_cache, lengths, impl=impl, **new)
    for n in range(B):
        count = int(counts[n])
        if append:
            want_k[n, :, count], want_v[n, :, count] = k[n], v[n]
            count += 1
        keys, values = want_k[n, :, :count], want_v[n, :, :count]
        weights = (keys @ q[n, :, :, None] * D**-0.5).softmax(1)  # [H, count, 1]
        torch.testing.assert_close(out[n], (weights * values).sum(1))
    for cache, want in ((k_cache, want_k), (v_cache, want_v)):
        torch.testing.assert_close(cache, want, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(lengths, before)


@pytest.mark.parametrize("impl", ["sdpa", "reference"])
@pytest.mark.parametrize("wrong", [-1, T])
def test_unchecked_lengths_out_of_range_give_nan_and_write_nothing(impl: str, wrong: int) -> None:
    q, k, v = random_tensors(3, B, H, D)
    k_cache, v_cache = random_tensors(2, B, H, T, D)
    k_before, v_before = k_cache.clone(), v_cache.clone()
    # As a compiled graph calls it: no check of values has been made.
    out = torch.ops.fastmaze.decode_attention_append(
        q, k_cache, v_cache, torch.tensor([3, wrong, 0]), 0, 0.25, None, impl, k, v
    )
    assert out[1].isnan().all()
    assert not out[[0, 2]].isnan().any()
    assert torch.equal(k_cache[1], k_before[1])
    assert torch.equal(v_cache[1], v_before[1])
    assert torch.equal(k_cache[0, :, 3], k[0])


@pytest.mark.parametrize("impl", ["sdpa", "reference", triton])
def test_appending_is_seen_by_autograd(impl: str) -> None:
    """A tensor that autograd keeps for later must not be changed behind its back."""
    k_cache, v_cache = random_tensors(2, B, H, T, D)
    weight = torch.ones((), requires_grad=True)
    kept = (weight * k_cache).sum()
    new = torch.ones(B, H, D)
    decode_attention(new, k_cache, v_cache, 3, k=new, v=new, impl=impl)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


# torch.library and torch.compile


@pytest.mark.parametrize("impl", ["blockwise", triton])
@pytest.mark.parametrize("masked", [False, True])
def test_opcheck_of_causal_attention(impl: str, masked: bool) -> None:
    lengths, seed, p = (LENGTHS, SEED, 0.1) if masked else (None, None, 0.0)
    ops = torch.ops.fastmaze
    tail = (lengths, seed, p, 0.25, "ieee", impl)
    opcheck(ops.causal_attention.default, (*qkv(), *tail))
    fused = torch.randn(B, T, 3, H, D).permute(2, 0, 3, 1, 4).unbind(0)
    opcheck(ops.causal_attention.default, (*fused, *tail))
    out, lse = ops.causal_attention(*fused, *tail)
    grad = torch.ones(()).expand(B, H, T, D)  # as of out.sum(): no stride of 1
    opcheck(ops.causal_attention_backward.default, (grad, *fused, out, lse, *tail))


@pytest.mark.parametrize("impl", ["sdpa", "reference", triton])
@pytest.mark.parametrize("lengths", [(None, 5), (torch.tensor([3, 0, 39]), 0)])
def test_opcheck_of_decode_attention(impl: str, lengths: tuple[Tensor | None, int]) -> None:
    q, k, v = random_tensors(3, B, H, D)
    caches = random_tensors(2, B, H, T, D)
    arguments = (q, *caches, *lengths, 0.25, None, impl)
    opcheck(torch.ops.fastmaze.decode_attention.default, arguments)
    opcheck(torch.ops.fastmaze.decode_attention_append.default, (*arguments, k, v))


@pytest.fixture
def compiled() -> Any:
    """Compiles with no graph break allowed; forgets all graphs before and after."""
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


@pytest.mark.parametrize("impl", ["auto", "reference", triton])
def test_compiled_with_dropout_forward_and_backward(compiled: Any, impl: str) -> None:
    """The seed is drawn inside the graph."""

    def attend(q: Tensor, k: Tensor, v: Tensor, seqlens: Tensor) -> Tensor:
        return causal_attention(q * 2, k, v, seqlens=seqlens, dropout_p=0.2, impl=impl)

    fast = compiled(attend)
    for _ in range(2):  # tracing, then running what was traced
        torch.manual_seed(3)
        expected = run(attend, qkv(), seqlens=LENGTHS)
        torch.manual_seed(3)
        torch.testing.assert_close(run(fast, qkv(), seqlens=LENGTHS), expected)


def test_compiled_without_dropout_for_any_length(compiled: Any) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.full((q.shape[0],), q.shape[2] - 1)
        out = causal_attention(q, k, v, seqlens=lengths)
        return out, causal_attention(q, k, v, return_lse=True)[1]

    fast = compiled(attend)
    for length in (T, 33, 17):
        inputs = random_tensors(3, B, H, length, D)
        torch.testing.assert_close(fast(*inputs), attend(*inputs))


def test_compiled_out_of_range_lengths_give_nan(compiled: Any) -> None:
    """Values are not checked in a graph; the answer must not look right."""
    fast = compiled(causal_attention)
    for wrong in (-1, T + 1):
        for dropout_p in (0.0, 0.1):
            out = fast(*qkv(), seqlens=torch.tensor([T, wrong, 3]), dropout_p=dropout_p)
            assert out[1].isnan().all()
            assert not out[[0, 2]].isnan().any()


def test_compiled_decoding_writes_the_caches(compiled: Any) -> None:
    def decode(x: Tensor, k_cache: Tensor, v_cache: Tensor, lengths: Tensor | int) -> Tensor:
        return decode_attention(x, k_cache, v_cache, lengths, k=x + 1, v=x + 2) * 2

    fast = compiled(decode)
    x, *_ = random_tensors(1, B, H, D)
    for lengths in (0, 1, 7, torch.tensor([0, 39, 3]), torch.tensor([9, 9, 9])):
        results = []
        for function in (decode, fast):
            k_cache, v_cache = random_tensors(2, B, H, T, D)
            results.append([function(x, k_cache, v_cache, lengths), k_cache, v_cache])
        torch.testing.assert_close(*results)


def test_entries_that_share_memory_get_the_gradients_of_a_copy() -> None:
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))

    def gradient(impl: AttentionImpl, copy: bool) -> Tensor:
        leaf = x.clone().requires_grad_()
        q = leaf.unfold(1, 16, 1)[:, None, :8]  # [1, 1, 8, 16], rows that overlap
        q = q.contiguous() if copy else q
        causal_attention(q, q, q, impl=impl).square().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    expected = gradient("reference", True)
    for impl in get_args(AttentionImpl):
        if impl != "triton" or INTERPRETS:
            torch.testing.assert_close(gradient(impl, False), expected)
