"""A ring of whole episodes, as small as their values allow, on any device.

```
 rows of the ring   0  1  2  3  4  5  …  C - 1     the same in every process that trains along
 successful         .  x  .  .  x  .               known to all
 kept in slot       0  1  .  .  2  3               of this process; elsewhere where there is none
```

A batch is drawn as rows. One process keeps them all, in slots of the same number; of several, each
keeps those that its own environments played, and makes its part of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmaze.agents.batch import Batch
from fastmaze.specs import TaskSpec
from fastmaze.training.data_parallel import ALONE, Processes

State = dict[str, Tensor]

_EPISODE: Final = ("obs", "actions", "rewards")


class Replay:
    """Keeps the last `capacity` episodes of a task whose episodes all have T steps.

    Observations of whole numbers (a T-Maze's) are kept in the smallest of int8, int16 and int32
    that holds every value that the task can emit, others as they are (pixels: uint8), actions as
    uint8, rewards as float32. Batches have uint8 observations as they are, all others as float32.

    Args:
        spec: the task.
        capacity: C, episodes kept, by all processes together; the oldest are overwritten.
        device: where batches are made.
        storage: where episodes are kept; None for `device`.
        balance: share of a batch that is drawn from successful episodes, once there are any.
        num_envs: N, environments of all processes, which add their episodes together. One process
            may add any number.
        processes: which of how many this is.
    """

    def __init__(
        self,
        spec: TaskSpec,
        capacity: int,
        device: torch.device | str = "cpu",
        *,
        storage: torch.device | str | None = None,
        balance: float = 0.0,
        num_envs: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        self.capacity, self.balance, self._processes = capacity, balance, processes
        self.device = torch.device(device)
        self.storage = self.device if storage is None else torch.device(storage)
        slots = capacity
        if processes.several:
            # C rows in a row hold the episodes of C / N whole rounds, and of two cut by an end.
            slots = min(capacity, (capacity // num_envs + 2) * (num_envs // processes.size))
        shapes, dtypes = _shapes(spec, slots), _dtypes(spec)
        self.obs, self.actions, self.rewards = (  # [slots, T + 1, …], [slots, T], [slots, T]
            torch.empty(shapes[name], dtype=dtypes[name], device=self.storage) for name in _EPISODE
        )
        self.success = np.zeros(capacity, np.bool_)
        """Whether the episode in a row was successful."""
        self.size = 0
        """Rows in use."""
        self.next = 0
        """Row of the next episode."""
        self._slot = np.full(capacity, -1)  # of each row; -1 where another process has it
        self._free = np.arange(slots)
        T = spec.episode_length
        self._terminated = torch.zeros(T, dtype=torch.bool, device=self.device)
        self._terminated[-1] = True

    def add(
        self,
        obs: npt.NDArray[Any] | Tensor,
        actions: npt.NDArray[np.uint8] | Tensor,
        rewards: npt.NDArray[np.float32] | Tensor,
        success: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Keeps N episodes, or of several processes this one's share of them.

        Args:
            obs: [T + 1, n, *obs_shape], of the task's `obs_dtype`; on any device, as the next two.
            actions: uint8 [T, n].
            rewards: float32 [T, n].
            success: bool [N], of all processes' episodes; None if none was.
        """
        n = obs.shape[1]
        N = n * self._processes.size
        # Of more episodes than fit, the last ones are kept.
        first = max(0, N - self.capacity)
        rows = (self.next + np.arange(N - first)) % self.capacity
        mine = self._processes.share(N)
        own = np.arange(max(mine.start, first), mine.stop) - first  # of `rows`
        freed = self._slot[rows]
        free = np.concatenate([freed[freed >= 0], self._free])
        slots, self._free = free[: len(own)], free[len(own) :]
        self._slot[rows] = -1
        self._slot[rows[own]] = slots
        self.success[rows] = False if success is None else success[first:]
        self._write(slots, obs, actions, rewards)
        self.next = int((self.next + N - first) % self.capacity)
        self.size = min(self.size + N - first, self.capacity)

    def _write(self, slots: npt.NDArray[np.intp], *episodes: Any) -> None:
        """Writes the last of n episodes, time first, into so many slots."""
        if not len(slots):
            return
        index = torch.from_numpy(slots).to(self.storage)
        for name, values in zip(_EPISODE, episodes, strict=True):
            kept: Tensor = getattr(self, name)
            chosen = values[:, -len(slots) :].swapaxes(0, 1)  # [slots, T or T + 1, …]
            if isinstance(chosen, np.ndarray):
                chosen = torch.from_numpy(chosen.astype(str(kept.dtype).removeprefix("torch.")))
            # Made small where they are, then moved.
            kept.index_copy_(0, index, chosen.to(kept.dtype).to(self.storage))

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draws episodes with replacement, each as likely as any other of its kind.

        With `balance`, that share of the batch is drawn from successful episodes alone.

        Args:
            batch_size: episodes, over all processes.
            rng: in the same state in each of them.

        Returns:
            Of several processes, the episodes drawn that this one has; if there are none, one of
            zeros, all of it masked out.

        Raises:
            ValueError: nothing is kept yet.
        """
        if self.size == 0:
            raise ValueError("sample: expected a replay with episodes in it, got an empty one")
        slots = self._slot[self._draw(batch_size, rng)]
        slots = slots[slots >= 0]
        index = torch.from_numpy(slots).to(self.storage)
        obs, actions, rewards = (
            getattr(self, name).index_select(0, index).to(self.device) for name in _EPISODE
        )
        if not len(slots):
            obs, actions, rewards = (x.new_zeros(1, *x.shape[1:]) for x in (obs, actions, rewards))
        terminated = self._terminated.expand(len(obs), -1)
        return Batch(
            obs=obs if obs.dtype == torch.uint8 else obs.float(),
            actions=actions.long(),
            rewards=rewards,
            terminated=terminated,
            mask=torch.full_like(terminated, len(slots) > 0),
        )

    def _draw(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Rows of a batch."""
        rows = rng.integers(0, self.size, count)
        wanted = round(self.balance * count)
        if wanted:
            successes = np.flatnonzero(self.success[: self.size])
            if len(successes):
                rows[:wanted] = successes[rng.integers(0, len(successes), wanted)]
        return rows

    def get_state(self) -> State:
        """The episodes kept here, by row, and where the next one goes."""
        rows = np.flatnonzero(self._slot[: self.size] >= 0)
        slots = self._slot[rows]
        if np.array_equal(slots, np.arange(len(slots))):
            kept = {name: getattr(self, name)[: len(slots)] for name in _EPISODE}
        else:
            index = torch.from_numpy(slots).to(self.storage)
            kept = {name: getattr(self, name).index_select(0, index) for name in _EPISODE}
        return {
            **kept,
            "success": torch.from_numpy(self.success[: self.size]),
            "next": torch.tensor(self.next),
            "rows": torch.from_numpy(rows),
        }

    def set_state(self, state: State) -> None:
        """Goes on from what `get_state` returned or, of several processes, `joined_states`."""
        self.size, self.next = len(state["obs"]), int(state["next"])
        if self.size < self.capacity:  # also where a longer budget has made the ring larger
            self.next = self.size
        rows = np.arange(self.size)
        if self._processes.several:
            rows = np.flatnonzero(state["owner"].numpy() == self._processes.rank)
        slots = len(self.rewards)
        self._slot[:] = -1
        self._slot[rows] = np.arange(len(rows))
        self._free = np.arange(len(rows), slots)
        self.success[:] = False
        if "success" in state:  # version 0.1 did not keep it
            self.success[: self.size] = state["success"].numpy()
        for name in _EPISODE:
            kept: Tensor = getattr(self, name)
            kept[: len(rows)] = state[name][torch.from_numpy(rows)].to(kept)


def joined_states(states: Sequence[State]) -> State:
    """One state of every process's, in the order of their ranks: all episodes, and whose they are.

    One process's own is what it was, without its rows.
    """
    first = states[0]
    joined = {name: value for name, value in first.items() if name != "rows"}
    if len(states) == 1:
        return joined
    size = len(first["success"])
    owner = torch.empty(size, dtype=torch.int64)
    for rank, state in enumerate(states):
        owner[state["rows"]] = rank
    for name in _EPISODE:
        joined[name] = first[name].new_empty(size, *first[name].shape[1:])
        for state in states:
            joined[name][state["rows"]] = state[name]
    return {**joined, "owner": owner}


def replay_bytes(spec: TaskSpec, capacity: int) -> int:
    """Memory that `capacity` episodes of a task take."""
    shapes, dtypes = _shapes(spec, capacity), _dtypes(spec)
    return sum(dtypes[name].itemsize * math.prod(shapes[name]) for name in _EPISODE)


def smallest_integer(low: tuple[float, ...], high: tuple[float, ...]) -> torch.dtype:
    """The smallest signed integer type that holds every value from `low` to `high`."""
    for dtype in (torch.int8, torch.int16):
        bounds = torch.iinfo(dtype)
        if min(low) >= bounds.min and max(high) <= bounds.max:
            return dtype
    return torch.int32


def _obs_dtype(spec: TaskSpec) -> torch.dtype:
    if spec.obs_dtype != "float32" or not spec.whole_obs:
        return getattr(torch, spec.obs_dtype)  # type: ignore[no-any-return]
    return smallest_integer(*(tuple(np.atleast_1d(x)) for x in (spec.obs_low, spec.obs_high)))


def _dtypes(spec: TaskSpec) -> dict[str, torch.dtype]:
    return {
        "obs": _obs_dtype(spec),
        "actions": torch.uint8,
        "rewards": torch.float32,
    }


def _shapes(spec: TaskSpec, slots: int) -> dict[str, tuple[int, ...]]:
    T = spec.episode_length
    return {
        "obs": (slots, T + 1, *spec.obs_shape),
        "actions": (slots, T),
        "rewards": (slots, T),
    }
