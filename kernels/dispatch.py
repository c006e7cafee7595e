"""Which implementation computes attention: what each can do, and what "auto" picks."""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Final, Literal

import torch
from torch import Tensor

Precision = Literal["ieee", "tf32"]
"""How products of float32 are made on a GPU: exactly, or from 10 bits after the point."""

AttentionImpl = Literal["auto", "triton", "sdpa", "reference"]
"""What may be asked for. "triton" is this package's kernels, "sdpa" torch's own attention,
"reference" the plain formula with matrices of T × T, "auto" the best of what can run."""

IMPLS: Final = ("auto", "triton", "sdpa", "reference")
TRITON_HEAD_DIMS: Final = (16, 32, 64, 128)
TRITON_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
OLDEST_TRITON: Final = (3, 6)


def resolve_impl(
    q: Tensor,
    *,
    impl: str = "auto",
    dropout_p: float = 0.0,
    return_lse: bool = False,
    precision: Precision | None = None,
) -> str:
    """What `causal_attention` runs with these arguments.

    "auto" leaves exact products of float32 to torch: no matrix unit makes them, and without one
    Triton's tiles do not fit the registers. Where tf32 will do, say so to torch
    (`torch.set_float32_matmul_precision("high")`) or with `precision`.

    Returns:
        "triton", "sdpa", "reference", or "blockwise": plain torch over blocks of query rows.

    Raises:
        ValueError: unknown `impl`, or one that cannot do what is asked.
        TypeError: "triton" for a dtype that it does not have.
        ImportError: "triton" without a Triton that is new enough.
    """
    _check_name(impl)
    if impl == "triton":
        _require_triton(q)
    if impl == "sdpa" and dropout_p > 0:
        raise ValueError(
            f"impl: 'sdpa' draws another dropout mask than the kernels here; expected dropout_p 0,"
            f" got {dropout_p}"
        )
    if impl == "sdpa" and return_lse:
        raise ValueError("impl: 'sdpa' gives no log-sum-exp; expected return_lse=False")
    if impl != "auto":
        return impl
    exact = q.dtype == torch.float32 and resolve_precision(precision) == "ieee"
    if not exact and _triton_suits(q):
        return "triton"
    # Of torch's own kernels for float64, a GPU has only the one that makes matrices of T x T.
    linear = q.device.type != "cuda" or q.dtype != torch.float64
    return "sdpa" if linear and dropout_p == 0 and not return_lse else "blockwise"


def resolve_precision(precision: Precision | None = None) -> Precision:
    """The precision asked for, or for None that which torch is set to."""
    return precision or _torch_precision()


def resolve_decode_impl(q: Tensor, *, impl: str = "auto") -> str:
    """What `decode_attention` runs for a query like q: "triton", "sdpa" or "reference".

    Raises:
        ValueError: unknown `impl`, or "triton" where it cannot run.
        TypeError: "triton" for a dtype that it does not have.
        ImportError: "triton" without a Triton that is new enough.
    """
    _check_name(impl)
    if impl == "triton":
        _require_triton(q)
    if impl != "auto":
        return impl
    return "triton" if _triton_suits(q) else "sdpa"


def triton_module(name: str) -> ModuleType:
    """A module of this package that needs Triton, imported when first used."""
    return importlib.import_module(f"fastmaze.kernels.{name}")


def triton_missing() -> str:
    """Why Triton's kernels cannot be imported, "" if they can."""
    try:
        import triton
    except ImportError:
        found = "it is not installed"
    else:
        if _version(triton.__version__) >= OLDEST_TRITON:
            return ""
        found = f"found {triton.__version__}"
    wanted = ".".join(map(str, OLDEST_TRITON))
    return (
        f"triton: expected version {wanted} or newer, {found}; it comes with PyTorch for CUDA, and"
        f" `pip install 'triton>={wanted}'` adds it elsewhere on Linux"
    )


def _check_name(impl: str) -> None:
    if impl not in IMPLS:
        raise ValueError(f"impl: expected one of {IMPLS}, got {impl!r}")


def _triton_suits(q: Tensor) -> bool:
    return (
        q.device.type == "cuda"
        and q.shape[-1] in TRITON_HEAD_DIMS
        and q.dtype in TRITON_DTYPES
        and not _obstacle("cuda", q.device.index)
    )


def _require_triton(q: Tensor) -> None:
    if q.shape[-1] not in TRITON_HEAD_DIMS:
        raise ValueError(
            f"q: expected a last dimension in {TRITON_HEAD_DIMS} with impl='triton',"
            f" got {q.shape[-1]}"
        )
    if q.dtype not in TRITON_DTYPES:
        raise TypeError(f"q: expected one of {TRITON_DTYPES} with impl='triton', got {q.dtype}")
    obstacle = _obstacle(q.device.type, q.device.index)
    if obstacle.startswith("triton:"):
        raise ImportError(obstacle)
    if obstacle:
        raise ValueError(obstacle)


def _obstacle(device_type: str, device_index: int | None) -> str:
    return _cached_obstacle(device_type, device_index)


def _torch_precision() -> Precision:
    # Newer versions of torch hold a precision per backend; where they do, the older question
    # fails once a program has used the newer setting.
    setting: str | None = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if setting is not None:
        return "tf32" if setting == "tf32" else "ieee"
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


# A compiled graph takes these answers as given: one cannot change while a program runs, and on a
# change of the other torch compiles again. As `torch.compiler.assume_constant_result` does, but
# without importing torch's compiler right now.
_obstacle.__dict__["_dynamo_marked_constant"] = True
_torch_precision.__dict__["_dynamo_marked_constant"] = True


@functools.cache
def _cached_obstacle(device_type: str, device_index: int | None) -> str:
    """Why Triton's kernels cannot run on a device, "" if they can."""
    if missing := triton_missing():
        return missing
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if device_type != "cuda":
        return (
            f"impl: 'triton' expected CUDA tensors (or TRITON_INTERPRET=1 in the environment from"
            f" the start, to test), got {device_type}"
        )
    if torch.version.hip is not None or torch.cuda.get_device_capability(device_index) < (8, 0):
        return "impl: 'triton' expected an NVIDIA GPU of compute capability 8.0 or newer"
    return ""


def _version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in text.split(".")[:2])
