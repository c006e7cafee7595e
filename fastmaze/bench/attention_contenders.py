"""What `fastmaze bench attention` runs: our attention, PyTorch's backends, FlexAttention, peers.

A contender is made for a case and is then a function of q, k, v `[B, H, T, D]` or, for decoding,
of a query and a cache. One that cannot run says why.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from fastmaze.bench.ceilings import PRECISIONS
from fastmaze.bench.contenders import Unavailable

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v [B, H, T, D] to the output [B, H, T, D]."""


class Cache(NamedTuple):
    """One decoding step of N sequences: T - 1 tokens are cached, and the T-th comes."""

    q: Tensor
    """[N, H, D]."""
    k: Tensor
    """[N, H, D], the new key."""
    v: Tensor
    """[N, H, D], the new value."""
    k_cache: Tensor
    """[N, H, T, D]."""
    v_cache: Tensor
    """[N, H, T, D]."""


Decode = Callable[[Cache], Tensor]
"""Appends and attends: [N, H, D]."""


@dataclass(frozen=True, slots=True)
class Case:
    """One problem that all contenders solve."""

    batch: int
    heads: int
    length: int
    head_dim: int
    precision: str
    """A name of `PRECISIONS`."""
    dropout: float
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """How q, k and v are stored."""
        return PRECISIONS[self.precision].dtype

    def flops(self, what: str) -> float:
        """Floating-point operations by the usual causal count.

        Two products of T × T × D, two operations each, half of them under the diagonal; the
        backward, with five products, 2.5 times as many.
        """
        forward = 4 * self.batch * self.heads * self.length**2 * self.head_dim / 2
        return {"forward": 1.0, "backward": 2.5, "both": 3.5}[what] * forward

    def decode_bytes(self) -> int:
        """Bytes of one decoding step: the cache read, one token written, query and output."""
        tokens = 2 * self.length + 2 + 2
        return self.batch * self.heads * tokens * self.head_dim * self.dtype.itemsize


class Contender(NamedTuple):
    """One row of the table."""

    name: str
    attend: Callable[[Case], Attend] | None = None
    decode: Callable[[Case], Decode] | None = None


def _need_gpu(case: Case) -> None:
    if case.device.type != "cuda":
        raise Unavailable("runs on GPUs only")


def _require(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"not installed: {install}") from error


def fastmaze(case: Case) -> Attend:
    """`fastmaze.kernels.causal_attention`, its own choice of implementation."""
    from fastmaze.kernels import causal_attention

    seed = torch.tensor([1], device=case.device) if case.dropout else None
    precision = PRECISIONS[case.precision].float32
    return lambda q, k, v: causal_attention(
        q, k, v, dropout_p=case.dropout, seed=seed, precision=precision
    )


def fastmaze_decode(case: Case) -> Decode:
    """`fastmaze.kernels.decode_attention`, its own choice of implementation."""
    from fastmaze.kernels import decode_attention

    held = torch.full((case.batch,), case.length - 1, dtype=torch.int32, device=case.device)
    return lambda c: decode_attention(c.q, c.k_cache, c.v_cache, held, k=c.k, v=c.v)


def blockwise(case: Case) -> Attend:
    """Our fallback in plain torch, which the log-sum-exp takes `fastmaze` to on a CPU."""
    if case.device.type != "cpu":
        raise Unavailable("is the fallback for CPUs")
    from fastmaze.kernels import causal_attention

    seed = torch.tensor([1]) if case.dropout else None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = causal_attention(q, k, v, dropout_p=case.dropout, seed=seed, return_lse=True)[
            0
        ]
        return out

    return attend


def sdpa(backend: SDPBackend) -> Callable[[Case], Attend]:
    """One backend of `scaled_dot_product_attention`."""

    def make(case: Case) -> Attend:
        _check_backend(backend, case)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(q, k, v, dropout_p=case.dropout, is_causal=True)

        return attend

    return make


def sdpa_decode(backend: SDPBackend) -> Callable[[Case], Decode]:
    """The same over a cache, after a copy of the new token into it."""

    def make(case: Case) -> Decode:
        if case.device.type != "cuda" and backend not in _ON_CPU:
            raise Unavailable("runs on GPUs only")

        def decode(c: Cache) -> Tensor:
            c.k_cache[:, :, -1], c.v_cache[:, :, -1] = c.k, c.v
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(c.q[:, :, None], c.k_cache, c.v_cache)[:, :, 0]

        return decode

    return make


_ON_CPU: Final = (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION)


def _check_backend(backend: SDPBackend, case: Case) -> None:
    """Refuses what cannot run, where torch would say so late or not at all."""
    if case.device.type != "cuda" and backend not in _ON_CPU:
        raise Unavailable("runs on GPUs only")
    if backend is SDPBackend.MATH:
        # Scores, weights, the mask of dropout, what the backward adds: about five T × T at once,
        # which the math backend computes in float32 where the inputs are narrower.
        wanted = 5 * 4 * case.batch * case.heads * case.length**2
        free = _free_bytes(case.device)
        if wanted > 0.9 * free:
            raise Unavailable(
                f"T × T matrices need about {wanted / 2**30:.0f} GiB, {free / 2**30:.0f} are free"
            )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    return 4 << 30  # Of a CPU's memory, no benchmark should take more.


def flex(case: Case) -> Attend:
    """FlexAttention, compiled for this case, with a causal block mask."""
    _need_gpu(case)
    if case.dropout:
        raise Unavailable("has no dropout")
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = create_block_mask(
        lambda b, h, i, j: i >= j, None, None, case.length, case.length, device=str(case.device)
    )
    # Each case anew: after a few shapes the compiler would give up and run it uncompiled.
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return lambda q, k, v: compiled(q, k, v, block_mask=mask)


def flash_attn_2(case: Case) -> Attend:
    """The package flash-attn."""
    _need_gpu(case)
    package = _require("flash_attn", "pip install flash-attn")

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, T, H, D]
        out: Tensor = package.flash_attn_func(q, k, v, dropout_p=case.dropout, causal=True)
        return out.transpose(1, 2)

    return attend


def flash_attn_2_decode(case: Case) -> Decode:
    """The package flash-attn, over a cache of its own layout."""
    _need_gpu(case)
    package = _require("flash_attn", "pip install flash-attn")
    held = torch.full((case.batch,), case.length - 1, dtype=torch.int32, device=case.device)

    def decode(c: Cache) -> Tensor:
        out: Tensor = package.flash_attn_with_kvcache(
            c.q[:, None],
            c.k_cache.transpose(1, 2),
            c.v_cache.transpose(1, 2),
            c.k[:, None],
            c.v[:, None],
            cache_seqlens=held,
            causal=True,
        )
        return out[:, 0]

    return decode


def flash_attn_3(case: Case) -> Attend:
    """The third version of flash-attn, for Hopper."""
    _need_gpu(case)
    if case.dropout:
        raise Unavailable("has no dropout")
    package = _require("flash_attn_interface", "built from flash-attention's repository, hopper/")

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [B, T, H, D]
        out = package.flash_attn_func(q, k, v, causal=True)
        out = out[0] if isinstance(out, tuple) else out
        return out.transpose(1, 2)  # type: ignore[no-any-return]

    return attend


OURS: Final = "fastmaze"
"""The contender that the others are compared with."""

CONTENDERS: Final = (
    Contender(OURS, fastmaze, fastmaze_decode),
    Contender("fastmaze blockwise", blockwise),
    Contender("sdpa math", sdpa(SDPBackend.MATH), sdpa_decode(SDPBackend.MATH)),
    Contender(
        "sdpa efficient",
        sdpa(SDPBackend.EFFICIENT_ATTENTION),
        sdpa_decode(SDPBackend.EFFICIENT_ATTENTION),
    ),
    Contender(
        "sdpa flash", sdpa(SDPBackend.FLASH_ATTENTION), sdpa_decode(SDPBackend.FLASH_ATTENTION)
    ),
    Contender(
        "sdpa cudnn", sdpa(SDPBackend.CUDNN_ATTENTION), sdpa_decode(SDPBackend.CUDNN_ATTENTION)
    ),
    Contender("flex", flex),
    Contender("flash-attn 2", flash_attn_2, flash_attn_2_decode),
    Contender("flash-attn 3", flash_attn_3),
)
"""All of them, ours first."""


class DropRate(NamedTuple):
    """What dropout really does."""

    rate: float
    """Share of the weights that are dropped."""
    scale: float
    """What the others are multiplied by; 1 / (1 - rate) keeps the mean."""
    weights: int
    """How many weights were looked at."""


def measure_drop_rate(attend: Attend, case: Case) -> DropRate:
    """Looks at the weights themselves.

    With q = k = 0 the weights of row i are 1 / (i + 1) each; with the first D values the unit
    vectors, column j of the output is weight j, 0 where it was dropped.

    Args:
        attend: a contender made for `case`.
        case: batch, heads, T > D, and the rest.
    """
    B, H, T, D = case.batch, case.heads, case.length, case.head_dim
    q, k = torch.zeros(2, B, H, T, D, dtype=case.dtype, device=case.device)
    v = torch.zeros(B, H, T, D, dtype=case.dtype, device=case.device)
    v[:, :, :D] = torch.eye(D, dtype=case.dtype, device=case.device)
    with torch.no_grad():
        out = attend(q, k, v)[:, :, D:].double()  # [B, H, T - D, D]: rows that see all D keys
    rows = torch.arange(D + 1, T + 1, device=case.device)[:, None]
    kept = out != 0
    scale = (out * rows)[kept].mean() if bool(kept.any()) else out.new_tensor(float("nan"))
    return DropRate(1 - kept.double().mean().item(), scale.item(), out.numel())
