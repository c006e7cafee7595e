"""One gradient update: from a batch of episodes to new weights.

```
 batch ─ slices ─> loss ─> backward ─.            each slice's share of the whole batch's loss
                   (micro-batches)   + gradients ─> clip ─> Adam ─> target follows
```

Where the networks can say which histories are the same to them, a slice's are looked up first, and
each distinct one is computed once (`fastmaze.models.histories`, `fastmaze.models.prefixes`).

Everything from the batch on is on the device and waits for nothing there, so that a CUDA graph can
hold it: what is drawn, and the learning rate, are made outside.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fastmaze.agents.batch import Batch
from fastmaze.models.histories import Histories
from fastmaze.models.own_model import is_own
from fastmaze.models.q_network import QNetwork
from fastmaze.training.algorithm import make_algorithm
from fastmaze.training.config import TrainConfig
from fastmaze.training.data_parallel import ALONE, Processes
from fastmaze.training.fallback import first_line, warn_slower
from fastmaze.training.update_graph import UpdateGraph


class Update:
    """Makes updates; owns the optimiser.

    Args:
        config: the run.
        online: the network that learns.
        target: its slow copy.
        micro_batch_size: episodes that go through the networks at once; None for all of them.
        distinct_rows: distinct histories that go through them at once, where these are shared; more
            of a slice only where one episode alone has more. None for any number.
        processes: which of how many this is. Each brings its part of the batch; all have the same
            weights before and after.

    Attributes:
        algorithm: makes the loss.
        optimizer: fused Adam.
    """

    def __init__(
        self,
        config: TrainConfig,
        online: QNetwork,
        target: QNetwork,
        *,
        micro_batch_size: int | None = None,
        distinct_rows: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        hyper, device = config.hyper, torch.device(config.device)
        self.online, self.target = online, target
        self.micro_batch_size = micro_batch_size or hyper.batch_size
        self._distinct_rows = distinct_rows
        self._first_cut = config.micro_batch_size or hyper.batch_size
        self._target_rate, self._grad_clip = hyper.target_rate, hyper.grad_clip
        self._processes = processes
        self.algorithm = make_algorithm(config)
        graph = config.cuda_graph_update and self._may_capture(device)
        self.optimizer = torch.optim.Adam(
            online.parameters(),
            # A graph reads the learning rate where it lies.
            lr=torch.tensor(hyper.learning_rate, device=device) if graph else hyper.learning_rate,
            betas=(0.9, hyper.adam_beta2),
            fused=True,
            capturable=graph,
        )
        self._graph = UpdateGraph(self._run, device) if graph else None
        # Their number differs from batch to batch, which compilers and graphs cannot have; and they
        # are those of whole episodes, of which a separate forward pass leaves out the last step.
        self._may_share = config.shares_histories and not graph
        # What the loss calls; other objects than the networks where those are wrapped.
        self._online: Any = online
        self._target: Any = target
        self._on_trial = False
        if processes.several:
            # Shares of a loss are summed where this takes the mean: `_run` makes up for it. It
            # sees to equal weights at the start, and would overlap sums with larger networks'
            # backward passes.
            # Nobody knows whether a model of one's own uses all of its weights.
            self._online = DistributedDataParallel(
                online, find_unused_parameters=is_own(config.model)
            )
            if config.compile_update:
                _say("compiled", "several processes train together")
        elif config.compile_update:
            self._online, self._target = torch.compile(online), torch.compile(target)
            self._on_trial = True

    def _may_capture(self, device: torch.device) -> bool:
        if device.type != "cuda":
            _say("captured in a CUDA graph", f"the device is {device}")
        elif self._processes.several:
            # A batch's parts differ in size from update to update.
            _say("captured in a CUDA graph", "several processes train together")
        else:
            return True
        return False

    def __call__(self, batch: Batch, learning_rate: float) -> Tensor:
        """Updates the weights.

        Args:
            batch: whole episodes; of several processes, this one's part.
            learning_rate: for this update.

        Returns:
            Loss, mean value, mean target, with a policy also its entropy (each this process's
            share of the whole batch's), and norm of the whole gradient before clipping: float32
            [4] or [5] on the device.
        """
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate
        if self._on_trial:
            return self._try_compiled(batch)
        return self._run(batch) if self._graph is None else self._graph(batch)

    def _run(self, batch: Batch) -> Tensor:
        stats = self.gradients(batch)
        return torch.cat([stats, self.step()[None]])

    def step(self) -> Tensor:
        """Second half of an update: to new weights; returns the gradient's norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(
            self.online.parameters(), self._grad_clip or float("inf")
        )
        self.optimizer.step()
        with torch.no_grad():
            slow: list[Tensor] = list(self.target.parameters())
            fast: list[Tensor] = list(self.online.parameters())
            torch._foreach_lerp_(slow, fast, self._target_rate)
        return norm

    def gradients(self, batch: Batch) -> Tensor:
        """First half: sets those of the whole batch's loss; returns loss and means."""
        self.optimizer.zero_grad(set_to_none=True)
        total = self._processes.sum(_steps(batch)).clamp(min=1.0)
        stats = torch.zeros((), dtype=batch.rewards.dtype, device=batch.rewards.device)
        slices = list(self._slices(batch))
        for number, (part, histories) in enumerate(slices, start=1):
            share = _steps(part) / total
            online, target = self._online, self._target
            if histories is not None:
                online = functools.partial(online, histories=histories)
                target = functools.partial(target, histories=histories)
            with self._synchronised(number == len(slices)):
                loss = self.algorithm.loss(online, target, part)
                scaled = loss.loss * (share * self._processes.size)
                scaled.backward()  # type: ignore[no-untyped-call]
            watched = (loss.loss.detach(), loss.q_mean, loss.target_mean, loss.entropy)
            stats = stats + share * torch.stack([x for x in watched if x is not None])
        return stats

    def _slices(self, batch: Batch) -> Iterator[tuple[Batch, Histories | None]]:
        """The batch in slices, each with its distinct histories where these are shared."""
        if not self._may_share:
            yield from ((part, None) for part in _cut(batch, self.micro_batch_size))
            return
        for part in _cut(batch, self._first_cut):
            yield from self._distinct_slices(part)

    def _distinct_slices(self, batch: Batch) -> Iterator[tuple[Batch, Histories | None]]:
        histories = self.online.histories(batch.obs, batch.actions)
        size, most = len(batch.obs), self._distinct_rows
        if histories is None:
            yield from ((part, None) for part in _cut(batch, self.micro_batch_size))
        elif size == 1 or most is None or histories.distinct.rows <= most:
            yield batch, histories
        else:
            order = self.online.alike_together(batch.obs, batch.actions)
            alike = Batch(*(x.index_select(0, order) for x in batch))
            for half in _cut(alike, -(-size // 2)):
                yield from self._distinct_slices(half)

    def _synchronised(self, last: bool) -> AbstractContextManager[object]:
        """Gradients are summed over processes with the last slice; the others only add to them."""
        if self._processes.several and not last:
            context: AbstractContextManager[object] = self._online.no_sync()
            return context
        return contextlib.nullcontext()

    def _try_compiled(self, batch: Batch) -> Tensor:
        """The first update, whose passes are compiled when they are first run."""
        self._on_trial = False
        try:
            self.gradients(batch)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler may raise
            _say("compiled", f"{type(error).__name__}: {first_line(error)}")
            self._online, self._target = self.online, self.target
        return self._run(batch) if self._graph is None else self._graph(batch)

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Sets the optimiser's state, as of its `state_dict`."""
        self.optimizer.load_state_dict(state)
        if self._graph is not None:
            self._graph.forget()  # it would go on writing where the state was


def _cut(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in slices of at most so many episodes."""
    for start in range(0, len(batch.obs), size):
        yield Batch(*(x[start : start + size] for x in batch))


def _steps(batch: Batch) -> Tensor:
    """How many steps count, a scalar."""
    return batch.mask.sum().to(batch.rewards.dtype)


def _say(what: str, reason: str) -> None:
    warn_slower(f"update: not {what}", reason, stacklevel=4)
