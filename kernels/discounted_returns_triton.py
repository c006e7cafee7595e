"""The backward recurrence of returns in Triton: one program a row, a scan in each block of steps.

```
 steps     0 1 2 3 | 4 5 6 7 | 8 9 · ·      blocks from the last to the first; the first return of
 order        3    <-    2   <-   1         a block enters the next one through its last step
```
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmaze.kernels.variants import Variant, variant

LARGEST_BLOCK = 2048
"""Steps that a program scans at a time, at most."""


@triton.jit
def _join(later_factor, later_sum, factor, base):
    """Two neighbouring maps G -> sum + factor · G as one; the later steps act first."""
    return later_factor * factor, later_sum * factor + base


@triton.jit
def returns_kernel(base, carried, returns, T, BLOCK: tl.constexpr):
    """Returns of one row of [B, T]."""
    start_of_row = tl.program_id(0).to(tl.int64) * T
    o_block = tl.arange(0, BLOCK)
    num_blocks = tl.cdiv(T, BLOCK)
    later = 0.0  # the return at the first step of the block after this one
    for i in range(num_blocks):
        o_step = (num_blocks - 1 - i) * BLOCK + o_block
        m = o_step < T
        b_base = tl.load(base + start_of_row + o_step, mask=m, other=0.0).to(tl.float32)
        b_factor = tl.load(carried + start_of_row + o_step, mask=m, other=0.0).to(tl.float32)
        m_last = (o_block == BLOCK - 1) & m
        b_base = tl.where(m_last, b_base + b_factor * later, b_base)
        _, b_returns = tl.associative_scan((b_factor, b_base), 0, _join, reverse=True)
        b_out = b_returns.to(returns.dtype.element_ty)
        tl.store(returns + start_of_row + o_step, b_out, mask=m)
        later = tl.sum(tl.where(o_block == 0, b_returns, 0.0))


def launch(base: Tensor, carried: Tensor) -> Tensor:
    """Returns [B, T] of contiguous base and carried, in one kernel."""
    B, T = base.shape
    returns = torch.empty_like(base)
    block = min(LARGEST_BLOCK, triton.next_power_of_2(T))
    with torch.cuda.device_of(base):
        returns_kernel[(B,)](base, carried, returns, T, BLOCK=block, num_warps=_num_warps(block))
    return returns


def variants() -> Iterator[Variant]:
    """The compilations that the update needs, for a compiler without a GPU."""
    for block in (64, LARGEST_BLOCK):
        yield variant(
            f"discounted_returns-fp32-{block}",
            returns_kernel,
            dict.fromkeys(("base", "carried", "returns"), "*fp32"),
            {"BLOCK": block},
            num_warps=_num_warps(block),
        )


def _num_warps(block: int) -> int:
    """Warps of 32 threads with up to 8 steps each."""
    return max(1, min(8, block // 256))
