"""Which path a fused operation takes: its Triton kernel, or its twin in plain torch."""

from __future__ import annotations

import os
from typing import Final

import torch
from torch import Tensor

from fastmaze.kernels.dispatch import triton_missing

FUSED_IMPLS: Final = ("auto", "triton", "reference")
"""What `impl` may be: "auto" is Triton on a GPU where it is installed, plain torch elsewhere."""

FUSED_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
"""What the kernels compute with; the twins take float64 as well."""


def check_impl(impl: str) -> None:
    """Refuses an `impl` that there is not.

    Raises:
        ValueError: no such `impl`.
    """
    if impl not in FUSED_IMPLS:
        raise ValueError(f"impl: expected one of {FUSED_IMPLS}, got {impl!r}")


def takes_triton(x: Tensor, impl: str) -> bool:
    """Whether the Triton kernel is to run on x; if not, the twin is.

    Args:
        x: the operation's main input.
        impl: one of `FUSED_IMPLS`.

    Raises:
        ValueError: no such `impl`, or "triton" for tensors that are not on a GPU.
        TypeError: "triton" for a dtype that it does not have.
        ImportError: "triton" without a Triton that is new enough.
    """
    check_impl(impl)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if impl == "auto":
        return x.dtype in FUSED_DTYPES and _on_suitable_gpu(x) and not triton_missing()
    if impl == "reference":
        return False
    if x.dtype not in FUSED_DTYPES:
        raise TypeError(f"impl: 'triton' expected one of {FUSED_DTYPES}, got {x.dtype}")
    if missing := triton_missing():
        raise ImportError(missing)
    if not interpreted and not _on_suitable_gpu(x):
        raise ValueError(
            "impl: 'triton' expected tensors on an NVIDIA GPU of compute capability 8.0 or newer"
            " (or TRITON_INTERPRET=1 in the environment from the start, to test), got"
            f" {x.device}"
        )
    return True


def _on_suitable_gpu(x: Tensor) -> bool:
    if not x.is_cuda or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(x.device) >= (8, 0)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums of `dtype` are made in: float32, or float64 for itself."""
    return torch.float64 if dtype == torch.float64 else torch.float32
