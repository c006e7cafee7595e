"""Part "fusions" of `fastmaze bench gpu-check`: each fused operation beside plain torch.

Forward and backward of the fused kernel, of the same operations in torch, and of those compiled by
`torch.compile`, in turns. A fusion is worth keeping where it beats both.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fastmaze.agents.batch import Batch
from fastmaze.agents.ddqn import DDQN
from fastmaze.bench.ceilings import float32_precision
from fastmaze.bench.device_timing import Operation, Stopwatch, one_line
from fastmaze.bench.gpu_check_parts import Context

_WIDTH: Final = 128
_ACTIONS: Final = 4


class Problem(NamedTuple):
    """One operation on one set of inputs."""

    ours: Callable[..., Any]
    """Maps the inputs to a tensor, or some."""
    eager: Callable[..., Any]
    """The same in plain torch."""
    inputs: tuple[Tensor, ...]
    """Gradients are taken of those that require them."""


class Fusion(NamedTuple):
    """A row of the table."""

    name: str
    make: Callable[[int, int, torch.dtype, torch.device], Problem]
    """From B, T, dtype and device."""
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float32)


def _leaf(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, device=device).to(dtype).requires_grad_()


def layer_norm(B: int, T: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """LayerNorm over tokens."""
    from fastmaze.kernels.layer_norm import layer_norm as ours

    x = _leaf(B, T, _WIDTH, dtype=dtype, device=device)
    weight, bias = (_leaf(_WIDTH, dtype=dtype, device=device) for _ in range(2))
    return Problem(ours, lambda x, w, b: F.layer_norm(x, (_WIDTH,), w, b), (x, weight, bias))


def add_layer_norm(B: int, T: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """The residual addition, and LayerNorm of the sum."""
    from fastmaze.kernels.layer_norm import add_layer_norm as ours

    def eager(x: Tensor, residual: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        total = x + residual
        return F.layer_norm(total, (_WIDTH,), w, b), total

    x, residual = (_leaf(B, T, _WIDTH, dtype=dtype, device=device) for _ in range(2))
    weight, bias = (_leaf(_WIDTH, dtype=dtype, device=device) for _ in range(2))
    return Problem(ours, eager, (x, residual, weight, bias))


def mlp(B: int, T: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """Two linear layers, four times as wide between, with GELU."""
    from fastmaze.kernels.mlp import mlp as ours

    def eager(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(x, w1, b1), approximate="tanh"), w2, b2)

    def small(*shape: int) -> Tensor:
        return (0.1 * _leaf(*shape, dtype=dtype, device=device)).detach().requires_grad_()

    x = _leaf(B, T, _WIDTH, dtype=dtype, device=device)
    wide = 4 * _WIDTH
    return Problem(
        ours, eager, (x, small(wide, _WIDTH), small(wide), small(_WIDTH, wide), small(_WIDTH))
    )


def double_q_loss(B: int, T: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """Target and loss of double Q-learning, as the trainer computes it without the kernel."""
    from fastmaze.kernels.double_q_loss import double_q_loss as ours

    q_all = _leaf(B, T + 1, _ACTIONS, dtype=dtype, device=device)
    q_target = _leaf(B, T + 1, _ACTIONS, dtype=dtype, device=device).detach()
    actions = torch.randint(0, _ACTIONS, (B, T), device=device)
    rewards = torch.rand(B, T, device=device)
    terminated = torch.zeros(B, T, dtype=torch.bool, device=device)
    mask = torch.ones_like(terminated)
    batch = Batch(q_all.new_empty(0), actions, rewards, terminated, mask)
    algorithm = DDQN(discount=0.9)

    def eager(q_all: Tensor, q_target: Tensor) -> Tensor:
        with torch.no_grad():
            y = algorithm.targets(batch, q_all[:, 1:].detach(), q_target[:, 1:])
        predicted = q_all[:, :-1].gather(2, actions[:, :, None])[:, :, 0]
        return ((predicted - y).square() * mask).sum() / mask.sum().clamp(min=1)

    def fused(q_all: Tensor, q_target: Tensor) -> Tensor:
        return ours(q_all, q_target, actions, rewards, terminated, mask, discount=0.9).loss

    return Problem(fused, eager, (q_all, q_target))


def discounted_returns(B: int, T: int, dtype: torch.dtype, device: torch.device) -> Problem:
    """Returns along whole episodes, without gradients; plain torch walks backwards."""
    from fastmaze.kernels.discounted_returns import discounted_returns as ours

    base, carried = torch.rand(2, B, T, device=device, dtype=dtype)

    def eager(base: Tensor, carried: Tensor) -> Tensor:
        total = torch.zeros_like(base[:, 0])
        returns = []
        for t in reversed(range(base.shape[1])):
            total = base[:, t] + carried[:, t] * total
            returns.append(total)
        return torch.stack(returns[::-1], dim=1)

    return Problem(ours, eager, (base, carried))


FUSIONS: Final = (
    Fusion("add + LayerNorm", add_layer_norm),
    Fusion("MLP with GELU", mlp),
    Fusion("double-Q loss", double_q_loss, (torch.float32,)),
    Fusion("LayerNorm", layer_norm),
    Fusion("discounted returns", discounted_returns, (torch.float32,)),
)
"""What is measured, in this order."""

_NEVER_COMPILED: Final = {"discounted returns": "a loop of T steps takes too long to compile"}


def run_part(context: Context) -> None:
    """Saves "rows"."""
    stopwatch = Stopwatch(context.device, rounds=2 if context.reduced else 5, seconds=0.01)
    B, T = (2, 64) if context.reduced else (64, 1500)
    rows: list[dict[str, Any]] = []
    if not context.reduced:
        _compile_all(B, T, context)
    for fusion, dtype in _kinds():
        if context.left <= 0:
            context.save(stopped=f"out of time after {len(rows)} rows")
            return
        if context.reduced and dtype != torch.float32:
            continue
        compiles = not context.reduced and fusion.name not in _NEVER_COMPILED
        row = time_fusion(fusion, B, T, dtype, stopwatch, compiles)
        rows.append(row)
        print(f"  {_line(row)}", flush=True)
        context.save(rows=rows)


def _kinds() -> list[tuple[Fusion, torch.dtype]]:
    return [(fusion, dtype) for fusion in FUSIONS for dtype in fusion.dtypes]


def _compile_all(B: int, T: int, context: Context) -> None:
    """Fills the caches of Triton and of `torch.compile` on disk, all kinds at once."""
    spawn = multiprocessing.get_context("spawn")
    workers = min(len(_kinds()), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = [
            pool.submit(compile_fusion, i, B, T, str(context.device)) for i in range(len(_kinds()))
        ]
        for future in futures:
            with contextlib.suppress(Exception):  # what fails here will say so when timed
                future.result()


def compile_fusion(index: int, B: int, T: int, device: str) -> None:
    """Runs every way of one kind once."""
    fusion, dtype = _kinds()[index]
    problem = fusion.make(B, T, dtype, torch.device(device))
    ways = [problem.ours]
    if fusion.name not in _NEVER_COMPILED:
        ways.append(torch.compile(problem.eager))
    with float32_precision("tf32"):
        for way in ways:
            _training(way, problem.inputs).run(None)


def time_fusion(
    fusion: Fusion, B: int, T: int, dtype: torch.dtype, stopwatch: Stopwatch, compiles: bool
) -> dict[str, Any]:
    """Milliseconds of "fused", "eager" and "compiled", and how far their results are apart."""
    kind = str(dtype).removeprefix("torch.")
    row: dict[str, Any] = {"name": fusion.name, "size": f"B = {B}, T = {T:,}, {kind}",
                           "milliseconds": {}, "skipped": {}, "speedup": None}  # fmt: skip
    try:
        problem = fusion.make(B, T, dtype, stopwatch.device)
    except Exception as error:  # this one's absence is no reason to miss the others
        row["skipped"]["fused"] = one_line(error)
        return row
    ways = {"fused": problem.ours, "eager": problem.eager}
    if compiles:
        torch._dynamo.reset()
        ways["compiled"] = torch.compile(problem.eager)
    else:
        row["skipped"]["compiled"] = _NEVER_COMPILED.get(fusion.name, "compiled on GPUs only")
    with float32_precision("tf32"):
        times, failed = stopwatch.measure(
            {name: _training(way, problem.inputs) for name, way in ways.items()}
        )
    row["skipped"] |= failed
    row["milliseconds"] = {name: 1e3 * t.median for name, t in times.items()}
    others = [t.median for name, t in times.items() if name != "fused"]
    if "fused" in times and others:
        row["speedup"] = min(others) / times["fused"].median
    return row


def _training(way: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Operation:
    """Forward, and the backward where there is one."""
    leaves = [x for x in inputs if x.requires_grad]
    grads: list[Tensor] = []

    def run(_: Any) -> object:
        if not leaves:
            return way(*inputs)
        found = way(*inputs)
        outputs: Iterable[Tensor] = (found,) if isinstance(found, Tensor) else found
        outputs = [x for x in outputs if x.requires_grad]
        if not grads:  # made by the first call, which is not timed
            grads.extend(torch.rand_like(x) for x in outputs)
        return torch.autograd.grad(outputs, leaves, grads)

    return Operation(run)


def _line(row: dict[str, Any]) -> str:
    figures = ", ".join(f"{name} {ms:.4g} ms" for name, ms in row["milliseconds"].items())
    reasons = "; ".join(f"{name}: {why}" for name, why in row["skipped"].items())
    speedup = f" ({row['speedup']:.2f} × the fastest other)" if row["speedup"] else ""
    head = f"{row['name']} {row['size']}:"
    return " ".join(filter(None, [head, figures + speedup, reasons and f"[{reasons}]"]))
