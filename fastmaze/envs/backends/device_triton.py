"""One step of `DeviceCore` as one Triton kernel: each number is read and written once.

The specification is `DeviceCore.step` in plain torch, bit for bit: all arithmetic here is that of
integers, and rewards come from a table. A program steps BLOCK envs; the seldom things, a new
episode's draw above all, are skipped where no env of the block needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmaze.envs.backends.state import MODES

if TYPE_CHECKING:
    from fastmaze.envs.backends.device_core import DeviceCore

BLOCK: Final = 512
NUM_WARPS: Final = 4

_M0 = tl.constexpr(0xD2511F53)
_M1 = tl.constexpr(0xCD9E8D57)
_W0 = tl.constexpr(0x9E3779B9)
_W1 = tl.constexpr(0xBB67AE85)


def step(core: DeviceCore, actions: Tensor, view: int, rule: int) -> None:
    """Steps every env once, as `DeviceCore.step` says."""
    spec = core.spec
    # A bool is a byte to the kernel.
    terminated, faults, success, cue_seen = (
        flags.view(torch.uint8)
        for flags in (core.terminated, core.faults, core.last_success, core.last_cue_seen)
    )
    with torch.cuda.device_of(core.t):
        step_envs[(-(-core.num_envs // BLOCK),)](
            actions.contiguous(), core.key, core.index, core.episode, core.start,
            core.x, core.t, core.flags, core.penalties, core.distractions,
            core.last_penalties, core.last_distractions, core.last_length, success, cue_seen,
            core.obs, core.final_obs, core.reward, terminated, faults, core.rewards,
            core.num_envs, spec.junction, spec.oracle_length, spec.episode_length,
            D=spec.obs_dim, VIEW=view, RULE=rule, MODE=MODES.index(core.mode),
            TIMESTEP=spec.add_timestep, BLOCK=BLOCK, num_warps=NUM_WARPS,
        )  # fmt: skip


@triton.jit
def goal_bit(key, index, episode, BLOCK: tl.constexpr):
    """Bit 0 of Philox-4x32-10's word 0 at (index, episode, 0, 0): int64 in, int32 out, [BLOCK]."""
    c0, c1 = index.to(tl.uint32), episode.to(tl.uint32)
    c2 = tl.zeros([BLOCK], tl.uint32)
    c3 = tl.zeros([BLOCK], tl.uint32)
    k0, k1 = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    m0, m1 = tl.full([BLOCK], _M0, tl.uint64), tl.full([BLOCK], _M1, tl.uint64)
    w0, w1 = tl.full([BLOCK], _W0, tl.uint32), tl.full([BLOCK], _W1, tl.uint32)
    for _ in tl.static_range(10):
        product0 = c0.to(tl.uint64) * m0
        product1 = c2.to(tl.uint64) * m1
        c0 = (product1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = product1.to(tl.uint32)
        c2 = (product0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = product0.to(tl.uint32)
        k0 += w0
        k1 += w1
    return c0.to(tl.int32) & 1


@triton.jit
def write_observation(
    obs, o_env, m, x, t, flags, junction,
    D: tl.constexpr, VIEW: tl.constexpr, TIMESTEP: tl.constexpr,
):  # fmt: skip
    """Writes the D entries of each masked env's observation."""
    y = (flags & 3) - 1
    goal = ((flags & 4) >> 1) - 1
    cue = flags >> 3
    row = obs + o_env * D
    shown = tl.where(cue >= (1 if VIEW == 2 else 2), goal, 0)
    if VIEW == 0:
        at_junction = x == junction
        tl.store(row, at_junction.to(tl.float32), mask=m)
        tl.store(row + 1, tl.where(at_junction, y, shown).to(tl.float32), mask=m)
    else:
        tl.store(row, x.to(tl.float32), mask=m)
        tl.store(row + 1, y.to(tl.float32), mask=m)
        tl.store(row + 2, shown.to(tl.float32), mask=m)
    if TIMESTEP:
        tl.store(row + (D - 1), t.to(tl.float32), mask=m)


# One compilation for all corridors; only N's divisibility is worth knowing, for wide loads.
@triton.jit(do_not_specialize=["junction", "oracle_length", "episode_length"])
def step_envs(
    actions, key, index, episode, start, p_x, p_t, p_flags, p_penalties, p_distractions,
    last_penalties, last_distractions, last_length, last_success, last_cue_seen,
    obs, final_obs, p_reward, terminated, faults, rewards,
    N, junction, oracle_length, episode_length,
    D: tl.constexpr, VIEW: tl.constexpr, RULE: tl.constexpr, MODE: tl.constexpr,
    TIMESTEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Steps BLOCK envs; VIEW and RULE as in `state`, MODE 0 NextStep, 1 SameStep, 2 Disabled."""
    o_env = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m = o_env < N
    action = tl.load(actions + o_env, mask=m, other=0)
    bad = (action < 0) | (action > 3)
    if tl.max(bad.to(tl.int32), 0) > 0:
        tl.store(faults, 1)
    # Lanes past the end stand still in an episode that goes on.
    t = tl.load(p_t + o_env, mask=m, other=-1)
    x = tl.load(p_x + o_env, mask=m, other=0)
    flags = tl.load(p_flags + o_env, mask=m, other=1)
    over = t >= episode_length
    if MODE == 2:  # noqa: SIM102 (known to the compiler; the next one is not)
        if tl.max(over.to(tl.int32), 0) > 0:
            tl.store(faults + 1, 1)

    t += 1
    y = (flags & 3) - 1
    goal = ((flags & 4) >> 1) - 1
    cue = flags >> 3
    dx = (action == 0).to(tl.int32) - (action == 2).to(tl.int32)
    dy = (action == 1).to(tl.int32) - (action == 3).to(tl.int32)
    # The corridor is the row y == 0, the arms the column x == junction.
    along = tl.minimum(tl.maximum(x + dx, 0), junction)
    across = tl.minimum(tl.maximum(y + dy, -1), 1)
    in_row = y == 0
    y = tl.where(x == junction, across, y)
    x = tl.where(in_row, along, x)

    done = t >= episode_length
    going = t < episode_length
    if RULE == 2:  # noqa: SIM108 (known to the compiler)
        penalised = (action != 0) & (t > oracle_length)
    else:
        penalised = x < t - oracle_length
    entry = penalised.to(tl.int32)
    penalties = tl.load(p_penalties + o_env, mask=m, other=0)
    penalties += (penalised & going).to(tl.int32)
    distractions = tl.load(p_distractions + o_env, mask=m, other=0)
    if RULE == 1:
        lured = x == 0
        distractions += (lured & going).to(tl.int32)
        entry += 2 * lured.to(tl.int32)
    won = y == goal
    entry = tl.where(done, 4 + won.to(tl.int32), entry)
    reward = tl.load(rewards + entry, mask=m, other=0.0)
    # The first visit of the oracle shows the cue for one step.
    seen = tl.where(x == 0, tl.where(cue == 0, 2, 1), tl.minimum(cue, 1))
    flags = (y + 1) | (flags & 4) | (seen << 3)

    ended = done
    if MODE == 0:  # over before this step: the action is ignored
        ended = done & (t == episode_length)
        reward = tl.where(over, 0.0, reward)
    tl.store(p_reward + o_env, reward, mask=m)
    tl.store(terminated + o_env, ended.to(tl.uint8), mask=m)

    m_ended = m & ended
    if tl.max(m_ended.to(tl.int32), 0) > 0:
        begun = tl.load(start + o_env, mask=m_ended, other=0)
        tl.store(last_penalties + o_env, penalties, mask=m_ended)
        tl.store(last_distractions + o_env, distractions, mask=m_ended)
        tl.store(last_length + o_env, t - begun, mask=m_ended)
        tl.store(last_success + o_env, won.to(tl.uint8), mask=m_ended)
        tl.store(last_cue_seen + o_env, (seen != 0).to(tl.uint8), mask=m_ended)
        if MODE == 1:
            write_observation(final_obs, o_env, m_ended, x, t, flags, junction, D, VIEW, TIMESTEP)

    if MODE != 2:
        again = m & (over if MODE == 0 else ended)
        if tl.max(again.to(tl.int32), 0) > 0:
            # Episode numbers have 32 bits.
            number = tl.load(episode + o_env, mask=again, other=0) + 1
            number = number.to(tl.uint32).to(tl.int64)
            streams = tl.load(key + o_env, mask=again, other=0)
            words = tl.load(index + o_env, mask=again, other=0)
            bit = goal_bit(streams, words, number, BLOCK)
            tl.store(episode + o_env, number, mask=again)
            tl.store(start + o_env, tl.zeros([BLOCK], tl.int32), mask=again)
            fresh = (tl.where(oracle_length == 0, 17, 1)) | (bit << 2)
            flags = tl.where(again, fresh, flags)
            x = tl.where(again, oracle_length, x)
            t = tl.where(again, 0, t)
            penalties = tl.where(again, 0, penalties)
            distractions = tl.where(again, 0, distractions)

    tl.store(p_x + o_env, x, mask=m)
    tl.store(p_t + o_env, t, mask=m)
    tl.store(p_flags + o_env, flags, mask=m)
    tl.store(p_penalties + o_env, penalties, mask=m)
    if RULE == 1 or MODE != 2:
        tl.store(p_distractions + o_env, distractions, mask=m)
    write_observation(obs, o_env, m, x, t, flags, junction, D, VIEW, TIMESTEP)
