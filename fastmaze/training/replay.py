"""A ring of whole episodes, as small as their values allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastmaze.agents.ddqn import Batch
from fastmaze.specs import TMazeSpec


class Replay:
    """Keeps the last `capacity` episodes of a task whose episodes all have T steps.

    Observations are kept in the smallest of int8, int16 and int32 that holds every value that the
    task can emit (a T-Maze emits whole numbers), actions as uint8, rewards as float32.

    Args:
        spec: the task.
        capacity: episodes kept; the oldest are overwritten.
        device: where batches are made.
    """

    def __init__(self, spec: TMazeSpec, capacity: int, device: torch.device | str = "cpu") -> None:
        T = spec.episode_length
        self.capacity, self.device = capacity, device
        obs_dtype = smallest_integer(spec.obs_low, spec.obs_high)
        shapes = _shapes(spec, capacity)
        try:
            self.obs = np.empty(shapes["obs"], obs_dtype)  # [C, T + 1, D]
            self.actions = np.empty(shapes["actions"], np.uint8)  # [C, T]
            self.rewards = np.empty(shapes["rewards"], np.float32)  # [C, T]
        except MemoryError as error:
            size = replay_bytes(spec, capacity) / 2**30
            raise MemoryError(
                f"replay_steps: {capacity} episodes of {T} steps need {size:.1f} GiB"
            ) from error
        self.size = 0
        """Episodes kept."""
        self.next = 0
        """Where the next episode goes."""
        self._terminated = torch.zeros(T, dtype=torch.bool, device=device)
        self._terminated[-1] = True

    def add(
        self,
        obs: npt.NDArray[np.float32],
        actions: npt.NDArray[np.uint8],
        rewards: npt.NDArray[np.float32],
    ) -> None:
        """Keeps N episodes.

        Args:
            obs: float32 [T + 1, N, D], whole numbers.
            actions: uint8 [T, N].
            rewards: float32 [T, N].
        """
        # Of more episodes than fit, the last ones are kept.
        N = min(obs.shape[1], self.capacity)
        where = (self.next + np.arange(N)) % self.capacity
        self.obs[where] = obs[:, -N:].swapaxes(0, 1)
        self.actions[where] = actions[:, -N:].T
        self.rewards[where] = rewards[:, -N:].T
        self.next = int((self.next + N) % self.capacity)
        self.size = min(self.size + N, self.capacity)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Draws episodes with replacement, each as likely as any other.

        Raises:
            ValueError: nothing is kept yet.
        """
        if self.size == 0:
            raise ValueError("sample: expected a replay with episodes in it, got an empty one")
        rows = rng.integers(0, self.size, batch_size)
        terminated = self._terminated.expand(batch_size, -1)
        return Batch(
            obs=torch.from_numpy(self.obs[rows]).to(self.device).float(),
            actions=torch.from_numpy(self.actions[rows]).to(self.device).long(),
            rewards=torch.from_numpy(self.rewards[rows]).to(self.device),
            terminated=terminated,
            mask=torch.ones_like(terminated),
        )

    def get_state(self) -> dict[str, npt.NDArray[Any]]:
        """The episodes kept, and where the next one goes."""
        kept = slice(0, self.size)
        return {
            "obs": self.obs[kept],
            "actions": self.actions[kept],
            "rewards": self.rewards[kept],
            "next": np.array(self.next),
        }

    def set_state(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Goes on from what `get_state` returned."""
        self.size, self.next = len(state["obs"]), int(state["next"])
        if self.size < self.capacity:  # also where a longer budget has made the ring larger
            self.next = self.size
        for name in ("obs", "actions", "rewards"):
            getattr(self, name)[: self.size] = state[name]


def replay_bytes(spec: TMazeSpec, capacity: int) -> int:
    """Memory that `capacity` episodes of a task take."""
    obs_dtype = smallest_integer(spec.obs_low, spec.obs_high)
    sizes = {"obs": np.dtype(obs_dtype).itemsize, "actions": 1, "rewards": 4}
    return sum(size * int(np.prod(_shapes(spec, capacity)[name])) for name, size in sizes.items())


def smallest_integer(
    low: tuple[float, ...], high: tuple[float, ...]
) -> type[np.signedinteger[Any]]:
    """The smallest signed integer type that holds every value from `low` to `high`."""
    for dtype in (np.int8, np.int16):
        if min(low) >= np.iinfo(dtype).min and max(high) <= np.iinfo(dtype).max:
            return dtype
    return np.int32


def _shapes(spec: TMazeSpec, capacity: int) -> dict[str, tuple[int, ...]]:
    T = spec.episode_length
    return {
        "obs": (capacity, T + 1, spec.obs_dim),
        "actions": (capacity, T),
        "rewards": (capacity, T),
    }
