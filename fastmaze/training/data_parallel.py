"""Several processes that train one agent together, started by torchrun.

```
torchrun --nproc-per-node=2 -m fastmaze train --length 1500

 process 0   envs 0 … n-1     their episodes   its rows of each batch ─┐ gradients, summed by
 process 1   envs n … 2n-1    their episodes   its rows of each batch ─┘ DistributedDataParallel
```

The run is that of one process, up to the order of sums. Every process draws the whole run's random
numbers from the same stream and uses its share: the random actions of its own environments, and of
the episodes drawn for a batch those that its replay holds, be they many or none. An episode is only
ever where it was played. (Dropout apart, which each process draws for itself.)

The first process alone writes: log, checkpoints, best weights.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from fastmaze.training.config import TrainConfig
from fastmaze.training.fallback import first_line

MEETING_SECONDS: Final = 120.0
"""How long processes wait for one another at the start."""

PATIENCE_SECONDS: Final = 3600.0
"""How long they wait later on: for the slowest to finish a round, or for a checkpoint."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this is."""

    rank: int = 0
    """From 0 on."""
    size: int = 1
    """How many there are."""
    on_host: int = 1
    """How many of them are on this machine."""

    @property
    def several(self) -> bool:
        """Whether there is another."""
        return self.size > 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of so many things in a row; parts differ by at most one."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def gather(self, value: T) -> list[T]:
        """What every process has, in order, known to all; waits for all."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_first(self, value: T) -> list[T]:
        """As `gather`, but known to the first process alone; elsewhere an empty list."""
        if not self.several:
            return [value]
        values: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, values)
        return values or []

    def from_first(self, value: T) -> T:
        """What the first process has; waits for it."""
        if not self.several:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def sum(self, x: Tensor) -> Tensor:
        """The sum of every process's tensor, known to all."""
        if self.several:
            x = x.clone()
            dist.all_reduce(x)
        return x


ALONE: Final = Processes()
"""The usual case: one process."""


class ShareOfDraws(np.random.Generator):
    """Draws for the environments of all processes from one stream, and returns those of this one.

    Takes the place of a generator in a rollout. The streams of all processes stay level, for each
    draws all that the others do.

    Args:
        bits: the stream, the same in every process.
        processes: which of how many this is.
    """

    def __new__(cls, bits: np.random.BitGenerator, processes: Processes) -> ShareOfDraws:  # noqa: D102
        return super().__new__(cls, bits)  # type: ignore[call-arg]

    def __init__(self, bits: np.random.BitGenerator, processes: Processes) -> None:
        super().__init__(bits)
        self._processes = processes

    def random(self, size: int) -> npt.NDArray[np.float64]:  # type: ignore[override]
        """As that of NumPy for `size` numbers; draws `size` for each process."""
        return self._mine(super().random(self._all(size)))

    def integers(  # type: ignore[override]
        self, low: int, high: int, size: int
    ) -> npt.NDArray[np.int64]:
        """As that of NumPy for `size` numbers; draws `size` for each process."""
        return self._mine(super().integers(low, high, self._all(size)))

    def _all(self, size: int) -> int:
        return size * self._processes.size

    def _mine(self, drawn: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return drawn[self._processes.share(len(drawn))]


def name_of(part: str, rank: int) -> str:
    """What a process's own part of a checkpoint is called: part, part-1, part-2 and so on."""
    return f"{part}-{rank}" if rank else part


def first_process() -> bool:
    """Whether this process is the one that speaks, before and after training too."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def meet(config: TrainConfig) -> Iterator[Processes]:
    """Meets the other processes that torchrun started, if it started any, and parts from them.

    Args:
        config: names the device; what has to be split is checked.

    Raises:
        ValueError: the processes do not meet, or the configuration cannot be split over them.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"WORLD_SIZE: expected a number of processes, got {text!r}")
    size = int(text)
    if size == 1:
        yield ALONE
        return
    on_host = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    check_split(config, size, on_host)
    rank = _join(size, config)
    try:
        yield Processes(rank, size, on_host)
    finally:
        # With the last of what holds the group go its threads. One that still lets go of a tensor
        # while the interpreter shuts down would abort the process.
        gc.collect()
        dist.destroy_process_group()


def check_split(config: TrainConfig, size: int, on_host: int) -> None:
    """Refuses a configuration that so many processes cannot share.

    Raises:
        ValueError: naming the field.
    """
    hyper = config.hyper
    if hyper.num_envs % size:
        raise ValueError(
            f"num_envs: expected a multiple of the {size} processes (WORLD_SIZE), so that each "
            f"plays as many episodes as the others, got {hyper.num_envs}"
        )
    if config.eval_episodes < size:
        raise ValueError(
            f"eval_episodes: expected at least one for each of the {size} processes, got "
            f"{config.eval_episodes}"
        )
    device = torch.device(config.device)
    if device.type == "cuda":
        if device.index is not None:
            raise ValueError(
                f"device: expected cuda without a number where {size} processes train (each takes "
                f"the GPU of its own number), got {config.device!r}"
            )
        count = torch.cuda.device_count()
        if on_host > count:
            raise ValueError(
                f"device: expected a GPU for each process, found {count} for {on_host}; start "
                f"torchrun with --nproc-per-node={count}"
            )


def _join(size: int, config: TrainConfig) -> int:
    """Starts the process group, and returns this process's rank."""
    # DistributedDataParallel imports it; where that happens after the start, the defaults of its
    # functions hold the group for good.
    importlib.import_module("torch.distributed.nn.functional")
    on_gpu = torch.device(config.device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        meeting = dist.rendezvous(  # type: ignore[attr-defined]
            "env://", timeout=datetime.timedelta(seconds=MEETING_SECONDS)
        )
        store, rank, size = next(iter(meeting))
        patience = datetime.timedelta(seconds=PATIENCE_SECONDS)
        store.set_timeout(patience)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=patience,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(
            f"WORLD_SIZE: {size} processes are to train together, but they do not meet "
            f"({first_line(error)}); start them with `torchrun --nproc-per-node={size} -m "
            "fastmaze train …`, or unset WORLD_SIZE to train in one"
        ) from error
    return int(rank)
