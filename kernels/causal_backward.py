"""Causal attention, backward: two kernels without atomics, so the same input gives the same bits.

With S = scale·q·kᵀ, P = softmax(S) row by row, M the dropout mask times 1 / keep probability:

```
out = (P∘M)·v          dv = (P∘M)ᵀ·g            g: gradient of out
                       dP = M∘(g·vᵀ)
                       dS = P∘(dP − delta)      delta_i = Σ_j P_ij dP_ij = g_i · out_i
                       dq = scale·dS·k,  dk = scale·dSᵀ·q
```

P comes back from the stored log-sum-exp, M from its counters: nothing of size T x T is kept. The
first kernel walks like the forward one (diagonal, then left) and also writes delta; the second
holds a tile of keys and walks down the queries that see it, on transposed tiles, so that its sums
too stay where they are.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastmaze.kernels.causal_forward import GENERAL, LOG2E, program_of, sequence_length
from fastmaze.kernels.dropout import keep_mask, mask_key


@triton.jit
def dq_step(
    t_k, t_v, b_q, b_g, dq, lse2, delta, scale2, key, threshold, keep_scale, row0, col0,
    DIAGONAL: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Adds what one tile of keys and values gives to dq / scale of a tile of queries."""
    o_m = tl.arange(0, BLOCK_M)[:, None]
    o_n = tl.arange(0, BLOCK_N)[None, :]
    b_k = t_k.load([col0, 0])  # [N, D]
    b_v = t_v.load([col0, 0])  # [N, D]
    s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=dq.dtype)  # [M, N]
    dp = tl.dot(b_g, tl.trans(b_v), input_precision=PRECISION, out_dtype=dq.dtype)  # [M, N]
    p = tl.exp2(s * scale2 - lse2[:, None])
    if DIAGONAL:
        p = tl.where(row0 + o_m >= col0 + o_n, p, 0.0)
    if DROPOUT:
        dp = dp * tl.where(keep_mask(key, row0, o_m, col0, o_n, threshold), keep_scale, 0.0)
    ds = p * (dp - delta[:, None])
    return tl.dot(ds.to(b_k.dtype), b_k, dq, input_precision=PRECISION, out_dtype=dq.dtype)


@triton.jit(do_not_specialize=GENERAL)
def causal_backward_dq(
    q, k, v, grad, out, lse, delta, dq, seqlens, seed,
    q_sb, q_sh, q_st, k_sb, k_sh, k_st, v_sb, v_sh, v_st, grad_sb, grad_sh, grad_st,
    out_sb, out_sh, out_st, dq_sb, dq_sh, dq_st,
    B, H, T, LSE_T, scale, threshold, keep_scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_SEQLENS: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Writes dq [B, H, T, D] and delta, laid out like lse, the latter only within the lengths."""
    tl.static_assert(BLOCK_M % BLOCK_N == 0)
    i_m, i_bh = program_of(tl.cdiv(T, BLOCK_M), B * H)
    i_b = (i_bh // H).to(tl.int64)
    i_h = (i_bh % H).to(tl.int64)
    row0 = i_m * BLOCK_M
    o_m = tl.arange(0, BLOCK_M)
    length, fill = sequence_length(seqlens, i_b, T, HAS_SEQLENS)
    m_row = o_m < length - row0
    ACC: tl.constexpr = lse.dtype.element_ty
    t_dq = tl.make_tensor_descriptor(
        dq + i_b * dq_sb + i_h * dq_sh, [T, D], [dq_st, 1], [BLOCK_M, D]
    )
    if row0 >= length:
        nothing = tl.zeros([BLOCK_M, D], ACC) + fill
        t_dq.store([row0, 0], nothing.to(dq.dtype.element_ty))
        return

    t_q = tl.make_tensor_descriptor(
        q + i_b * q_sb + i_h * q_sh, [length, D], [q_st, 1], [BLOCK_M, D]
    )
    t_g = tl.make_tensor_descriptor(
        grad + i_b * grad_sb + i_h * grad_sh, [length, D], [grad_st, 1], [BLOCK_M, D]
    )
    t_out = tl.make_tensor_descriptor(
        out + i_b * out_sb + i_h * out_sh, [length, D], [out_st, 1], [BLOCK_M, D]
    )
    t_k = tl.make_tensor_descriptor(
        k + i_b * k_sb + i_h * k_sh, [length, D], [k_st, 1], [BLOCK_N, D]
    )
    t_v = tl.make_tensor_descriptor(
        v + i_b * v_sb + i_h * v_sh, [length, D], [v_st, 1], [BLOCK_N, D]
    )
    b_q = t_q.load([row0, 0])  # [M, D]
    b_g = t_g.load([row0, 0])  # [M, D]
    b_out = t_out.load([row0, 0])  # [M, D]
    o_row = i_bh.to(tl.int64) * LSE_T + row0 + o_m
    b_delta = tl.sum(b_g.to(ACC) * b_out.to(ACC), 1)  # [M]
    tl.store(delta + o_row, b_delta, mask=m_row)
    lse2 = tl.load(lse + o_row, mask=m_row, other=0.0) * LOG2E
    key = i_bh.to(tl.uint32)
    if DROPOUT:
        key = mask_key(seed, i_bh)
    scale2 = scale * LOG2E
    acc = tl.zeros([BLOCK_M, D], ACC)
    for i in tl.static_range(BLOCK_M // BLOCK_N):
        acc = dq_step(
            t_k, t_v, b_q, b_g, acc, lse2, b_delta, scale2, key, threshold, keep_scale,
            row0, row0 + i * BLOCK_N, True, DROPOUT, PRECISION, BLOCK_M, BLOCK_N,
        )  # fmt: skip
    for col0 in range(0, row0, BLOCK_N):
        acc = dq_step(
            t_k, t_v, b_q, b_g, acc, lse2, b_delta, scale2, key, threshold, keep_scale,
            row0, col0, False, DROPOUT, PRECISION, BLOCK_M, BLOCK_N,
        )  # fmt: skip
    # Rows past the length gathered 0, unless a key within it is infinite.
    acc = tl.where(m_row[:, None], acc * scale, 0.0)
    t_dq.store([row0, 0], acc.to(dq.dtype.element_ty))


@triton.jit
def dkv_step(
    t_q, t_g, t_lse, t_delta, b_k, b_v, dk, dv, scale2, key, threshold, keep_scale, row0, col0,
    DIAGONAL: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Adds what one tile of queries gives to dk / scale and dv of a tile of keys."""
    o_m = tl.arange(0, BLOCK_M)[None, :]
    o_n = tl.arange(0, BLOCK_N)[:, None]
    b_q = t_q.load([row0, 0])  # [M, D]
    b_g = t_g.load([row0, 0])  # [M, D]
    lse2 = t_lse.load([row0]) * LOG2E  # [M]
    delta = t_delta.load([row0])  # [M]
    # Queries past the length read as 0, their log-sum-exp too: p = 1, times a gradient of 0.
    s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION, out_dtype=dk.dtype)  # [N, M]
    p = tl.exp2(s * scale2 - lse2[None, :])
    if DIAGONAL:
        p = tl.where(row0 + o_m >= col0 + o_n, p, 0.0)
    dropped = p
    if DROPOUT:
        m = tl.where(keep_mask(key, row0, o_m, col0, o_n, threshold), keep_scale, 0.0)
        dropped = p * m
    dv = tl.dot(dropped.to(b_g.dtype), b_g, dv, input_precision=PRECISION, out_dtype=dk.dtype)
    dp = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION, out_dtype=dk.dtype)  # [N, M]
    if DROPOUT:
        dp = dp * m
    ds = p * (dp - delta[None, :])
    dk = tl.dot(ds.to(b_q.dtype), b_q, dk, input_precision=PRECISION, out_dtype=dk.dtype)
    return dk, dv


@triton.jit(do_not_specialize=GENERAL)
def causal_backward_dkv(
    q, k, v, grad, lse, delta, dk, dv, seqlens, seed,
    q_sb, q_sh, q_st, k_sb, k_sh, k_st, v_sb, v_sh, v_st, grad_sb, grad_sh, grad_st,
    dk_sb, dk_sh, dk_st, dv_sb, dv_sh, dv_st,
    B, H, T, LSE_T, scale, threshold, keep_scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_SEQLENS: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Writes dk and dv [B, H, T, D]; reads the delta that `causal_backward_dq` wrote."""
    tl.static_assert(BLOCK_N % BLOCK_M == 0)
    num_tiles = tl.cdiv(T, BLOCK_N)
    i_n, i_bh = program_of(num_tiles, B * H)
    i_n = num_tiles - 1 - i_n  # the first keys are seen by the most queries
    i_b = (i_bh // H).to(tl.int64)
    i_h = (i_bh % H).to(tl.int64)
    col0 = i_n * BLOCK_N
    length, fill = sequence_length(seqlens, i_b, T, HAS_SEQLENS)
    ACC: tl.constexpr = lse.dtype.element_ty
    t_dk = tl.make_tensor_descriptor(
        dk + i_b * dk_sb + i_h * dk_sh, [T, D], [dk_st, 1], [BLOCK_N, D]
    )
    t_dv = tl.make_tensor_descriptor(
        dv + i_b * dv_sb + i_h * dv_sh, [T, D], [dv_st, 1], [BLOCK_N, D]
    )
    if col0 >= length:
        nothing = (tl.zeros([BLOCK_N, D], ACC) + fill).to(dk.dtype.element_ty)
        t_dk.store([col0, 0], nothing)
        t_dv.store([col0, 0], nothing)
        return

    t_k = tl.make_tensor_descriptor(
        k + i_b * k_sb + i_h * k_sh, [length, D], [k_st, 1], [BLOCK_N, D]
    )
    t_v = tl.make_tensor_descriptor(
        v + i_b * v_sb + i_h * v_sh, [length, D], [v_st, 1], [BLOCK_N, D]
    )
    t_q = tl.make_tensor_descriptor(
        q + i_b * q_sb + i_h * q_sh, [length, D], [q_st, 1], [BLOCK_M, D]
    )
    t_g = tl.make_tensor_descriptor(
        grad + i_b * grad_sb + i_h * grad_sh, [length, D], [grad_st, 1], [BLOCK_M, D]
    )
    o_row = i_bh.to(tl.int64) * LSE_T
    t_lse = tl.make_tensor_descriptor(lse + o_row, [length], [1], [BLOCK_M])
    t_delta = tl.make_tensor_descriptor(delta + o_row, [length], [1], [BLOCK_M])
    b_k = t_k.load([col0, 0])  # [N, D]
    b_v = t_v.load([col0, 0])  # [N, D]
    key = i_bh.to(tl.uint32)
    if DROPOUT:
        key = mask_key(seed, i_bh)
    scale2 = scale * LOG2E
    b_dk = tl.zeros([BLOCK_N, D], ACC)
    b_dv = tl.zeros([BLOCK_N, D], ACC)
    for i in tl.static_range(BLOCK_N // BLOCK_M):
        b_dk, b_dv = dkv_step(
            t_q, t_g, t_lse, t_delta, b_k, b_v, b_dk, b_dv, scale2, key, threshold, keep_scale,
            col0 + i * BLOCK_M, col0, True, DROPOUT, PRECISION, BLOCK_M, BLOCK_N,
        )  # fmt: skip
    for row0 in range(col0 + BLOCK_N, length, BLOCK_M):
        b_dk, b_dv = dkv_step(
            t_q, t_g, t_lse, t_delta, b_k, b_v, b_dk, b_dv, scale2, key, threshold, keep_scale,
            row0, col0, False, DROPOUT, PRECISION, BLOCK_M, BLOCK_N,
        )  # fmt: skip
    # Keys past the length were given weight by no query but those past it.
    t_dv.store([col0, 0], b_dv.to(dv.dtype.element_ty))
    t_dk.store([col0, 0], (b_dk * scale).to(dk.dtype.element_ty))
