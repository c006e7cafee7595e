"""Causal attention, forward: one program for a tile of queries of one head of one sequence.

```
            keys      col0 = row0
               |         |
          . . . . . . . .|x
 queries  . . . . . . . .|x x        first the tiles on the diagonal (x), masked;
 row0 --> . . . . . . . .|x x x      then the loop over all tiles left of it, unmasked;
          . . . . . . . .|x x x x    what lies above the diagonal is never visited
```

The diagonal goes first for two reasons: every row sees its own key, so the running maximum is
finite from the first tile on, and the compiler for Hopper keeps the matrix instructions of the long
loop in flight (in the other order it waits after each one). The softmax is the online one of
Milakov and Gimelshein (2018) as in FlashAttention-2 (Dao 2023), in base 2.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastmaze.kernels.dropout import keep_mask, mask_key

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
# Programs that run together share the keys and values of this many heads, which fit the L2 cache.
GROUP = tl.constexpr(8)
# Compiled once for all values: no second compilation in the middle of a run, or of the capture of a
# CUDA graph, because a length is 1 or a seed lies elsewhere.
GENERAL = ("B", "H", "T", "LSE_T", "threshold", "seqlens", "seed")


@triton.jit
def program_of(num_tiles, num_heads_in_all):
    """Tile and head of this program: in groups of heads, the longest tiles first.

    Returns:
        How many tiles are shorter or as short as this one (its rank, num_tiles - 1 for the longest
        row of tiles), and b * H + h.
    """
    i = tl.program_id(0)
    group = i // (GROUP * num_tiles)
    size = tl.minimum(num_heads_in_all - group * GROUP, GROUP)
    i = i - group * (GROUP * num_tiles)
    return num_tiles - 1 - i // size, group * GROUP + i % size


@triton.jit
def sequence_length(seqlens, i_b, T, HAS_SEQLENS: tl.constexpr):
    """Length of a sequence, and what rows past it hold: 0, or NaN if it is out of range."""
    length = T
    fill = 0.0
    if HAS_SEQLENS:
        given = tl.load(seqlens + i_b)
        valid = (given >= 0) & (given <= T)
        length = tl.where(valid, given, 0).to(tl.int32)
        fill = tl.where(valid, 0.0, float("nan"))
    return length, fill


@triton.jit
def forward_step(
    t_k, t_v, b_q, acc, total, peak, scale2, key, threshold, keep_scale, row0, col0,
    DIAGONAL: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Adds one tile of keys and values to the running softmax of a tile of queries."""
    o_m = tl.arange(0, BLOCK_M)[:, None]
    o_n = tl.arange(0, BLOCK_N)[None, :]
    b_k = t_k.load([col0, 0])  # [N, D]
    b_v = t_v.load([col0, 0])  # [N, D]
    s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=acc.dtype)  # [M, N]
    if DIAGONAL:
        s = tl.where(row0 + o_m >= col0 + o_n, s, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(s, 1) * scale2)
    p = tl.exp2(s * scale2 - new_peak[:, None])
    decay = tl.exp2(peak - new_peak)
    total = total * decay + tl.sum(p, 1)
    if DROPOUT:
        # A product, not a choice: chosen after rounding, pairs of 16-bit weights are taken apart.
        p = p * tl.where(keep_mask(key, row0, o_m, col0, o_n, threshold), keep_scale, 0.0)
    acc = tl.dot(
        p.to(b_v.dtype), b_v, acc * decay[:, None], input_precision=PRECISION, out_dtype=acc.dtype
    )
    return acc, total, new_peak


@triton.jit(do_not_specialize=GENERAL)
def causal_forward(
    q, k, v, out, lse, seqlens, seed,
    q_sb, q_sh, q_st, k_sb, k_sh, k_st, v_sb, v_sh, v_st, out_sb, out_sh, out_st,
    B, H, T, LSE_T, scale, threshold, keep_scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_SEQLENS: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Writes out [B, H, T, D] and lse [B, H, T], whose rows are LSE_T entries apart.

    `threshold` is the keep probability in units of 2**-16, `keep_scale` its inverse.
    """
    tl.static_assert(BLOCK_M % BLOCK_N == 0)
    i_m, i_bh = program_of(tl.cdiv(T, BLOCK_M), B * H)
    i_b = (i_bh // H).to(tl.int64)
    i_h = (i_bh % H).to(tl.int64)
    row0 = i_m * BLOCK_M
    o_m = tl.arange(0, BLOCK_M)
    length, fill = sequence_length(seqlens, i_b, T, HAS_SEQLENS)
    m_store = o_m < T - row0
    m_row = o_m < length - row0
    p_lse = lse + i_bh.to(tl.int64) * LSE_T + row0 + o_m
    ACC: tl.constexpr = lse.dtype.element_ty
    t_out = tl.make_tensor_descriptor(
        out + i_b * out_sb + i_h * out_sh, [T, D], [out_st, 1], [BLOCK_M, D]
    )
    if row0 >= length:
        nothing = tl.zeros([BLOCK_M, D], ACC) + fill
        t_out.store([row0, 0], nothing.to(out.dtype.element_ty))
        tl.store(p_lse, tl.full([BLOCK_M], float("-inf"), ACC) + fill, mask=m_store)
        return

    # Descriptors end at the sequence's length: what lies past it reads as 0, whatever it holds.
    t_q = tl.make_tensor_descriptor(
        q + i_b * q_sb + i_h * q_sh, [length, D], [q_st, 1], [BLOCK_M, D]
    )
    t_k = tl.make_tensor_descriptor(
        k + i_b * k_sb + i_h * k_sh, [length, D], [k_st, 1], [BLOCK_N, D]
    )
    t_v = tl.make_tensor_descriptor(
        v + i_b * v_sb + i_h * v_sh, [length, D], [v_st, 1], [BLOCK_N, D]
    )
    b_q = t_q.load([row0, 0])  # [M, D]
    key = i_bh.to(tl.uint32)
    if DROPOUT:
        key = mask_key(seed, i_bh)
    scale2 = scale * LOG2E
    peak = tl.full([BLOCK_M], float("-inf"), ACC)
    total = tl.zeros([BLOCK_M], ACC)
    acc = tl.zeros([BLOCK_M, D], ACC)
    for i in tl.static_range(BLOCK_M // BLOCK_N):
        acc, total, peak = forward_step(
            t_k, t_v, b_q, acc, total, peak, scale2, key, threshold, keep_scale,
            row0, row0 + i * BLOCK_N, True, DROPOUT, PRECISION, BLOCK_M, BLOCK_N,
        )  # fmt: skip
    for col0 in range(0, row0, BLOCK_N):
        acc, total, peak = forward_step(
            t_k, t_v, b_q, acc, total, peak, scale2, key, threshold, keep_scale,
            row0, col0, False, DROPOUT, PRECISION, BLOCK_M, BLOCK_N,
        )  # fmt: skip

    acc = tl.where(m_row[:, None], acc / total[:, None], 0.0)
    t_out.store([row0, 0], acc.to(out.dtype.element_ty))
    tl.store(p_lse, tl.where(m_row, (peak + tl.log2(total)) * LN2, float("-inf")), mask=m_store)
