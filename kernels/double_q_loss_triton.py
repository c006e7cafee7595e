"""The double-Q loss in Triton: a pass over the steps, a small sum, and a pass for the gradient.

Programs take blocks of steps in the order of memory: step n of B·T is step n % T of episode n // T.
Each leaves its four sums in a column of a table; one program adds the columns up, always in the
same order, so that equal inputs give equal bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmaze.kernels.variants import Variant, variant

ELEMENTS = 1024
"""Action values that a program holds: its steps times their actions."""
COLUMNS = 1024
"""Columns of the table of sums that are added at a time."""


@triton.jit
def forward_kernel(
    q,
    q_target,
    actions,
    rewards,
    terminated,
    mask,
    targets,
    error,
    sums,
    steps,
    T,
    discount,
    reward_scale,
    sqb,
    sqt,
    sqa,
    stb,
    stt,
    sta,
    A: tl.constexpr,
    A_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_TARGETS: tl.constexpr,
):
    """Errors of a block of steps, and its sums of squared error, prediction, target and steps."""
    i_block = tl.program_id(0)
    o_step = i_block * BLOCK + tl.arange(0, BLOCK)
    m_step = o_step < steps
    m_step = m_step & (tl.load(mask + o_step, mask=m_step, other=0) != 0)
    o_action = tl.arange(0, A_PADDED)
    m_action = o_action < A
    b, t = (o_step // T).to(tl.int64), (o_step % T).to(tl.int64)
    o_column = o_action.to(tl.int64)[None, :]

    b_action = tl.load(actions + o_step, mask=m_step, other=0)
    o_q = (b * sqb + t * sqt)[:, None] + o_column * sqa  # [BLOCK, A_PADDED]
    b_q = tl.load(q + o_q, mask=m_step[:, None] & m_action[None, :], other=0.0).to(tl.float32)
    predicted = tl.sum(tl.where(o_action[None, :] == b_action[:, None], b_q, 0.0), axis=1)
    # An action that there is not makes the loss NaN, instead of passing for one.
    predicted = tl.where((b_action >= 0) & (b_action < A), predicted, float("nan"))

    if HAS_TARGETS:
        y = tl.load(targets + o_step, mask=m_step, other=0.0).to(tl.float32)
    else:
        m_alive = m_step & (tl.load(terminated + o_step, mask=m_step, other=1) == 0)
        m_next = m_alive[:, None] & m_action[None, :]
        b_next = tl.load(q + o_q + sqt, mask=m_next, other=float("-inf")).to(tl.float32)
        # torch's argmax: the first NaN if there is one, else the first of the largest.
        is_nan = (b_next != b_next).to(tl.int32)
        largest = tl.max(tl.where(is_nan != 0, float("-inf"), b_next), axis=1)
        any_nan = tl.max(is_nan, axis=1)
        wanted = tl.where(any_nan[:, None] != 0, is_nan != 0, b_next == largest[:, None])
        best = tl.min(tl.where(wanted, o_action[None, :], A_PADDED), axis=1)
        o_t = (b * stb + (t + 1) * stt)[:, None] + o_column * sta
        m_best = m_next & (o_action[None, :] == best[:, None])
        value = tl.sum(tl.load(q_target + o_t, mask=m_best, other=0.0).to(tl.float32), axis=1)
        b_reward = tl.load(rewards + o_step, mask=m_step, other=0.0).to(tl.float32)
        y = b_reward * reward_scale + discount * value

    b_error = tl.where(m_step, predicted - y, 0.0)
    tl.store(error + o_step, b_error, mask=o_step < steps)
    num_blocks = tl.num_programs(0)
    tl.store(sums + i_block, tl.sum(b_error * b_error))
    tl.store(sums + num_blocks + i_block, tl.sum(tl.where(m_step, predicted, 0.0)))
    tl.store(sums + 2 * num_blocks + i_block, tl.sum(tl.where(m_step, y, 0.0)))
    tl.store(sums + 3 * num_blocks + i_block, tl.sum(m_step.to(tl.float32)))


@triton.jit
def mean_kernel(sums, loss, q_mean, target_mean, count, num_blocks, BLOCK: tl.constexpr):
    """Adds up the sums of all blocks, in one program, and divides by the number of steps."""
    o_column = tl.arange(0, BLOCK)
    b_square = tl.zeros([BLOCK], tl.float32)
    b_predicted = tl.zeros([BLOCK], tl.float32)
    b_target = tl.zeros([BLOCK], tl.float32)
    b_count = tl.zeros([BLOCK], tl.float32)
    for start in range(0, num_blocks, BLOCK):
        o = start + o_column
        m = o < num_blocks
        b_square += tl.load(sums + o, mask=m, other=0.0)
        b_predicted += tl.load(sums + num_blocks + o, mask=m, other=0.0)
        b_target += tl.load(sums + 2 * num_blocks + o, mask=m, other=0.0)
        b_count += tl.load(sums + 3 * num_blocks + o, mask=m, other=0.0)
    steps = tl.maximum(tl.sum(b_count), 1.0)
    tl.store(loss, tl.sum(b_square) / steps)
    tl.store(q_mean, tl.sum(b_predicted) / steps)
    tl.store(target_mean, tl.sum(b_target) / steps)
    tl.store(count, steps)


@triton.jit
def backward_kernel(
    grad,
    error,
    actions,
    count,
    dq,
    rows,
    T,
    A: tl.constexpr,
    A_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradient of a block of rows of [B·(T + 1), A]: 2·error / count at the action taken."""
    o_row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m_row = o_row < rows
    o_action = tl.arange(0, A_PADDED)
    b, t = o_row // (T + 1), o_row % (T + 1)
    m_step = m_row & (t < T)
    o_step = o_row - b  # one row more than steps in each episode
    b_error = tl.load(error + o_step, mask=m_step, other=0.0)
    b_action = tl.load(actions + o_step, mask=m_step, other=0)
    slope = b_error * (2.0 * tl.load(grad).to(tl.float32) / tl.load(count))  # [BLOCK]
    # The NaN of an action that there is not goes to the nearest that there is.
    taken = tl.minimum(tl.maximum(b_action, 0), A - 1)
    b_dq = tl.where(o_action[None, :] == taken[:, None], slope[:, None], 0.0)
    m = m_row[:, None] & (o_action < A)[None, :]
    o_q = o_row[:, None].to(tl.int64) * A + o_action[None, :]
    tl.store(dq + o_q, b_dq.to(dq.dtype.element_ty), mask=m)


def forward(
    q_all: Tensor,
    q_target: Tensor | None,
    actions: Tensor,
    rewards: Tensor | None,
    terminated: Tensor | None,
    mask: Tensor,
    targets: Tensor | None,
    discount: float,
    reward_scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Launches the two kernels: loss, q_mean, target_mean, errors [B, T] and number of steps."""
    B, T = actions.shape
    A = q_all.shape[2]
    A_padded, block = _tile(A)
    num_blocks = triton.cdiv(B * T, block)
    new: dict[str, Any] = {"dtype": torch.float32, "device": q_all.device}
    sums = torch.empty(4, num_blocks, **new)
    error = torch.empty(B, T, **new)
    loss, q_mean, target_mean, count = (torch.empty((), **new) for _ in range(4))
    with torch.cuda.device_of(q_all):
        forward_kernel[(num_blocks,)](
            q_all,
            q_target,
            actions.contiguous(),
            None if rewards is None else rewards.contiguous(),
            None if terminated is None else terminated.contiguous().view(torch.uint8),
            mask.contiguous().view(torch.uint8),
            None if targets is None else targets.contiguous(),
            error,
            sums,
            B * T,
            T,
            discount,
            reward_scale,
            *q_all.stride(),
            *((0, 0, 0) if q_target is None else q_target.stride()),
            A=A,
            A_PADDED=A_padded,
            BLOCK=block,
            HAS_TARGETS=targets is not None,
        )
        mean_kernel[(1,)](
            sums, loss, q_mean, target_mean, count, num_blocks, BLOCK=COLUMNS, num_warps=8
        )
    return loss, q_mean, target_mean, error, count


def backward(
    grad: Tensor,
    error: Tensor,
    actions: Tensor,
    count: Tensor,
    num_actions: int,
    dtype: torch.dtype,
) -> Tensor:
    """Launches the gradient's kernel: [B, T + 1, A] of `dtype`."""
    B, T = actions.shape
    A_padded, block = _tile(num_actions)
    rows = B * (T + 1)
    dq = torch.empty(B, T + 1, num_actions, dtype=dtype, device=error.device)
    with torch.cuda.device_of(error):
        backward_kernel[(triton.cdiv(rows, block),)](
            grad,
            error,
            actions.contiguous(),
            count,
            dq,
            rows,
            T,
            A=num_actions,
            A_PADDED=A_padded,
            BLOCK=block,
        )
    return dq


def variants() -> Iterator[Variant]:
    """The compilations that the update needs, for a compiler without a GPU."""
    types: dict[str, Any] = {
        "actions": "*i64",
        "mask": "*u8",
        "error": "*fp32",
        "sums": "*fp32",
        "discount": "fp32",
        "reward_scale": "fp32",
    }
    for A in (3, 4):
        A_padded, block = _tile(A)
        sizes = {"A": A, "A_PADDED": A_padded, "BLOCK": block}
        for q in ("fp32", "bf16"):
            inputs = {"q": f"*{q}", "q_target": f"*{q}", "rewards": "*fp32", "terminated": "*u8"}
            # The just-in-time path makes constants of numbers that are 1 and tensors that are None.
            one_step = {"targets": None, "HAS_TARGETS": False, "sqa": 1, "sta": 1}
            yield variant(
                f"double_q_loss-forward-{q}-A{A}",
                forward_kernel,
                types | inputs,
                sizes | one_step,
            )
            given = {"q_target": None, "rewards": None, "terminated": None, "HAS_TARGETS": True}
            yield variant(
                f"double_q_loss-forward-{q}-A{A}-targets",
                forward_kernel,
                types | {"q": f"*{q}", "targets": "*fp32"},
                sizes | given | {"sqa": 1},
            )
            yield variant(
                f"double_q_loss-backward-{q}-A{A}",
                backward_kernel,
                types | {"grad": "*fp32", "count": "*fp32", "dq": f"*{q}"},
                sizes,
            )
    outputs = dict.fromkeys(("loss", "q_mean", "target_mean", "count"), "*fp32")
    yield variant(
        "double_q_loss-mean", mean_kernel, types | outputs, {"BLOCK": COLUMNS}, num_warps=8
    )


def _tile(A: int) -> tuple[int, int]:
    """Actions padded to a power of two, and steps of a program."""
    A_padded = triton.next_power_of_2(A)
    return A_padded, max(1, ELEMENTS // A_padded)
