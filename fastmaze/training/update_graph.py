"""An update as one CUDA graph: launched once instead of operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from fastmaze.agents.batch import Batch
from fastmaze.training.fallback import first_line, warn_slower

WARM_UP: Final = 3
"""Updates made without a graph first: kernels are compiled and workspaces made, which a capture
may not do. They are updates like any other."""


class UpdateGraph:
    """Runs an update of batches of one shape, from the fourth on by replaying a graph.

    If the capture fails, it says so once and goes on without.

    Args:
        run: from a batch on the device to a tensor; must not wait for the device.
        device: a GPU.
    """

    def __init__(self, run: Callable[[Batch], Tensor], device: torch.device) -> None:
        self._run, self._device = run, device
        self._failed = False
        self.forget()

    def forget(self) -> None:
        """Drops the graph: what it writes to has been replaced."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._result: Tensor | None = None
        self._done = 0

    def __call__(self, batch: Batch) -> Tensor:
        """The update of a batch."""
        if self._failed:
            return self._run(batch)
        if self._done < WARM_UP:
            self._done += 1
            return self._warm_up(batch)
        if self._graph is None and not self._capture(batch):
            return self._run(batch)
        if self._graph is None or self._batch is None or self._result is None:
            raise RuntimeError("update: a captured graph without its tensors")
        for kept, new in zip(self._batch, batch, strict=True):
            kept.copy_(new)
        self._graph.replay()
        return self._result.clone()

    def _warm_up(self, batch: Batch) -> Tensor:
        """An update on a stream of its own, where a capture will be made."""
        with torch.cuda.device(self._device):
            main = torch.cuda.current_stream(self._device)
            side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            side.wait_stream(main)
            with torch.cuda.stream(side):
                result = self._run(batch)
            main.wait_stream(side)
            # Memory of the batch may be given to others only after the side stream is done with
            # it, that of the result only after the main one is.
            for tensor in batch:
                tensor.record_stream(side)
            result.record_stream(main)
        return result

    def _capture(self, batch: Batch) -> bool:
        """Captures an update, which is not made by that; says whether it worked."""
        stream = torch.cuda.current_stream(self._device)
        try:
            # Of memory of their own: parts of a batch share theirs, or repeat one row.
            self._batch = Batch(*(x.clone(memory_format=torch.contiguous_format) for x in batch))
            torch.cuda.synchronize(self._device)
            graph = torch.cuda.CUDAGraph()
            with (
                torch.cuda.device(self._device),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                self._result = self._run(self._batch)
        except RuntimeError as error:  # torch has no narrower one for a failed capture
            self.forget()
            self._failed = True
            torch.cuda.set_stream(stream)  # a capture that fails as it ends keeps its own
            torch.cuda.synchronize(self._device)  # raises, should the device be lost
            warn_slower("update: not captured in a CUDA graph", first_line(error), stacklevel=5)
            return False
        self._graph = graph
        return True
