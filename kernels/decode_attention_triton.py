"""One new query per sequence against its key-value cache: attention while acting.

Each key and value is read once and used twice, so the memory's bandwidth is the bound. A program
streams a share of one head's cache through registers, a tile of BLOCK_T slots at a time:

```
slot 0                          length      T_max
|..|..|..|..|..|..|..|..|..|..|..|+  . . . . |      |..| a tile     + the new key and value
<--- split 0 --><- split 1 -><- split 2 ->          shares differ by at most one tile
```

Each row of the tile keeps a softmax of its own (a peak, a sum, weighted values) over the slots it
meets: rows r, r + BLOCK_T, … So no row waits for another inside the loop, and rows and splits are
brought together once, at the end, by the rule that brings together two parts of any softmax
(Milakov and Gimelshein 2018; over splits: Dao et al. 2023, Flash-Decoding). There are no atomic
operations: the same input gives the same bits.

Whether to split, and into how many, depends on shapes alone, never on the lengths, which stay on
the device: a captured CUDA graph stays right as the episodes grow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmaze.kernels.variants import Variant, variant


@dataclass(frozen=True, slots=True)
class DecodeTile:
    """How one program works."""

    block_t: int
    """Slots of the cache that are loaded at a time; a power of two."""
    num_warps: int
    """Warps of a program."""
    num_stages: int
    """1: tiles go straight to registers. More: through shared memory, one fewer under way."""


# By bytes per number, then D: four 16-byte loads of keys and four of values by each of 128 threads,
# 16 KiB a tile, with two tiles under way while one is worked on. Through shared memory, because the
# compiler would move loads to registers next to their first use, to save registers.
TILES = {
    size: {D: DecodeTile(8192 // (size * D), 4, 3) for D in (16, 32, 64, 128)} for size in (2, 4, 8)
}
# Programs that a multiprocessor holds at once, which together keep enough bytes in flight to cover
# the memory's latency: more splits than that only add to the merging.
PROGRAMS_PER_MULTIPROCESSOR = 4
CHOSEN_SPLITS = 128
MOST_SPLITS = 65535  # what a launch allows
# Merging is a second launch: a cache of fewer tiles is read in one go.
MIN_TILES_TO_SPLIT = 8
MERGE_WARPS = 8
LENGTH_TYPES = {"int32": "*i32", "int64": "*i64", "one": "i32"}


@triton.jit
def add_rows(peak, total, acc, s, weight, b_v):
    """Adds to each row's softmax a part: its score s (base 2), its sum, its weighted values b_v."""
    new_peak = tl.maximum(peak, s)
    # A row that has met nothing yet: -inf - -inf would be NaN.
    base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    decay = tl.exp2(peak - base)
    p = tl.exp2(s - base)
    return new_peak, total * decay + p * weight, acc * decay[:, None] + p[:, None] * b_v


@triton.jit
def join_rows(peak, total, acc):
    """Brings the rows' softmaxes together: their peak, their sum, their weighted values [D]."""
    top = tl.max(peak, 0)
    share = tl.exp2(peak - tl.where(top == float("-inf"), 0.0, top))
    return top, tl.sum(total * share, 0), tl.sum(acc * share[:, None], 0)


# The two numbers that may change from call to call: a kernel of their own for multiples of 16
# would gain nothing.
@triton.jit(do_not_specialize=["lengths", "T_max"])
def decode_splits(
    q, k_cache, v_cache, lengths, k, v, out, peaks, totals,
    scale2, T_max, H,
    q_sn, q_sh, kc_sn, kc_sh, kc_st, vc_sn, vc_sh, vc_st, k_sn, k_sh, v_sn, v_sh,
    D: tl.constexpr, BLOCK_T: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Attends to one split of one head's cache; the last split also appends the new token.

    `lengths` is a pointer or one int; k and v are None where nothing is appended; `scale2` is the
    scale times log2(e). With `peaks` and `totals` [N * H, splits], out is the unfinished
    [N * H, splits, D] for `merge_splits`, else the result [N, H, D].
    """
    i_nh = tl.program_id(0)
    i_split = tl.program_id(1)
    num_splits = tl.num_programs(1)
    i_n = (i_nh // H).to(tl.int64)
    i_h = (i_nh % H).to(tl.int64)
    o_d = tl.arange(0, D)
    o_row = tl.arange(0, BLOCK_T)
    ACC: tl.constexpr = tl.float64 if q.dtype.element_ty == tl.float64 else tl.float32
    APPEND: tl.constexpr = 0 if k is None else 1
    k_cache += i_n * kc_sn + i_h * kc_sh
    v_cache += i_n * vc_sn + i_h * vc_sh

    length = lengths
    if lengths.dtype.is_ptr():
        length = tl.load(lengths + i_n)
    length = length.to(tl.int64)
    valid = (length >= 0) & (length <= T_max - APPEND)
    length = tl.where(valid, length, 0).to(tl.int32)
    b_q = tl.load(q + i_n * q_sn + i_h * q_sh + o_d).to(ACC) * scale2

    peak = tl.full([BLOCK_T], float("-inf"), ACC)
    total = tl.zeros([BLOCK_T], ACC)
    acc = tl.zeros([BLOCK_T, D], ACC)
    if APPEND:  # noqa: SIM102 (known to the compiler; the next one is not)
        if i_split == num_splits - 1:
            b_k = tl.load(k + i_n * k_sn + i_h * k_sh + o_d)
            b_v = tl.load(v + i_n * v_sn + i_h * v_sh + o_d)
            tl.store(k_cache + length.to(tl.int64) * kc_st + o_d, b_k, mask=valid)
            tl.store(v_cache + length.to(tl.int64) * vc_st + o_d, b_v, mask=valid)
            # The new token is the first that row 0 meets; nobody reads its slot in this launch.
            first = o_row == 0
            peak = tl.where(first, tl.sum(b_q * b_k.to(ACC), 0), peak)
            total = tl.where(first, 1.0, total)
            acc = tl.where(first[:, None], b_v.to(ACC)[None, :], acc)

    tiles = tl.cdiv(length, BLOCK_T)
    each = tiles // num_splits
    left = tiles % num_splits  # the first `left` splits take one more
    start = (i_split * each + tl.minimum(i_split, left)) * BLOCK_T
    stop = start + tl.where(i_split < left, each + 1, each) * BLOCK_T
    stop = tl.minimum(stop, length)
    for t in tl.range(start, stop, BLOCK_T, num_stages=STAGES):
        o_t = (t + o_row).to(tl.int64)[:, None]
        m_t = t + o_row < stop
        b_k = tl.load(k_cache + o_t * kc_st + o_d, mask=m_t[:, None], other=0.0)  # [BLOCK_T, D]
        b_v = tl.load(v_cache + o_t * vc_st + o_d, mask=m_t[:, None], other=0.0)
        s = tl.where(m_t, tl.sum(b_q * b_k.to(ACC), 1), float("-inf"))  # [BLOCK_T]
        peak, total, acc = add_rows(peak, total, acc, s, 1.0, b_v.to(ACC))

    top, sum_, values = join_rows(peak, total, acc)
    # Without a key 0 / 1; with a length that is none 0 / NaN.
    empty = length + APPEND == 0
    top = tl.where(empty, 0.0, top)
    sum_ = tl.where(empty, 1.0, sum_)
    sum_ = tl.where(valid, sum_, float("nan"))
    if peaks is None:
        tl.store(out + i_nh.to(tl.int64) * D + o_d, (values / sum_).to(out.dtype.element_ty))
    else:
        i = i_nh.to(tl.int64) * num_splits + i_split
        tl.store(out + i * D + o_d, values)
        tl.store(peaks + i, top)
        tl.store(totals + i, sum_)


@triton.jit(do_not_specialize=["num_splits"])
def merge_splits(
    partial, peaks, totals, out, num_splits, D: tl.constexpr, BLOCK_S: tl.constexpr
):  # fmt: skip
    """Brings the splits of one head together: partial [N * H, splits, D] to out [N, H, D]."""
    i_nh = tl.program_id(0).to(tl.int64)
    o_d = tl.arange(0, D)
    o_row = tl.arange(0, BLOCK_S)
    ACC: tl.constexpr = partial.dtype.element_ty
    peak = tl.full([BLOCK_S], float("-inf"), ACC)
    total = tl.zeros([BLOCK_S], ACC)
    acc = tl.zeros([BLOCK_S, D], ACC)
    for i_split in tl.range(0, num_splits, BLOCK_S, num_stages=2):
        m_s = i_split + o_row < num_splits
        o_s = i_nh * num_splits + i_split + o_row
        s = tl.load(peaks + o_s, mask=m_s, other=float("-inf"))
        weight = tl.load(totals + o_s, mask=m_s, other=0.0)
        b_v = tl.load(partial + o_s[:, None] * D + o_d, mask=m_s[:, None], other=0.0)
        peak, total, acc = add_rows(peak, total, acc, s, weight, b_v)
    _, sum_, values = join_rows(peak, total, acc)
    tl.store(out + i_nh * D + o_d, (values / sum_).to(out.dtype.element_ty))


def decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor | int,
    k: Tensor | None,
    v: Tensor | None,
    scale: float,
    num_splits: int | None = None,
    tile: DecodeTile | None = None,
) -> Tensor:
    """Launches the kernels, for arguments that `fastmaze.kernels.decode_attention` has checked.

    Args:
        q: float [N, H, D], unit last stride as for every tensor here.
        k_cache: float [N, H, T_max, D] of q's dtype; gets `k` at position lengths[n].
        v_cache: float [N, H, T_max, D] of q's dtype; gets `v` at position lengths[n].
        lengths: contiguous int32 or int64 [N] on q's device, or one int: tokens held before.
        k: float [N, H, D] of q's dtype, or None together with `v`.
        v: float [N, H, D] of q's dtype.
        scale: factor of the scores.
        num_splits: shares of each cache, no more than it has tiles; None: by `choose_splits`.
        tile: how a program works; None: by `TILES`.

    Returns:
        float [N, H, D] of q's dtype, contiguous. A sequence without a key is 0, one whose length
        is out of range NaN.
    """
    N, H, D = q.shape
    T_max = k_cache.shape[2]
    if tile is None:
        tile = TILES[q.element_size()][D]
    if num_splits is None:
        num_splits = choose_splits(N * H, T_max, tile, multiprocessors(q.device))
    # A split without a tile would have nothing to do.
    num_splits = min(num_splits, -(-T_max // tile.block_t), MOST_SPLITS)
    out = torch.empty((N, H, D), dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    scale2 = scale * math.log2(math.e)
    partial, peaks, totals = out, None, None
    if num_splits > 1:
        sums = torch.float64 if q.dtype == torch.float64 else torch.float32
        partial = torch.empty((N * H, num_splits, D), dtype=sums, device=q.device)
        peaks, totals = torch.empty((2, N * H, num_splits), dtype=sums, device=q.device)
    k_strides = (0, 0) if k is None else k.stride()[:2]
    v_strides = (0, 0) if v is None else v.stride()[:2]
    with torch.cuda.device_of(q):
        decode_splits[N * H, num_splits](
            q, k_cache, v_cache, lengths, k, v, partial, peaks, totals, scale2, T_max, H,
            *q.stride()[:2], *k_cache.stride()[:3], *v_cache.stride()[:3], *k_strides, *v_strides,
            D=D, BLOCK_T=tile.block_t, STAGES=tile.num_stages, num_warps=tile.num_warps,
        )  # fmt: skip
        if num_splits > 1:
            merge_splits[(N * H,)](
                partial, peaks, totals, out, num_splits,
                D=D, BLOCK_S=_merge_rows(D), num_warps=MERGE_WARPS,
            )  # fmt: skip
    return out


def choose_splits(heads: int, T_max: int, tile: DecodeTile, multiprocessors: int) -> int:
    """Shares of each cache so that all programs run at once and fill the GPU.

    Args:
        heads: N * H, how many caches there are.
        T_max: slots of a cache.
        tile: how a program works.
        multiprocessors: of the GPU.
    """
    tiles = -(-T_max // tile.block_t)
    if tiles < MIN_TILES_TO_SPLIT or heads == 0:
        return 1
    wanted = multiprocessors * PROGRAMS_PER_MULTIPROCESSOR // heads
    return max(1, min(wanted, tiles, CHOSEN_SPLITS))


@lru_cache
def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 1 for a CPU, where only the interpreter runs these kernels."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _merge_rows(D: int) -> int:
    """Splits that `merge_splits` loads at once: 32 KiB."""
    return 8192 // D


def variants() -> Iterator[Variant]:
    """Every kernel that `decode` can launch on a GPU, by dtype, D, what it does and lengths."""
    for dtype, size in (("bf16", 2), ("fp16", 2), ("fp32", 4)):
        for D, tile in TILES[size].items():
            for append, split, lengths in product((False, True), (False, True), LENGTH_TYPES):
                words = ["decode", dtype, f"D{D}", *["append"] * append, *["split"] * split]
                types = dict.fromkeys(("q", "k_cache", "v_cache", "k", "v", "out"), f"*{dtype}")
                types |= {"lengths": LENGTH_TYPES[lengths], "scale2": "fp32"}
                constants: dict[str, Any] = {
                    "D": D, "BLOCK_T": tile.block_t, "STAGES": tile.num_stages
                }  # fmt: skip
                if not append:
                    constants |= {"k": None, "v": None}
                if split:
                    types |= dict.fromkeys(("out", "peaks", "totals"), "*fp32")
                else:
                    constants |= {"peaks": None, "totals": None}
                yield variant(
                    "-".join([*words, lengths]), decode_splits, types, constants,
                    aligned=tuple(n for n in decode_splits.arg_names if "_s" in n),
                    num_warps=tile.num_warps,
                )  # fmt: skip
            types = dict.fromkeys(("partial", "peaks", "totals"), "*fp32") | {"out": f"*{dtype}"}
            constants = {"D": D, "BLOCK_S": _merge_rows(D)}
            yield variant(
                f"decode-merge-{dtype}-D{D}", merge_splits, types, constants, num_warps=MERGE_WARPS
            )
