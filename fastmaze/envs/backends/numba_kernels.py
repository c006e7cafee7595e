"""The T-Maze's loops for Numba: csrc/tmaze.hpp and tmaze_batch.cpp once more, same bits.

The kernels are made for one kind of task (what an observation shows, what a step pays), so that
those choices are constants and the loop over envs has no branch and becomes vector code. Three
habits matter to the vectoriser: every integer is an int32, 2-D arrays come in flat, and a loop runs
from 0 over slices (an index that might be negative would count from the end, which is a branch).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

I0, I1, I2, I3, I4 = (np.int32(i) for i in range(5))
_F0 = np.float32(0)

BAD_ACTION, BAD_MEMORY, BAD_SHAPE = -1, -2, -3
"""What a step returns, instead of the latest clock, when it refuses and changes nothing."""


class Kernels(NamedTuple):
    """The compiled loops for one kind of task, but the one that steps."""

    finish: Callable[..., int]
    observe: Callable[..., None]


@numba.njit(nogil=True, cache=True)
def narrow(actions: Any, narrowed: Any, begin: int, end: int) -> bool:
    """Copies actions to bytes; returns whether all of them were 0..3."""
    if begin == end:
        return True
    actions, narrowed = actions[begin:end], narrowed[begin:end]
    seen = actions[0] & 0
    for i in range(actions.size):
        seen |= actions[i]
        narrowed[i] = actions[i]
    return bool((seen & ~3) == 0)


@numba.njit(nogil=True, cache=True)
def clash(obs: Any, reward: Any, terminated: Any, truncated: Any, final_obs: Any) -> bool:
    """Whether two of the arrays share memory, or one lies at an odd address."""
    begins = (
        obs.ctypes.data, reward.ctypes.data, terminated.ctypes.data, truncated.ctypes.data,
        final_obs.ctypes.data,
    )  # fmt: skip
    sizes = (4 * obs.size, 4 * reward.size, terminated.size, truncated.size, 4 * final_obs.size)
    if (begins[0] | begins[1] | begins[4]) & 3:
        return True
    for i in range(5):
        for j in range(i):
            if begins[i] < begins[j] + sizes[j] and begins[j] < begins[i] + sizes[i]:
                return True
    return False


@numba.njit(nogil=True, cache=True)
def draw_goal(key: Any, index: Any, episode: Any) -> Any:
    """Philox-4x32-10 at (index, episode, 0, 0): -1 or +1 from bit 0 of word 0."""
    mask = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.uint64(index), np.uint64(episode), np.uint64(0), np.uint64(0)
    k0, k1 = key & mask, key >> np.uint64(32)
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * c0
        product1 = np.uint64(0xCD9E8D57) * c2
        c0 = (product1 >> np.uint64(32)) ^ c1 ^ k0
        c1 = product1 & mask
        c2 = (product0 >> np.uint64(32)) ^ c3 ^ k1
        c3 = product0 & mask
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return I1 if c0 & np.uint64(1) else np.int32(-1)


@numba.njit(nogil=True, cache=True)
def begin_episode(
    env: int,
    goal: Any,
    stagger: bool,
    oracle_length: Any,
    episode_length: Any,
    key: Any,
    index: Any,
    episode: Any,
    start: Any,
    x: Any,
    t: Any,
    flags: Any,
    penalties: Any,
    distractions: Any,
) -> None:
    """Starts the next episode of one env; a goal of 0 is drawn."""
    episode[env] += np.uint32(1)
    if goal == 0:
        goal = draw_goal(key[env], index[env], episode[env])
    clock = I0
    if stagger:
        fraction = (np.uint64(index[env]) * np.uint64(0x9E3779B9)) & np.uint64(0xFFFFFFFF)
        clock = np.int32((fraction * np.uint64(episode_length)) >> np.uint64(32))
    start[env] = clock
    t[env] = clock
    x[env] = oracle_length
    seen = I2 if oracle_length == 0 else I0
    flags[env] = I1 | (I4 if goal > 0 else I0) | (seen << I3)
    penalties[env] = I0
    distractions[env] = I0


@numba.njit(nogil=True, cache=True)
def write_observation(
    view: int, add_timestep: bool, junction: Any, x: Any, t: Any, flags: Any, obs: Any, at: int
) -> None:
    """Writes the 2 to 4 entries of one observation from obs[at] on; the first two are constants."""
    y = np.int32((flags & I3) - I1)
    goal = np.int32(((flags & I4) >> I1) - I1)
    cue = np.int32(flags >> I3)
    shown = goal if cue >= (I1 if view == 2 else I2) else I0
    if view == 0:
        at_junction = x == junction
        obs[at] = np.float32(np.int32(at_junction))
        obs[at + 1] = np.float32(y if at_junction else shown)
    else:
        obs[at] = np.float32(x)
        obs[at + 1] = np.float32(y)
        obs[at + 2] = np.float32(shown)
    if add_timestep:
        obs[at + (2 if view == 0 else 3)] = np.float32(t)


@functools.cache
def make_step(view: int, add_timestep: bool, rule: int, action: str) -> Callable[..., int]:
    """The loop over envs for one kind of task and one dtype of actions.

    `view` and `rule` number those of csrc/tmaze.hpp. The loop is compiled for one signature: arrays
    of any other dtype, read-only or not contiguous ones are a TypeError, so a step need not check
    them. It closes over plain numbers only: Numba cannot find on disk what closes over functions.

    Returns:
        A function that steps the envs [begin, end) and returns their latest clock, or BAD_SHAPE,
        BAD_MEMORY or BAD_ACTION, in which case nothing has changed.
    """
    by_action, distracting = rule == 2, rule == 1
    dim = (2 if view == 0 else 3) + add_timestep
    int32, float32, flag = numba.int32[::1], numba.float32[::1], numba.boolean[::1]
    signature = numba.int64(
        int32, float32, *[int32] * 5, numba.uint8[::1], getattr(numba, action)[::1],
        numba.float32[:, ::1], float32, flag, flag, numba.float32[:, ::1],
        numba.int64, numba.int64, numba.boolean,
    )  # fmt: skip

    @numba.njit([signature], nogil=True, cache=True)
    def step(
        numbers: Any,
        rewards: Any,
        xs: Any,
        ts: Any,
        all_flags: Any,
        penalties: Any,
        distractions: Any,
        narrowed: Any,
        actions: Any,
        obs: Any,
        reward: Any,
        terminated: Any,
        truncated: Any,
        final_obs: Any,
        begin: int,
        end: int,
        checked: bool,
    ) -> int:
        n = xs.size
        same = actions.size == n and reward.size == n and terminated.size == n
        if not (same and truncated.size == n and obs.shape == (n, dim)):
            return BAD_SHAPE
        if final_obs.size > 0 and final_obs.shape != (n, dim):
            return BAD_SHAPE
        flat = obs.reshape(-1)
        if not checked:
            if clash(flat, reward, terminated, truncated, final_obs):
                return BAD_MEMORY
            if not narrow(actions, narrowed, begin, end):
                return BAD_ACTION
        junction, oracle_length, episode_length = numbers[0], numbers[1], numbers[2]
        goal_reward = rewards[0]
        idle, late, lured, lured_late = rewards[1], rewards[2], rewards[3], rewards[4]
        xs, ts, all_flags = xs[begin:end], ts[begin:end], all_flags[begin:end]
        penalties, distractions = penalties[begin:end], distractions[begin:end]
        narrowed, flat, reward = (
            narrowed[begin:end],
            flat[begin * dim : end * dim],
            reward[begin:end],
        )
        terminated, truncated = terminated[begin:end], truncated[begin:end]
        last = I0
        for i in range(narrowed.size):
            action, x, flags = np.int32(narrowed[i]), xs[i], all_flags[i]
            t = np.int32(ts[i] + I1)
            y = np.int32((flags & I3) - I1)
            dx = np.int32(np.int32(action == I0) - np.int32(action == I2))
            dy = np.int32(np.int32(action == I1) - np.int32(action == I3))
            # The corridor is the row y == 0, the arms the column x == junction.
            along = min(max(np.int32(x + dx), I0), junction)
            across = min(max(np.int32(y + dy), np.int32(-1)), I1)
            y = across if x == junction else y
            x = along if (flags & I3) == I1 else x

            done = t >= episode_length
            goal = np.int32(((flags & I4) >> I1) - I1)
            if by_action:
                penalised = (action != I0) & (t > oracle_length)
            else:
                penalised = x < np.int32(t - oracle_length)
            running = late if penalised else idle
            penalties[i] = np.int32(penalties[i] + np.int32(penalised & (not done)))
            if distracting:
                distracted = x == I0
                running = (lured_late if penalised else lured) if distracted else running
                distractions[i] = np.int32(distractions[i] + np.int32(distracted & (not done)))
            at_goal = goal_reward if y == goal else _F0
            reward[i] = at_goal if done else running
            terminated[i] = done
            truncated[i] = False

            # The first visit of the oracle shows the cue for one step.
            cue = np.int32(flags >> I3)
            visiting = I2 if cue == I0 else I1
            seen = visiting if x == I0 else min(cue, I1)
            flags = np.int32(np.int32(y + I1) | (flags & I4) | np.int32(seen << I3))
            write_observation(view, add_timestep, junction, x, t, flags, flat, i * dim)
            xs[i] = x
            ts[i] = t
            all_flags[i] = flags
            last = max(last, t)
        return int(last)

    return step


@functools.cache
def make_kernels(view: int, add_timestep: bool) -> Kernels:
    """The seldom loops for one kind of task; see `make_step`."""
    dim = (2 if view == 0 else 3) + add_timestep

    @numba.njit(nogil=True, cache=True)
    def finish(
        numbers: Any,
        amounts: Any,
        same_step: bool,
        key: Any,
        index: Any,
        episode: Any,
        start: Any,
        x: Any,
        t: Any,
        flags: Any,
        penalties: Any,
        distractions: Any,
        obs: Any,
        reward: Any,
        terminated: Any,
        final_obs: Any,
        returns: Any,
        lengths: Any,
        success: Any,
        cue_seen: Any,
        begin: int,
        end: int,
    ) -> int:
        junction, oracle_length, episode_length = numbers[0], numbers[1], numbers[2]
        finished = 0
        for i in range(begin, end):
            if not terminated[i]:
                continue
            pending = t[i] > episode_length
            if pending:  # over before this step (mode NextStep): the action is ignored
                terminated[i] = False
                reward[i] = _F0
            else:
                finished += 1
                won = (flags[i] & I3) - I1 == ((flags[i] & I4) >> I1) - I1
                # Two roundings and no fused multiply-add, as in every backend.
                paid = penalties[i] * amounts[0]
                lured = distractions[i] * amounts[1]
                returns[i] = (paid + lured) + (amounts[2] if won else 0.0)
                lengths[i] = t[i] - start[i]
                success[i] = won
                cue_seen[i] = (flags[i] >> I3) != 0
            if same_step and final_obs.size > 0:
                for d in range(dim):
                    final_obs[i * dim + d] = obs[i * dim + d]
            if pending or same_step:
                begin_episode(
                    i, I0, False, oracle_length, episode_length, key, index, episode,
                    start, x, t, flags, penalties, distractions,
                )  # fmt: skip
                write_observation(view, add_timestep, junction, x[i], t[i], flags[i], obs, i * dim)
        return finished

    @numba.njit(nogil=True, cache=True)
    def observe(numbers: Any, x: Any, t: Any, flags: Any, obs: Any, begin: int, end: int) -> None:
        for i in range(begin, end):
            write_observation(view, add_timestep, numbers[0], x[i], t[i], flags[i], obs, i * dim)

    return Kernels(finish, observe)


@numba.njit(nogil=True, cache=True)
def reset(
    numbers: Any,
    mask: Any,
    goals: Any,
    stagger: bool,
    key: Any,
    index: Any,
    episode: Any,
    start: Any,
    x: Any,
    t: Any,
    flags: Any,
    penalties: Any,
    distractions: Any,
) -> None:
    """Starts the next episode of the masked envs, with these goals or, where 0, drawn ones."""
    for i in range(x.size):
        if not mask[i]:
            continue
        begin_episode(
            i, np.int32(goals[i]), stagger, numbers[1], numbers[2], key, index, episode,
            start, x, t, flags, penalties, distractions,
        )  # fmt: skip
