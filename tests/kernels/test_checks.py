"""Bad arguments of the attention functions: an error that names the argument, before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.kernels import causal_attention, decode_attention

B, H, T, D = 2, 3, 20, 16


def causal(**changes: Any) -> Tensor:
    x = torch.zeros(B, H, T, D)
    arguments = {"q": x, "k": x, "v": x, **changes}
    return causal_attention(**arguments)


def decode(**changes: Any) -> Tensor:
    x, cache = torch.zeros(B, H, D), torch.zeros(B, H, T, D)
    arguments = {"q": x, "k_cache": cache, "v_cache": cache.clone(), "lengths": 4, **changes}
    return decode_attention(**arguments)


def append(**changes: Any) -> Tensor:
    x = torch.zeros(B, H, D)
    return decode(**{"k": x, "v": x, **changes})


def zeros(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


def expanded(*shape: int) -> Tensor:
    return torch.zeros(1).expand(shape)


STRIDED = torch.zeros(B, H, T, 2 * D)[..., ::2]
CAUSAL: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"q": [1.0]}, TypeError, "q: expected a tensor, got list"),
    ({"k": None}, TypeError, "k: expected a tensor, got NoneType"),
    ({"q": zeros(H, T, D)}, ValueError, r"q: expected shape \[B, H, T, D\]"),
    ({"q": zeros(B, H, 0, D)}, ValueError, r"q: .*no dimension of 0, got \[2, 3, 0, 16\]"),
    ({"q": zeros(0, H, T, D)}, ValueError, "q: .*no dimension of 0"),
    ({"q": zeros(B, H, T, D, dtype=torch.int64)}, TypeError, "q: .*got torch.int64"),
    ({"q": zeros(B, H, T, D, dtype=torch.complex64)}, TypeError, "q: .*got torch.complex64"),
    ({"q": zeros(B, H, T, D).to_sparse()}, TypeError, "q: .*sparse"),
    ({"k": zeros(B, H, T + 1, D)}, ValueError, r"k: expected shape \[2, 3, 20, 16\]"),
    ({"k": zeros(B, 1, T, D)}, ValueError, "k: expected shape"),
    ({"v": zeros(B, H, T, 2 * D)}, ValueError, "v: expected shape"),
    ({"v": zeros(B, H, T, D, dtype=torch.float64)}, TypeError, "v: expected torch.float32"),
    ({"k": zeros(B, H, T, D, device="meta")}, ValueError, "k: expected device cpu .*got meta"),
    ({"q": STRIDED}, ValueError, "q: expected a last dimension of stride 1"),
    ({"k": STRIDED}, ValueError, "k: expected a last dimension of stride 1"),
    ({"v": expanded(B, H, T, D)}, ValueError, "v: expected a last dimension of stride 1"),
    ({"dropout_p": 1.0}, ValueError, "dropout_p: expected 0 <= dropout_p < 1, got 1.0"),
    ({"dropout_p": -0.1}, ValueError, "dropout_p: .*got -0.1"),
    ({"dropout_p": float("nan")}, ValueError, "dropout_p: .*got nan"),
    ({"dropout_p": "0.1"}, TypeError, "dropout_p: expected a number, got str"),
    ({"dropout_p": True}, TypeError, "dropout_p: expected a number, got bool"),
    ({"dropout_p": torch.tensor(0.1)}, TypeError, "dropout_p: expected a number, got Tensor"),
    ({"scale": 0.0}, ValueError, "scale: expected a number from 1e-30 to 1e\\+30, got 0.0"),
    ({"scale": -1.0}, ValueError, "scale: .*got -1.0"),
    ({"scale": 1e-50}, ValueError, "scale: .*got 1e-50"),
    ({"scale": float("inf")}, ValueError, "scale: .*got inf"),
    ({"scale": float("nan")}, ValueError, "scale: .*got nan"),
    ({"scale": torch.tensor(1.0)}, TypeError, "scale: expected a number, got Tensor"),
    ({"precision": "tf16"}, ValueError, "precision: .*got 'tf16'"),
    ({"impl": "cuda"}, ValueError, "impl: .*got 'cuda'"),
    ({"impl": "blockwise"}, ValueError, "impl: .*got 'blockwise'"),
    ({"impl": "sdpa", "dropout_p": 0.1}, ValueError, "impl: 'sdpa' .*dropout"),
    ({"impl": "sdpa", "return_lse": True}, ValueError, "impl: 'sdpa' .*return_lse"),
    ({"seed": 3}, TypeError, "seed: expected a tensor, got int"),
    ({"seed": zeros(1)}, TypeError, "seed: expected int64, got torch.float32"),
    ({"seed": zeros(1, dtype=torch.int32)}, TypeError, "seed: expected int64"),
    ({"seed": zeros(2, dtype=torch.int64)}, ValueError, r"seed: expected one element, got .*\[2\]"),
    ({"seed": zeros(1, dtype=torch.int64, device="meta")}, ValueError, "seed: expected device"),
]
LENGTHS: list[tuple[Any, type[Exception], str]] = [
    (zeros(B), TypeError, "expected int32 or int64, got torch.float32"),
    (zeros(B, dtype=torch.int16), TypeError, "expected int32 or int64, got torch.int16"),
    (zeros(B, dtype=torch.bool), TypeError, "expected int32 or int64, got torch.bool"),
    (zeros(B + 1, dtype=torch.int64), ValueError, r"expected shape \[.\] = \[2\], got \[3\]"),
    (zeros(B, 1, dtype=torch.int64), ValueError, r"expected shape \[.\] = \[2\], got \[2, 1\]"),
    (zeros(B, dtype=torch.int64, device="meta"), ValueError, "expected device cpu"),
    (torch.tensor([3, -1]), ValueError, "expected 0 to .*, got -1"),
    (torch.tensor([21, 3]), ValueError, "expected 0 to .*, got 21"),
]
DECODE: list[tuple[Callable[..., Tensor], dict[str, Any], type[Exception], str]] = [
    (decode, {"q": None}, TypeError, "q: expected a tensor"),
    (decode, {"k_cache": None}, TypeError, "k_cache: expected a tensor"),
    (decode, {"q": zeros(B, H, 1, D)}, ValueError, r"q: expected shape \[N, H, D\]"),
    (decode, {"q": zeros(B, H, 0)}, ValueError, "q: .*no dimension of 0"),
    (decode, {"k_cache": zeros(B, H, 0, D)}, ValueError, "k_cache: .*no dimension of 0"),
    (decode, {"q": zeros(B + 1, H, D)}, ValueError, r"k_cache: expected shape \[3, 3, T_max, 16\]"),
    (decode, {"q": zeros(B, H, 2 * D)[..., ::2]}, ValueError, "q: .*stride 1"),
    (decode, {"q": zeros(B, H, D).half()}, TypeError, "k_cache: expected torch.float16"),
    (decode, {"v_cache": zeros(B, H, T + 1, D)}, ValueError, "v_cache: expected shape"),
    (decode, {"v_cache": STRIDED}, ValueError, "v_cache: .*stride 1"),
    (decode, {"k": zeros(B, H, D)}, ValueError, "v: expected a tensor as k is given"),
    (decode, {"v": zeros(B, H, D)}, ValueError, "k: expected a tensor as v is given"),
    (decode, {"lengths": 4.0}, TypeError, "lengths: expected a tensor or an int, got float"),
    (decode, {"lengths": True}, TypeError, "lengths: expected a tensor or an int, got bool"),
    (decode, {"lengths": -1}, ValueError, "lengths: expected 0 to T_max = 20, got -1"),
    (decode, {"lengths": 21}, ValueError, "lengths: expected 0 to T_max = 20, got 21"),
    (append, {"lengths": 20}, ValueError, "lengths: expected 0 to T_max - 1 = 19, got 20"),
    (append, {"lengths": torch.tensor([0, 20])}, ValueError, "lengths: .* = 19, got 20"),
    (append, {"k": zeros(B, H, D + 1)}, ValueError, r"k: expected shape \[2, 3, 16\]"),
    (append, {"v": zeros(B, H, D).double()}, TypeError, "v: expected torch.float32"),
    (append, {"v": zeros(B, H, 2 * D)[..., ::2]}, ValueError, "v: .*stride 1"),
    (append, {"k_cache": zeros(1, H, T, D).expand(B, -1, -1, -1)}, ValueError, "k_cache: .*own"),
    (append, {"v_cache": zeros(B, H, 1, D).expand(-1, -1, T, -1)}, ValueError, "v_cache: .*own"),
    (decode, {"scale": 0}, ValueError, "scale: .*got 0"),
    (decode, {"num_splits": 0}, ValueError, "num_splits: expected at least 1, got 0"),
    (decode, {"num_splits": 1.5}, TypeError, "num_splits: expected an int, got float"),
    (decode, {"num_splits": True}, TypeError, "num_splits: expected an int, got bool"),
    (decode, {"impl": "flash"}, ValueError, "impl: .*got 'flash'"),
    (decode, {"q": zeros(B, H, D).requires_grad_()}, ValueError, "q: expected no gradient"),
    (append, {"k": zeros(B, H, D).requires_grad_()}, ValueError, "k: expected no gradient"),
]


@pytest.mark.parametrize(("changes", "error", "message"), CAUSAL)
def test_causal_attention_names_the_argument(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        causal(**changes)


@pytest.mark.parametrize(("lengths", "error", "message"), LENGTHS)
def test_lengths_are_checked_by_both(lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="seqlens: " + message):
        causal(seqlens=lengths)
    with pytest.raises(error, match="lengths: " + message):
        decode(lengths=lengths)


@pytest.mark.parametrize(("function", "changes", "error", "message"), DECODE)
def test_decode_attention_names_the_argument(
    function: Callable[..., Tensor], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(**changes)


def test_one_tensor_cannot_be_both_caches_that_are_written() -> None:
    cache = torch.zeros(B, H, T, D)
    with pytest.raises(ValueError, match="v_cache: expected memory of its own"):
        append(k_cache=cache, v_cache=cache)
    decode(k_cache=cache, v_cache=cache)  # reading harms nobody


@pytest.mark.parametrize(
    "shape", [(2**31, 1, 1, D), (1, 2**16, 2**19, D), (1, 1, 2**31, D), (2**20, 2**10, 33, D)]
)
def test_sizes_beyond_the_range_of_indices_are_refused(shape: tuple[int, ...]) -> None:
    x = torch.zeros(D).expand(shape)
    with pytest.raises(ValueError, match=r"q: expected B \* H \* ceil"):
        causal_attention(x, x, x)


def test_caches_beyond_the_range_of_indices_are_refused() -> None:
    cache = torch.zeros(D).expand(1, 1, 2**31, D)
    with pytest.raises(ValueError, match=r"k_cache: expected N . H and T_max below 2\*\*31"):
        decode_attention(torch.zeros(1, 1, D), cache, cache, 0)
    cache = torch.zeros(D).expand(2**16, 2**15, 1, D)
    with pytest.raises(ValueError, match=r"k_cache: expected N . H and T_max below 2\*\*31"):
        decode_attention(cache[:, :, 0], cache, cache, 0)


def test_what_is_refused_leaves_the_caches_alone() -> None:
    k_cache, v_cache = torch.zeros(B, H, T, D), torch.zeros(B, H, T, D)
    ones = torch.ones(B, H, D)
    with pytest.raises(ValueError, match="lengths"):
        append(k_cache=k_cache, v_cache=v_cache, k=ones, v=ones, lengths=torch.tensor([0, 99]))
    assert not k_cache.any()
    assert not v_cache.any()


def test_the_bounds_themselves_are_accepted() -> None:
    causal(seqlens=torch.tensor([0, T]), dropout_p=0, scale=1)
    causal(dropout_p=0.999, seed=torch.tensor(3))
    decode(lengths=0)
    decode(lengths=T)
    append(lengths=T - 1)
    append(lengths=torch.tensor([0, T - 1], dtype=torch.int32))
