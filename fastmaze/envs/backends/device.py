"""The device backend: tensors behind the `Backend` contract, NumPy arrays at its border.

Every call copies its arrays to and from the device and waits for it; `fastmaze.make_device` gives
the tensors themselves, which is what a GPU is for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmaze.envs.backends.base import Array, EpisodeStatistics, Mode
from fastmaze.envs.backends.device_core import DeviceCore, Impl
from fastmaze.envs.backends.errors import Closed, NotReady
from fastmaze.envs.backends.exclusive import exclusive
from fastmaze.envs.backends.state import FIELDS, add_header, load_arrays
from fastmaze.envs.backends.validation import (
    check_actions,
    check_array,
    check_count,
    check_reset,
    check_step,
)
from fastmaze.reference.base import NEVER_RESET
from fastmaze.specs import TMazeSpec


class DeviceBackend:
    """A batch of T-Mazes as torch tensors (see `Backend` for the methods).

    Args:
        spec: the task.
        num_envs: copies, N.
        mode: when a finished env is reset.
        num_threads: accepted for the contract's sake; the device decides.
        device: "cpu" or "cuda"; None is the first GPU, or the CPU where there is none.
        impl: what steps them; see `DeviceCore`.

    Attributes:
        core: the tensors.
    """

    name = "device"

    def __init__(
        self,
        spec: TMazeSpec,
        num_envs: int,
        mode: Mode,
        num_threads: int = 1,
        device: str | torch.device | None = None,
        impl: Impl = "auto",
    ) -> None:
        check_count("num_threads", num_threads)
        self.core: DeviceCore | None = DeviceCore(spec, num_envs, mode, device, impl)
        self.spec, self.num_envs, self.mode = spec, self.core.num_envs, mode
        self.device = self.core.device
        self.statistics = EpisodeStatistics.of_none(num_envs)
        self._episode, self._t = self._clocks(self.core)
        self._busy = threading.Lock()

    def reset(
        self,
        obs: Array,
        mask: Array | None = None,
        goals: Array | None = None,
        stagger: bool = False,
        keys: Array | None = None,
        indices: Array | None = None,
        seed_mask: Array | None = None,
    ) -> None:
        """See `Backend.reset`."""
        with self._exclusive() as core:
            check_reset(self.num_envs, self.spec, obs, mask, goals, keys, indices, seed_mask)
            if mask is not None and np.any((self._episode == NEVER_RESET) & ~mask):
                raise NotReady("mask: an env that was never reset is not in the mask")
            core.reset(
                self._tensor(mask),
                self._tensor(goals, np.int32),
                bool(stagger),
                self._tensor(None if keys is None else keys.view(np.int64)),
                self._tensor(indices, np.int64),
                self._tensor(seed_mask),
            )
            self._episode, self._t = self._clocks(core)
            obs[...] = core.obs.cpu().numpy()

    def step(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> int:
        """See `Backend.step`."""
        with self._exclusive() as core:
            outputs = (obs, reward, terminated, truncated, final_obs)
            check_step((self.num_envs,), self.spec, actions, *outputs)
            check_actions(actions)
            self._check_ready(1)
            return self._step(core, actions, obs, reward, terminated, truncated, final_obs)

    def unroll(
        self,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None = None,
    ) -> None:
        """See `Backend.unroll`."""
        with self._exclusive() as core:
            steps = len(actions) if isinstance(actions, np.ndarray) and actions.ndim == 2 else 0
            outputs = (obs, reward, terminated, truncated, final_obs)
            check_step((steps, self.num_envs), self.spec, actions, *outputs)
            check_actions(actions)
            self._check_ready(steps)
            for s in range(steps):
                final = None if final_obs is None else final_obs[s]
                row = (obs[s], reward[s], terminated[s], truncated[s])
                self._step(core, actions[s], *row, final)

    def observe(self, obs: Array) -> None:
        """See `Backend.observe`."""
        with self._exclusive() as core:
            if np.any(self._episode == NEVER_RESET):
                raise NotReady("observe: call reset first")
            check_array("obs", obs, ("float32",), (self.num_envs, self.spec.obs_dim), written=True)
            obs[...] = core.obs.cpu().numpy()

    def get_state(self) -> npt.NDArray[np.uint8]:
        """See `Backend.get_state`."""
        with self._exclusive() as core:
            return pack_state(core)

    def set_state(self, state: Array) -> None:
        """See `Backend.set_state`."""
        with self._exclusive() as core:
            unpack_state(core, state)
            self._episode, self._t = self._clocks(core)

    def positions(self) -> npt.NDArray[np.int32]:
        """See `Backend.positions`."""
        with self._exclusive() as core:
            found: npt.NDArray[np.int32] = core.positions().cpu().numpy()
            return found

    def close(self) -> None:
        """See `Backend.close`."""
        with self._exclusive():
            self.core = None

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[DeviceCore]:
        """Holds the batch for one call; refuses a second thread, and any call after `close`."""
        with exclusive(self._busy):
            if self.core is None:
                raise Closed("the env is closed")
            yield self.core

    def _step(
        self,
        core: DeviceCore,
        actions: Array,
        obs: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array | None,
    ) -> int:
        """One step, on checked arguments."""
        core.step(torch.from_numpy(np.array(actions)).to(core.device))
        for array, tensor in (
            (obs, core.obs),
            (reward, core.reward),
            (terminated, core.terminated),
            (truncated, core.truncated),
        ):
            array[...] = tensor.cpu().numpy()
        ended = int(np.count_nonzero(terminated))
        if ended:
            for column, found in zip(self.statistics, core.statistics(), strict=True):
                column[...] = found.cpu().numpy()
            if final_obs is not None and self.mode == "SameStep":
                final_obs[terminated] = core.final_obs.cpu().numpy()[terminated]
        if self.mode == "Disabled":
            self._t += 1
        return ended

    def _check_ready(self, steps: int) -> None:
        never = int(np.count_nonzero(self._episode == NEVER_RESET))
        if never:
            raise NotReady(f"step: call reset first ({never} envs were never reset)")
        if self.mode != "Disabled":
            return
        left = self.spec.episode_length - int(self._t.max())
        if left < max(steps, 1):
            raise NotReady(
                f"step: with autoreset Disabled, expected at most {left} steps, until the first "
                f"episode is over, got {steps}; reset it first"
            )

    def _clocks(self, core: DeviceCore) -> tuple[Array, Array]:
        """What `_check_ready` needs to know, on the host: each env's episode and time."""
        return core.episode.cpu().numpy().copy(), core.t.cpu().numpy().copy()

    def _tensor(self, array: Array | None, dtype: npt.DTypeLike | None = None) -> Tensor | None:
        """A copy on the device."""
        if array is None:
            return None
        return torch.from_numpy(np.array(array, dtype)).to(self.device)


def pack_state(core: DeviceCore) -> npt.NDArray[np.uint8]:
    """The bytes that every backend's `get_state` gives; waits for the device."""
    arrays = core.dump()
    flat = np.concatenate([arrays[name].view(np.uint8) for name, _ in FIELDS])
    return add_header(flat, core.spec, core.num_envs, core.mode)


def unpack_state(core: DeviceCore, state: Array) -> None:
    """Goes on from the bytes of any backend, after checking them; writes the observations too."""
    core.load(load_arrays(state, core.spec, core.num_envs, core.mode))
    core.observe()
