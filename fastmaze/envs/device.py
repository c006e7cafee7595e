"""A population of mazes as tensors: everything on one device, nothing waits for it.

```python
envs = fastmaze.make_device("PassiveTMaze", num_envs=65536, length=1000, device="cuda")
obs = envs.reset(seed=0)                                    # float32 [N, D], on the device
obs, reward, terminated, truncated = envs.step(actions)     # the same memory at every step
```

For Gymnasium's interface on NumPy arrays there is `make_vec(..., backend="device")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise ImportError(
        'envs on a device need torch, which is not here: pip install "fastmaze[train]"'
    ) from error

from fastmaze.envs.backends.base import Array, Mode
from fastmaze.envs.backends.device import pack_state, unpack_state
from fastmaze.envs.backends.device_core import ACTION_DTYPES, DeviceCore, DeviceStatistics, Impl
from fastmaze.envs.backends.errors import Closed, NotReady
from fastmaze.envs.seeding import (
    Streams,
    fill_streams,
    population_indices,
    population_streams,
    seed_streams,
)
from fastmaze.reference.base import NEVER_RESET
from fastmaze.specs import TMazeSpec, check_boolean, make_tmaze_spec


class TensorStep(NamedTuple):
    """What a step returns: the envs' own tensors, overwritten by the next step."""

    obs: Tensor
    """float32 [N, D]."""
    reward: Tensor
    """float32 [N]."""
    terminated: Tensor
    """bool [N]."""
    truncated: Tensor
    """bool [N], always False."""


def make_device(
    task: str,
    *,
    num_envs: int = 1,
    device: str | torch.device | None = None,
    env_offset: int = 0,
    autoreset_mode: Mode = "NextStep",
    stagger: bool = False,
    impl: Impl = "auto",
    **task_options: Any,
) -> DeviceTMaze:
    """Makes `num_envs` copies of a task whose state and observations are tensors on a device.

    Args:
        task: "PassiveTMaze", "ActiveTMaze" or "TMaze"; see `fastmaze.TASKS`.
        num_envs: N, number of copies.
        device: "cuda", "cuda:1", "cpu"; None is the first GPU, or the CPU where there is none.
        env_offset: global index of the first copy, for populations split over processes.
        autoreset_mode: when a finished copy starts its next episode; see `make_vec`.
        stagger: let the copies' clocks start spread over the episode.
        impl: "triton" (one kernel a step), "torch" (plain operations), or "auto", the better one
            that runs here; the same bits.
        **task_options: the task's own, e.g. `length=1000`.

    Raises:
        ValueError: an argument is out of range, or there is no such task or device.
        TypeError: an argument has the wrong type, or the task has no such option.
        ImportError: torch is missing, or Triton was asked for and is.
    """
    return DeviceTMaze(
        make_tmaze_spec("make_device", task, **task_options),
        num_envs=num_envs,
        device=device,
        env_offset=env_offset,
        autoreset_mode=autoreset_mode,
        stagger=stagger,
        impl=impl,
    )


class DeviceTMaze:
    """`num_envs` copies of one maze as tensors; `make_device` explains the arguments.

    The same seeds and actions give the same bits as every other backend. `step` never waits for the
    device and can be captured in a CUDA graph, so it cannot raise for the values of actions, nor
    (mode Disabled) for an episode that is over: `check` tells.

    Attributes:
        task_spec: what the task is.
        core: the tensors.
        device: where they are.
        stagger: whether clocks start spread over the episode.
    """

    def __init__(
        self,
        task_spec: TMazeSpec,
        *,
        num_envs: int = 1,
        device: str | torch.device | None = None,
        env_offset: int = 0,
        autoreset_mode: Mode = "NextStep",
        stagger: bool = False,
        impl: Impl = "auto",
    ) -> None:
        if not isinstance(task_spec, TMazeSpec):
            raise TypeError(
                "task_spec: expected a TMazeSpec (make_device takes the name of a task), "
                f"got {task_spec!r} ({type(task_spec).__name__})"
            )
        self.task_spec = task_spec
        self.core = DeviceCore(task_spec, num_envs, autoreset_mode, device, impl)
        self.num_envs, self.device = self.core.num_envs, self.core.device
        self._indices = population_indices(env_offset, self.num_envs)
        self.stagger = check_boolean("stagger", stagger)
        self._was_reset = self._closed = False
        core = self.core
        self._step = TensorStep(core.obs, core.reward, core.terminated, core.truncated)

    @property
    def obs(self) -> Tensor:
        """Present observations, float32 [N, D]; `reset` and `step` write here."""
        return self.core.obs

    @property
    def final_obs(self) -> Tensor:
        """Last observations of envs that just ended, float32 [N, D], in mode SameStep."""
        return self.core.final_obs

    @property
    def statistics(self) -> DeviceStatistics:
        """Each env's last finished episode, in fresh tensors on the device."""
        return self.core.statistics()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        mask: Tensor | None = None,
        goal_y: int | Sequence[int] | Array | Tensor | None = None,
    ) -> Tensor:
        """Starts the next episode of every env, or of those in a mask.

        Args:
            seed: as for `make_vec`'s envs: one for the population, or a list of one (or None) per
                env; None goes on (at the first reset: from a random seed).
            mask: bool [N] on the device, the envs to reset; None for all.
            goal_y: -1 or +1, for all or one per env, instead of draws; a tensor on a GPU is waited
                for, to check it.

        Returns:
            Present observations, float32 [N, D], which the next step overwrites.

        Raises:
            ValueError: a wrong shape, device or value.
            TypeError: a wrong type.
            NotReady: the first reset has a mask.
        """
        self._check_open()
        if mask is not None:
            self._check_tensor("mask", mask, (torch.bool,))
            if not self._was_reset:
                raise NotReady("reset: the first reset must reset every env; leave out mask")
        goals = None if goal_y is None else self._goals(goal_y)
        streams = seed_streams(seed, self._indices)
        if not self._was_reset and (streams is None or streams.mask is not None):
            drawn = int(np.random.default_rng().integers(2**64, dtype=np.uint64))
            streams = fill_streams(streams, population_streams(drawn, self._indices))
        stagger = self.stagger and mask is None
        self.core.reset(mask, goals, stagger, *self._on_device(streams))
        self._was_reset = True
        return self.core.obs

    def step(self, actions: Tensor) -> TensorStep:
        """Steps every env once, in place, without waiting for the device.

        Args:
            actions: int64, int32, int8 or uint8 [N] on the device, each 0 right, 1 up, 2 left or
                3 down. Any other moves nobody, and makes the next `check` raise.

        Returns:
            The envs' own tensors, which the next step overwrites.

        Raises:
            ValueError: a wrong shape or device.
            TypeError: a wrong dtype.
            NotReady: the envs were never reset.
        """
        if not self._was_reset:
            self._check_open()
            raise NotReady("step: call reset first")
        self._check_tensor("actions", actions, ACTION_DTYPES)
        self.core.step(actions)
        return self._step

    def renew(self) -> None:
        """Gives what resets and steps write new memory: tensors returned before keep their values.

        Not while a CUDA graph of `step` is in use, which goes on writing into the old memory.
        """
        core = self.core
        core.obs = torch.empty_like(core.obs)
        core.reward = torch.empty_like(core.reward)
        core.terminated = torch.empty_like(core.terminated)
        core.truncated = torch.zeros_like(core.truncated)
        self._step = TensorStep(core.obs, core.reward, core.terminated, core.truncated)

    def check(self) -> None:
        """Waits for the device, and raises if some step since the last check was wrong.

        Raises:
            ValueError: an action was not 0, 1, 2 or 3.
            NotReady: (mode Disabled) an env was stepped after its episode's end.
        """
        self.core.check()

    def get_state(self) -> npt.NDArray[np.uint8]:
        """All there is to know to go on bit for bit, the bytes of every backend: uint8 [bytes]."""
        self._check_open()
        return pack_state(self.core)

    def set_state(self, state: Array) -> None:
        """Goes on from `get_state`, of these or any backend's envs of this task, number and mode.

        Raises:
            ValueError: it is not such a state; nothing has changed.
        """
        self._check_open()
        unpack_state(self.core, state)
        self._was_reset = not bool((self.core.episode == NEVER_RESET).any())

    def positions(self) -> Tensor:
        """True (x, y, t) and goal_y of each env, int32 [N, 4]: for drawing and tests."""
        return self.core.positions()

    def close(self) -> None:
        """Every later reset and step raises; the memory goes with the last reference to it."""
        self._closed, self._was_reset = True, False

    def _on_device(self, streams: Streams | None) -> tuple[Tensor | None, ...]:
        """Keys, indices and mask as `DeviceCore.reset` takes them."""
        if streams is None:
            return None, None, None
        keys = torch.from_numpy(streams.keys.view(np.int64)).to(self.device)
        indices = torch.from_numpy(streams.indices.astype(np.int64)).to(self.device)
        seeded = None if streams.mask is None else torch.from_numpy(streams.mask).to(self.device)
        return keys, indices, seeded

    def _goals(self, goal_y: Any) -> Tensor:
        """Goals as int32 [N] on the device."""
        N = self.num_envs
        wanted = f"goal_y: expected -1 or +1, one int or one for each of {N} envs"
        goals = torch.as_tensor(goal_y)
        if goals.dtype == torch.bool or goals.is_floating_point() or goals.is_complex():
            raise TypeError(f"{wanted}, got dtype {goals.dtype}")
        if goals.shape not in ((), (N,)):
            raise ValueError(f"{wanted}, got shape {tuple(goals.shape)}")
        if not bool(((goals == 1) | (goals == -1)).all()):
            raise ValueError(f"{wanted}, got {goals[(goals != 1) & (goals != -1)][0].item()}")
        return goals.to(self.device, torch.int32).expand(N)

    def _check_tensor(self, name: str, x: Any, dtypes: tuple[torch.dtype, ...]) -> None:
        wanted = f"{name}: expected {' or '.join(map(str, dtypes))} [{self.num_envs}]"
        if not isinstance(x, Tensor):
            raise TypeError(f"{wanted} on {self.device}, got {type(x).__name__}")
        if x.dtype not in dtypes:
            raise TypeError(f"{wanted}, got {x.dtype}")
        if x.shape != (self.num_envs,):
            raise ValueError(f"{wanted}, got shape {tuple(x.shape)}")
        if x.device != self.device:
            raise ValueError(f"{wanted} on {self.device}, got one on {x.device}")

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the envs were closed; make new ones")
