"""Takes a learner's own update and rollout apart, by hooks: where the time goes, and the work.

```
update:   sample | online forward | target forward | loss | backward | clip and step | target update
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

from fastmaze.bench.device_timing import record_event
from fastmaze.models import gpt
from fastmaze.training.learner import Learner

UPDATE_PARTS: Final = (
    "sample",
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
"""What grows with the square of the length."""


class Recorder:
    """Knows which part is under way, and when each began.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.part = "rest"
        self.flops: dict[str, int] = defaultdict(int)
        """Part to floating-point operations of its matrix products, counted from shapes."""
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
            network.register_forward_hook(
                functools.partial(_after_forward, recorder=recorder, name=name)
            ),
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
    attention = vars(gpt)["causal_attention"]
    learner.update.algorithm = _Algorithm(algorithm, recorder)  # type: ignore[assignment]
    seams: list[tuple[Any, str, str]] = [
        (learner.replay, "sample", "sample"),
        (learner.online, "step", "network step"),
        (learner.envs, "step_into", "env step"),
    ]
    for owner, name, part in seams:
        setattr(owner, name, _within(recorder, part, getattr(owner, name)))
    vars(gpt)["causal_attention"] = _attention(recorder, attention)
    try:
        yield
    finally:
        vars(gpt)["causal_attention"] = attention
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


def _after_forward(
    network: nn.Module, args: tuple[Tensor, ...], _: Tensor, *, recorder: Recorder, name: str
) -> None:
    batch, length = args[0].shape[:2]
    linear = batch * length * token_flops(network)
    attended = batch * attention_flops(network, length)
    recorder.flops[f"{name} forward"] += linear
    recorder.flops[f"{name} attention"] += attended
    if torch.is_grad_enabled():
        # Two products for each of the forward's; attention makes its scores once more.
        recorder.flops["backward"] += 2 * linear
        recorder.flops["attention backward"] += attended * 5 // 2
    recorder.begin("loss")


def _attention(recorder: Recorder, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Attention as parts of their own, its gradient too."""

    def run(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        before = recorder.begin(recorder.part.replace("forward", "attention"))
        out = function(q, k, v, **options)
        recorder.begin(before)
        if out.requires_grad:
            left = [x for x in (q, k, v) if x.requires_grad]
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


def token_flops(network: nn.Module) -> int:
    """Floating-point operations of a forward pass's matrix products, for one token."""
    total = 0
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and name != "embedder.action":  # that one is looked up
            total += 2 * module.weight.numel()
        elif isinstance(module, nn.LSTM):
            total += sum(2 * w.numel() for w in module.parameters() if w.ndim == 2)
    return total


def attention_flops(network: nn.Module, length: int) -> int:
    """The same of causal attention's two products over one sequence, whatever its heads."""
    blocks = [module for module in network.modules() if isinstance(module, gpt.Block)]
    return sum(2 * length * (length + 1) * b.num_heads * b.head_dim for b in blocks)


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write, by the part of a recorder under way.

    Each operation is taken to read its inputs and to write its outputs once, as without fusion and
    without a cache; views move nothing.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: dict[str, int] = defaultdict(int)
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and not func.name().startswith(_MOVE_NOTHING):
            inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
            outputs = [x for x in tree_iter(out) if isinstance(x, Tensor)]
            # One that fills memory writes all of it and reads nothing.
            moved = outputs if func.name().startswith(_ONLY_WRITE) else inputs + outputs
            self.bytes[self._recorder.part] += sum(_bytes(x) for x in moved)
        return out


_MOVE_NOTHING: Final = ("aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::detach")
_ONLY_WRITE: Final = ("aten::fill_", "aten::zero_", "aten::uniform_", "aten::normal_")


def _bytes(x: Tensor) -> int:
    """Bytes of a tensor's distinct entries: an expanded one repeats the same."""
    distinct = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        distinct *= 1 if stride == 0 else size
    return distinct * x.element_size()
