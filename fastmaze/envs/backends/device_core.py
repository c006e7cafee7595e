"""A batch of T-Mazes as torch tensors on any device: csrc/tmaze.hpp once more, same bits.

`DeviceCore.step` is a fixed list of tensor operations whose shapes depend on nothing: it never asks
the device for a value, so it can be captured in a CUDA graph and replayed. What a call at the wrong
time would raise elsewhere is noted on the device instead, and told by `DeviceCore.check`.

Two forms of the step give the same bits: the one here, in plain torch, which is the specification,
and one Triton kernel (`device_triton`), which reads and writes each number once.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from fastmaze.envs.backends.base import Array, Mode
from fastmaze.envs.backends.device_philox import MASK, draw_goal_bit
from fastmaze.envs.backends.errors import NotReady
from fastmaze.envs.backends.state import FIELDS, rule_of, view_of
from fastmaze.envs.backends.validation import check_count
from fastmaze.reference.base import NEVER_RESET
from fastmaze.specs import NUM_ACTIONS, TMazeSpec

Impl = Literal["auto", "triton", "torch"]
"""What steps the mazes: one Triton kernel, plain torch, or the better of what runs here."""

ACTION_DTYPES: Final = (torch.int64, torch.int32, torch.int8, torch.uint8)
"""What an action tensor may be made of."""

BAD_ACTION, NOT_READY = 0, 1
"""Entries of `DeviceCore.faults`."""

_STAGGER: Final = 0x9E3779B9 - (1 << 32)
"""2**32 over the golden ratio, as `staggered_start` of the specification has it, less 2**32: the
same 32 low bits, and products that fit int64."""


class DeviceStatistics(NamedTuple):
    """The last finished episode of each env; an env that finished none yet holds zeros."""

    episode_return: Tensor
    """Sum of the rewards, float64 [N]."""
    length: Tensor
    """Steps, int64 [N]."""
    success: Tensor
    """Ended in the goal cell, bool [N]."""
    cue_seen: Tensor
    """Visited the oracle at any time, bool [N]."""


class DeviceCore:
    """`num_envs` copies of one task, N, whose every number is a tensor on one device.

    Args:
        spec: the task.
        num_envs: copies, N.
        mode: when a finished env is reset.
        device: "cpu", "cuda", …; None is the first GPU, or the CPU where there is none.
        impl: what steps them; all give the same bits.

    Attributes:
        obs: float32 [N, D], present observations; written by `reset` and `step`, as are these:
        reward: float32 [N].
        terminated: bool [N].
        truncated: bool [N], always False.
        final_obs: float32 [N, D], written where `terminated`, in mode SameStep; zeros elsewhere.
        faults: bool [2], what `check` reads: a bad action, a step at the wrong time.
    """

    def __init__(
        self,
        spec: TMazeSpec,
        num_envs: int,
        mode: Mode = "NextStep",
        device: str | torch.device | None = None,
        impl: Impl = "auto",
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode: expected one of {get_args(Mode)}, got {mode!r}")
        self.spec, self.mode = spec, mode
        self.num_envs = check_count("num_envs", num_envs)
        self.device = choose_device(device)
        self.impl = choose_impl(impl, self.device)
        self._kind = (view_of(spec), rule_of(spec))
        N, D = self.num_envs, spec.obs_dim

        def zeros(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(shape or (N,), dtype=dtype, device=self.device)

        # The fields of `state.FIELDS`; unsigned ones in int64, which holds a uint64's bits.
        self.key, self.index, self.episode = (zeros(torch.int64) for _ in range(3))
        self.start, self.x, self.t, self.flags = (zeros(torch.int32) for _ in range(4))
        self.penalties, self.distractions = zeros(torch.int32), zeros(torch.int32)
        # Of each env's last finished episode. Its return follows from the counts.
        self.last_penalties, self.last_distractions = zeros(torch.int32), zeros(torch.int32)
        self.last_length = zeros(torch.int32)
        self.last_success, self.last_cue_seen = zeros(torch.bool), zeros(torch.bool)

        self.obs, self.final_obs = zeros(torch.float32, N, D), zeros(torch.float32, N, D)
        self.reward, self.terminated = zeros(torch.float32), zeros(torch.bool)
        self.truncated, self.faults = zeros(torch.bool), zeros(torch.bool, 2)
        # Steps that go on pay entry penalised + 2 * lured, last ones entry 4 + won.
        running = (0.0, spec.penalty, spec.distract_reward, spec.penalty + spec.distract_reward)
        rewards = np.array([*running, 0.0, spec.goal_reward], np.float32)
        self.rewards = torch.from_numpy(rewards).to(self.device)
        self.clear()

    def clear(self) -> None:
        """Forgets all: every env is as it was before its first reset."""
        for name, _ in FIELDS:
            getattr(self, name).zero_()
        self.episode.fill_(NEVER_RESET)
        self.x.fill_(self.spec.oracle_length)
        self.t.fill_(self.spec.episode_length)
        self.flags.fill_(1 | (16 if self.spec.oracle_length == 0 else 0))

    def reset(
        self,
        mask: Tensor | None = None,
        goals: Tensor | None = None,
        stagger: bool = False,
        keys: Tensor | None = None,
        indices: Tensor | None = None,
        seed_mask: Tensor | None = None,
    ) -> None:
        """Starts the next episode of the masked envs, as `Backend.reset` says; writes `obs`.

        Args:
            mask: bool [N]; None for all.
            goals: int32 [N], -1, +1, or 0 for the draw; None for all draws.
            stagger: whether clocks start spread over the episode.
            keys: int64 [N], the bits of Philox keys, for new random streams.
            indices: int64 [N], 0 to 2**32 - 1, counter words, with `keys`.
            seed_mask: bool [N], of the envs to reset those with a new stream; None for all.
        """
        chosen = torch.ones_like(self.terminated) if mask is None else mask
        if keys is not None and indices is not None:
            seeded = chosen if seed_mask is None else chosen & seed_mask
            self.key.copy_(torch.where(seeded, keys, self.key))
            self.index.copy_(torch.where(seeded, indices, self.index))
            self.episode.masked_fill_(seeded, NEVER_RESET)  # the next episode is number 0
        self._begin(chosen, goals, stagger)
        self.observe()

    def step(self, actions: Tensor) -> None:
        """Steps every env once; writes `obs`, `reward`, `terminated` and, SameStep, `final_obs`.

        An action out of range moves nobody, and is noted in `faults`; so is a step of an env whose
        episode is over in mode Disabled.

        Args:
            actions: int64, int32, int8 or uint8 [N], each 0 to 3.
        """
        if self.impl == "triton":
            kernel = importlib.import_module("fastmaze.envs.backends.device_triton")
            kernel.step(self, actions, *self._kind)
            return
        bad = ((actions < 0) | (actions >= NUM_ACTIONS)).any()
        self.faults[BAD_ACTION].logical_or_(bad)
        over = self.t >= self.spec.episode_length
        if self.mode == "Disabled":
            self.faults[NOT_READY].logical_or_(over.any())
        self._move(actions)
        ended = self.terminated
        if self.mode == "NextStep":  # over before this step: the action is ignored
            ended.logical_and_(~over)
            self.reward.masked_fill_(over, 0.0)
        self._note(ended)
        if self.mode == "SameStep":
            self.observe()
            self.final_obs.copy_(torch.where(ended[:, None], self.obs, self.final_obs))
        if self.mode != "Disabled":
            self._begin(over if self.mode == "NextStep" else ended)
        self.observe()

    def _move(self, actions: Tensor) -> None:
        """Everybody's next state, reward and end, before anyone is reset."""
        spec, (_, rule) = self.spec, self._kind
        flags, old_x, old_y = self.flags, self.x, (self.flags & 3) - 1
        self.t.add_(1)
        dx = (actions == 0).int() - (actions == 2).int()
        dy = (actions == 1).int() - (actions == 3).int()
        # The corridor is the row y == 0, the arms the column x == junction.
        along, across = (old_x + dx).clamp(0, spec.junction), (old_y + dy).clamp(-1, 1)
        y = torch.where(old_x == spec.junction, across, old_y)
        self.x.copy_(torch.where(old_y == 0, along, old_x))

        done = self.t >= spec.episode_length
        if rule == 2:
            penalised = (actions != 0) & (self.t > spec.oracle_length)
        else:
            penalised = self.x < self.t - spec.oracle_length
        self.penalties.add_((penalised & ~done).int())
        running = penalised.int()
        if rule == 1:
            lured = self.x == 0
            self.distractions.add_((lured & ~done).int())
            running = running + 2 * lured.int()
        won = y == ((flags & 4) >> 1) - 1
        entry = torch.where(done, 4 + won.int(), running)
        self.reward.copy_(self.rewards.index_select(0, entry))
        self.terminated.copy_(done)

        # The first visit of the oracle shows the cue for one step.
        cue = flags >> 3
        seen = torch.where(self.x == 0, torch.where(cue == 0, 2, 1), cue.clamp(max=1))
        flags.copy_((y + 1) | (flags & 4) | (seen << 3))

    def _note(self, ended: Tensor) -> None:
        """Keeps what the ended episodes amount to."""
        flags = self.flags
        won = (flags & 3) - 1 == ((flags & 4) >> 1) - 1
        for last, now in (
            (self.last_penalties, self.penalties),
            (self.last_distractions, self.distractions),
            (self.last_length, self.t - self.start),
            (self.last_success, won),
            (self.last_cue_seen, flags >> 3 != 0),
        ):
            last.copy_(torch.where(ended, now, last))

    def _begin(self, mask: Tensor, goals: Tensor | None = None, stagger: bool = False) -> None:
        """Starts the next episode of the masked envs; a goal of 0 is drawn."""
        episode = (self.episode + 1) & MASK
        goal_bit = draw_goal_bit(self.key, self.index, episode)
        if goals is not None:
            goal_bit = torch.where(goals == 0, goal_bit, (goals > 0).long())
        seen = 2 if self.spec.oracle_length == 0 else 0
        flags = (1 | seen << 3) | (goal_bit.int() << 2)
        self.episode.copy_(torch.where(mask, episode, self.episode))
        self.flags.copy_(torch.where(mask, flags, self.flags))
        self.x.masked_fill_(mask, self.spec.oracle_length)
        for zero in (self.start, self.t, self.penalties, self.distractions):
            zero.masked_fill_(mask, 0)
        if stagger:
            clock = (((self.index * _STAGGER) & MASK) * self.spec.episode_length >> 32).int()
            for field in (self.start, self.t):
                field.copy_(torch.where(mask, clock, field))

    def observe(self) -> None:
        """Writes the present observations into `obs`."""
        flags, view = self.flags, self._kind[0]
        y, goal, cue = (flags & 3) - 1, ((flags & 4) >> 1) - 1, flags >> 3
        shown = torch.where(cue >= (1 if view == 2 else 2), goal, 0)
        if view == 0:
            at_junction = self.x == self.spec.junction
            entries = [at_junction, torch.where(at_junction, y, shown)]
        else:
            entries = [self.x, y, shown]
        if self.spec.add_timestep:
            entries.append(self.t)
        for d, entry in enumerate(entries):
            self.obs[:, d].copy_(entry)

    def statistics(self) -> DeviceStatistics:
        """The last finished episode of each env, in fresh tensors; does not wait for the device."""
        spec = self.spec
        # Two roundings and no fused multiply-add, as in every backend: one operation each.
        paid = self.last_penalties.double() * spec.penalty
        lured = self.last_distractions.double() * spec.distract_reward
        goal = torch.zeros_like(paid).masked_fill(self.last_success, spec.goal_reward)
        return DeviceStatistics(
            (paid + lured) + goal,
            self.last_length.long(),
            self.last_success.clone(),
            self.last_cue_seen.clone(),
        )

    def positions(self) -> Tensor:
        """True (x, y, t) and goal_y of each env, int32 [N, 4]; does not wait for the device."""
        flags = self.flags
        return torch.stack([self.x, (flags & 3) - 1, self.t, ((flags & 4) >> 1) - 1], dim=1)

    def check(self) -> None:
        """Waits for the device and tells what went wrong there since the last call.

        Raises:
            ValueError: an action was not 0, 1, 2 or 3.
            NotReady: (mode Disabled) an env was stepped after its episode's end.
        """
        bad_action, not_ready = self.faults.tolist()
        if not (bad_action or not_ready):
            return
        self.faults.zero_()
        if bad_action:
            raise ValueError("actions: expected every action to be 0, 1, 2 or 3")
        raise NotReady(
            "step: an env was stepped after its episode's end; with autoreset Disabled, reset it "
            "first"
        )

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of all tensors, for `restore`; does not wait for the device."""
        return {k: v.clone() for k, v in vars(self).items() if isinstance(v, Tensor)}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Everything as it was at `snapshot`, in place."""
        for name, kept in snapshot.items():
            getattr(self, name).copy_(kept)

    def dump(self) -> dict[str, Array]:
        """The fields of `state.FIELDS`, copies; waits for the device."""
        found = {}
        for name, dtype in FIELDS:
            values = getattr(self, name).cpu().numpy()
            found[name] = values.view(np.uint64) if name == "key" else values.astype(dtype)
        return found

    def load(self, arrays: dict[str, Array]) -> None:
        """Goes on from what `dump` returned, or `state.load_arrays`, here or elsewhere."""
        for name, _ in FIELDS:
            field: Tensor = getattr(self, name)
            values = arrays[name]
            wide = values.view(np.int64) if name == "key" else values.astype(np.int64)
            field.copy_(torch.from_numpy(wide))


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or for None the first GPU, or the CPU where there is none.

    Raises:
        TypeError: not a name.
        ValueError: torch knows no such device, or it is not here.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device: expected a name such as cpu or cuda, got {device!r}")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {device!r}")
    if chosen.type == "cpu":
        return chosen
    if not torch.cuda.is_available():
        raise ValueError(
            f"device: expected one that is here, got {str(chosen)!r}, but torch sees no GPU "
            f"(torch {torch.__version__}); device='cpu' works everywhere"
        )
    count = torch.cuda.device_count()
    number = torch.cuda.current_device() if chosen.index is None else chosen.index
    if number >= count:
        raise ValueError(f"device: expected one of {count} GPUs, got {str(chosen)!r}")
    return torch.device("cuda", number)


def choose_impl(impl: str, device: torch.device) -> str:
    """What steps the mazes on a device: "triton" or "torch".

    Raises:
        ValueError: no such way, or not on this device.
        ImportError: "triton" without Triton.
    """
    if impl not in get_args(Impl):
        raise ValueError(f"impl: expected one of {get_args(Impl)}, got {impl!r}")
    if impl == "torch":
        return impl
    there = importlib.util.find_spec("triton") is not None
    if impl == "auto":
        return "triton" if there and device.type == "cuda" else "torch"
    if not there:
        raise ImportError("impl='triton' needs triton, which is not here: pip install triton")
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "impl: 'triton' expected a GPU (or TRITON_INTERPRET=1 in the environment from the "
            f"start, to test), got device {device}"
        )
    return impl
