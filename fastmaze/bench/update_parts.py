"""Takes a learner's own update and rollout apart, by hooks: where the time goes, and the work.

```
update:   sample | histories | online forward | target forward | loss | backward | clip and step | …
                                '- attention      '- attention             '- attention
rollout:  network step | env step | network step | …, and the rest
```

Nothing of the learner is copied or replaced: hooks at the seams of its objects say which part
begins, and what lies between two of them belongs to the first. On a GPU they are events of the
device.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from fastmaze.bench.device_timing import record_event
from fastmaze.models import gpt
from fastmaze.training.learner import Learner

UPDATE_PARTS: Final = (
    "sample",
    "histories",
    "online forward",
    "online attention",
    "target forward",
    "target attention",
    "loss",
    "backward",
    "attention backward",
    "clip and step",
    "target update",
    "rest",
)
ROLLOUT_PARTS: Final = ("network step", "env step", "rest")
ATTENTION_PARTS: Final = ("online attention", "target attention", "attention backward")
"""What grows with the square of the length, unless only distinct histories are computed."""


class Recorder:
    """Knows which part is under way, and when each began.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.part = "rest"
        self.flops: dict[str, int] = defaultdict(int)
        """Part to floating-point operations of its matrix products: of attention and LSTMs always,
        of all others while `Work` counts."""
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self._remembered: Any = None

    def begin(self, part: str) -> str:
        """What follows is `part`; returns what it was before."""
        before, self.part = self.part, part
        # What is captured as a CUDA graph runs later, as a whole and without hooks.
        if not (self._on_gpu and torch.cuda.is_current_stream_capturing()):
            self._marks.append((part, self._now()))
        return before

    def remember(self) -> None:
        """Notes the time, for a part that will turn out to have begun now."""
        self._remembered = self._now()

    def began(self, part: str) -> None:
        """What follows is `part`, and it began at the time last noted."""
        self.part = part
        self._marks.append((part, self._remembered))

    def seconds(self) -> dict[str, float]:
        """Part to its seconds since the last question; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        self.begin("rest")
        total: dict[str, float] = defaultdict(float)
        for (part, start), (_, end) in itertools.pairwise(self._marks):
            took = start.elapsed_time(end) / 1e3 if self._on_gpu else end - start
            total[part] += took
        self._marks.clear()
        return dict(total)

    def _now(self) -> Any:
        return record_event() if self._on_gpu else time.perf_counter()


@contextmanager
def taken_apart(learner: Learner, recorder: Recorder) -> Iterator[None]:
    """Hooks a recorder into a learner for as long as the context lasts."""
    begin = recorder.begin
    algorithm = learner.update.algorithm
    handles: list[Any] = []
    for network, name in ((learner.online, "online"), (learner.target, "target")):
        handles += [
            network.register_forward_pre_hook(lambda *_, name=name: _say(begin, f"{name} forward")),
            network.register_forward_hook(lambda *_: _say(begin, "loss")),
        ]
        handles += [
            module.register_forward_hook(functools.partial(_after_lstm, recorder=recorder))
            for module in network.modules()
            if isinstance(module, nn.LSTM)
        ]
    parameters: list[Any] = list(learner.online.parameters())
    handles += [
        # Of all parameters the last one to get its gradient ends the backward pass.
        parameter.register_post_accumulate_grad_hook(lambda _: recorder.remember())
        for parameter in parameters
    ]
    handles += [
        learner.update.optimizer.register_step_pre_hook(lambda *_: recorder.began("clip and step")),
        learner.update.optimizer.register_step_post_hook(lambda *_: _say(begin, "target update")),
    ]
    # The rest is no module: these two and the environments are wrapped where the learner holds
    # them, attention where the transformer does.
    attention = {name: vars(gpt)[name] for name in ("causal_attention", "attend_to_counts")}
    learner.update.algorithm = _Algorithm(algorithm, recorder)  # type: ignore[assignment]
    seams: list[tuple[Any, str, str]] = [
        (learner.replay, "sample", "sample"),
        (learner.online, "histories", "histories"),
        (learner.online, "step", "network step"),
        (learner.envs, "step_into", "env step"),
    ]
    for owner, name, part in seams:
        setattr(owner, name, _within(recorder, part, getattr(owner, name)))
    vars(gpt).update({name: _attention(recorder, f) for name, f in attention.items()})
    try:
        yield
    finally:
        vars(gpt).update(attention)
        learner.update.algorithm = algorithm
        for owner, name, _ in seams:
            delattr(owner, name)
        for handle in handles:
            handle.remove()


def _say(begin: Callable[[str], str], part: str) -> None:
    begin(part)


def _within(recorder: Recorder, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a part of its own."""

    def run(*args: Any, **kwargs: Any) -> Any:
        before = recorder.begin(part)
        result = function(*args, **kwargs)
        recorder.begin(before)
        return result

    return run


class _Algorithm:
    """An algorithm whose loss is a part; what follows it is the backward pass."""

    def __init__(self, algorithm: Any, recorder: Recorder) -> None:
        self._algorithm, self._recorder = algorithm, recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._algorithm, name)

    def loss(self, *args: Any, **kwargs: Any) -> Any:
        self._recorder.begin("loss")
        loss = self._algorithm.loss(*args, **kwargs)
        self._recorder.begin("backward")
        return loss


def _after_lstm(
    module: nn.LSTM, args: tuple[Tensor, ...], _: object, *, recorder: Recorder
) -> None:
    """Its products, which are inside of one operation."""
    tokens = args[0].numel() // args[0].shape[-1]
    flops = tokens * sum(2 * w.numel() for w in module.parameters() if w.ndim == 2)
    recorder.flops[recorder.part] += flops
    if torch.is_grad_enabled():
        recorder.flops["backward"] += 2 * flops


def _attention(recorder: Recorder, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Attention as parts of their own, its gradient too."""

    def run(*inputs: Tensor, **options: Any) -> Tensor:
        if recorder.part == "network step":
            return function(*inputs, **options)
        before = recorder.begin(recorder.part.replace("forward", "attention"))
        out = function(*inputs, **options)
        left = [x for x in inputs if x.requires_grad]
        if function.__name__ == "causal_attention":
            flops = attention_flops(inputs[0])
            recorder.flops[recorder.part] += flops
            # Its gradient makes the scores once more; a block that runs again has been seen before.
            if left and recorder.part != "backward":
                recorder.flops["attention backward"] += flops * 5 // 2
        recorder.begin(before)
        if out.requires_grad:
            seen: list[None] = []

            def arrived(_: Tensor) -> None:
                seen.append(None)
                if len(seen) == len(left):
                    recorder.begin("backward")

            hooked: list[tuple[Any, Any]] = [
                (out, lambda _: _say(recorder.begin, "attention backward")),
                *((x, arrived) for x in left),
            ]
            for tensor, hook in hooked:
                tensor.register_hook(hook)
        return out

    return run


def attention_flops(q: Tensor) -> int:
    """Floating-point operations of causal attention's two products for queries [B, H, T, D]."""
    B, H, T, D = q.shape
    return 2 * B * H * T * (T + 1) * D


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operations do, by the part of a recorder under way.

    Bytes: each operation is taken to read its inputs and to write its outputs once, as without
    fusion and without a cache; views move nothing. Matrix products are added to the recorder's.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: dict[str, int] = defaultdict(int)
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in _PRODUCTS:
            count = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
            self._recorder.flops[self._recorder.part] += count
        if not func.is_view and not func.name().startswith(_MOVE_NOTHING):
            inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
            outputs = [x for x in tree_iter(out) if isinstance(x, Tensor)]
            # One that fills memory writes all of it and reads nothing.
            moved = outputs if func.name().startswith(_ONLY_WRITE) else inputs + outputs
            self.bytes[self._recorder.part] += sum(_bytes(x) for x in moved)
        return out


_PRODUCTS: Final = (
    *(torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm),
    torch.ops.aten.convolution,
    torch.ops.aten.convolution_backward,
    torch.ops.fastmaze.recur,
    torch.ops.fastmaze.recur_backward,
)
_MOVE_NOTHING: Final = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::detach")
_ONLY_WRITE: Final = ("aten::fill_", "aten::zero_", "aten::uniform_", "aten::normal_")


def _bytes(x: Tensor) -> int:
    """Bytes of a tensor's distinct entries: an expanded one repeats the same."""
    distinct = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        distinct *= 1 if stride == 0 else size
    return distinct * x.element_size()
