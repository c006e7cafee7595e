"""What the attention functions accept: every check of their arguments, in one place.

A check of a tensor's values happens where it costs no waiting for a GPU, that is for tensors on
the CPU outside a compiled graph. All others look at shapes, dtypes, devices and strides alone, so
that they cost microseconds and a compiled graph sees nothing of them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS: Final = (torch.int32, torch.int64)
PRECISIONS: Final = (None, "ieee", "tf32")
_INDEX_LIMIT: Final = 2**31
_SCALES: Final = (1e-30, 1e30)
"""What is left of float32 once a scale has met a logarithm."""


def check_causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seqlens: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
    scale: float | None,
    precision: str | None,
) -> None:
    """Checks the arguments of `causal_attention`.

    Raises:
        TypeError: of a wrong type or dtype; the message names the argument.
        ValueError: of a wrong shape, device, stride or value; the message names the argument.
    """
    _check_floats("q", q, "[B, H, T, D]")
    _check_like("k", k, q, "q")
    _check_like("v", v, q, "q")
    B, H, T, _ = q.shape
    # Programs are numbered in 32 bits, at most one for 16 rows; positions and heads are too.
    if T >= _INDEX_LIMIT or B * H * -(-T // 16) >= _INDEX_LIMIT:
        raise ValueError(
            f"q: expected B * H * ceil(T / 16) and T below 2**31, got B={B}, H={H}, T={T}"
        )
    if seqlens is not None:
        _check_lengths("seqlens", seqlens, B, "B", q.device, T, "T")
    _check_probability("dropout_p", dropout_p)
    if seed is not None:
        _check_seed(seed, q.device)
    if scale is not None:
        _check_scale(scale)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")


def check_decode_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor | int,
    *,
    k: Tensor | None,
    v: Tensor | None,
    scale: float | None,
    num_splits: int | None,
) -> None:
    """Checks the arguments of `decode_attention`.

    Raises:
        TypeError: of a wrong type or dtype; the message names the argument.
        ValueError: of a wrong shape, device, stride or value; the message names the argument.
    """
    _check_floats("q", q, "[N, H, D]")
    _check_floats("k_cache", k_cache, "[N, H, T_max, D]")
    _check_like("v_cache", v_cache, k_cache, "k_cache")
    N, H, D = q.shape
    T_max = k_cache.shape[2]
    if k_cache.shape != (N, H, T_max, D):
        raise ValueError(
            f"k_cache: expected shape [{N}, {H}, T_max, {D}] to fit q, got {list(k_cache.shape)}"
        )
    _check_dtype_and_device("k_cache", k_cache, q, "q")
    if T_max >= _INDEX_LIMIT or N * H >= _INDEX_LIMIT:
        raise ValueError(
            f"k_cache: expected N * H and T_max below 2**31, got N={N}, H={H}, T_max={T_max}"
        )
    if (k is None) != (v is None):
        given, missing = ("v", "k") if k is None else ("k", "v")
        raise ValueError(f"{missing}: expected a tensor as {given} is given, got None")
    if k is not None and v is not None:
        _check_like("k", k, q, "q")
        _check_like("v", v, q, "q")
        _check_writable("k_cache", k_cache)
        _check_writable("v_cache", v_cache)
        if k_cache is v_cache:
            raise ValueError("v_cache: expected memory of its own, got k_cache itself")
    longest, bound = (T_max, "T_max") if k is None else (T_max - 1, "T_max - 1")
    if isinstance(lengths, Tensor):
        _check_lengths("lengths", lengths, N, "N", q.device, longest, bound)
    elif not isinstance(lengths, int) or isinstance(lengths, bool):
        raise TypeError(f"lengths: expected a tensor or an int, got {type(lengths).__name__}")
    elif not 0 <= lengths <= longest:
        raise ValueError(f"lengths: expected 0 to {bound} = {longest}, got {lengths}")
    if scale is not None:
        _check_scale(scale)
    if num_splits is not None:
        if not isinstance(num_splits, int) or isinstance(num_splits, bool):
            raise TypeError(f"num_splits: expected an int, got {type(num_splits).__name__}")
        if num_splits < 1:
            raise ValueError(f"num_splits: expected at least 1, got {num_splits}")
    if torch.is_grad_enabled():
        tensors = {"q": q, "k_cache": k_cache, "v_cache": v_cache, "k": k, "v": v}
        for name, x in tensors.items():
            if x is not None and x.requires_grad:
                raise ValueError(
                    f"{name}: expected no gradient, as decoding has none (torch.no_grad() turns"
                    f" them off), got requires_grad=True"
                )


def _check_tensor(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    if x.layout != torch.strided or x.is_nested:
        raise TypeError(f"{name}: expected a dense tensor, got one that is sparse or nested")


def _check_floats(name: str, x: Tensor, letters: str) -> None:
    """A float tensor of the dimensions that the letters name, none of them empty."""
    _check_tensor(name, x)
    if x.dtype not in FLOATS:
        raise TypeError(f"{name}: expected float16, bfloat16, float32 or float64, got {x.dtype}")
    if x.dim() != letters.count(",") + 1 or 0 in x.shape:
        raise ValueError(
            f"{name}: expected shape {letters} with no dimension of 0, got {list(x.shape)}"
        )
    _check_unit_stride(name, x)


def _check_like(name: str, x: Tensor, like: Tensor, like_name: str) -> None:
    _check_tensor(name, x)
    if x.shape != like.shape:
        raise ValueError(
            f"{name}: expected shape {list(like.shape)} as {like_name} has, got {list(x.shape)}"
        )
    _check_dtype_and_device(name, x, like, like_name)
    _check_unit_stride(name, x)


def _check_dtype_and_device(name: str, x: Tensor, like: Tensor, like_name: str) -> None:
    if x.dtype != like.dtype:
        raise TypeError(f"{name}: expected {like.dtype} as {like_name} has, got {x.dtype}")
    if x.device != like.device:
        raise ValueError(
            f"{name}: expected device {like.device} as {like_name} has, got {x.device}"
        )


def _check_unit_stride(name: str, x: Tensor) -> None:
    if x.shape[-1] > 1 and x.stride(-1) != 1:
        raise ValueError(
            f"{name}: expected a last dimension of stride 1 (.contiguous() makes one),"
            f" got strides {x.stride()}"
        )


def _check_writable(name: str, x: Tensor) -> None:
    if any(size > 1 and stride == 0 for size, stride in zip(x.shape, x.stride(), strict=True)):
        raise ValueError(
            f"{name}: expected memory of its own for each entry, as it is written to,"
            f" got an expanded tensor of strides {x.stride()}"
        )


def _check_lengths(
    name: str, x: Tensor, count: int, letter: str, device: torch.device, longest: int, bound: str
) -> None:
    """Lengths of `count` sequences, each 0 to `longest`, which is what `bound` says."""
    _check_tensor(name, x)
    if x.dtype not in INTEGERS:
        raise TypeError(f"{name}: expected int32 or int64, got {x.dtype}")
    if x.shape != (count,):
        raise ValueError(f"{name}: expected shape [{letter}] = [{count}], got {list(x.shape)}")
    if x.device != device:
        raise ValueError(f"{name}: expected device {device} as q has, got {x.device}")
    if device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (int(end) for end in torch.aminmax(x))
        if low < 0 or high > longest:
            raise ValueError(
                f"{name}: expected 0 to {bound} = {longest}, got {low if low < 0 else high}"
            )


def _check_probability(name: str, p: float) -> None:
    if not isinstance(p, int | float) or isinstance(p, bool):
        raise TypeError(f"{name}: expected a number, got {type(p).__name__}")
    if not 0 <= p < 1:
        raise ValueError(f"{name}: expected 0 <= {name} < 1, got {p}")


def _check_seed(seed: Tensor, device: torch.device) -> None:
    _check_tensor("seed", seed)
    if seed.dtype != torch.int64:
        raise TypeError(f"seed: expected int64, got {seed.dtype}")
    if seed.numel() != 1:
        raise ValueError(f"seed: expected one element, got shape {list(seed.shape)}")
    if seed.device != device:
        raise ValueError(f"seed: expected device {device} as q has, got {seed.device}")


def _check_scale(scale: float) -> None:
    if not isinstance(scale, int | float) or isinstance(scale, bool):
        raise TypeError(f"scale: expected a number, got {type(scale).__name__}")
    if not _SCALES[0] <= scale <= _SCALES[1]:
        raise ValueError(f"scale: expected a number from {_SCALES[0]} to {_SCALES[1]}, got {scale}")
