"""Part "update" of `fastmaze bench gpu-check`: one update of double Q-learning, timed in parts.

The update is the trainer's own; the batch is random and already on the device.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import torch

from fastmaze.agents.batch import Batch, Loss
from fastmaze.bench.ceilings import float32_precision
from fastmaze.bench.device_timing import one_line, record_event
from fastmaze.bench.gpu_check_parts import Context
from fastmaze.specs import NUM_ACTIONS
from fastmaze.training import TrainConfig
from fastmaze.training.network import build_network
from fastmaze.training.update import Update

STAGES: Final = ("forward", "backward", "optimizer")
LOWER_BOUND_MS: Final = {1500: 0.56, 10_000: 11.7}
"""An H200's lower bound by length, an estimate: bf16, B = 64, width 128, one layer, one head, no
dropout, one shared online forward; matrix products at 790 TFLOP/s, memory at 4.3 TB/s."""


class Setting(NamedTuple):
    """One way to run the update."""

    length: int
    """Steps of an episode, T; the network sees T + 1."""
    precision: str
    """fp32, tf32 or bf16."""
    dropout: float
    impl: str
    """The attention's."""


def settings(reduced: bool) -> list[Setting]:
    """What is timed, in this order: ours, and beside it torch's attention if without dropout."""
    lengths, precisions = ((32,), ("fp32",)) if reduced else ((1500, 10_000), ("bf16", "tf32"))
    return [
        Setting(length, precision, dropout, impl)
        for length in lengths
        for precision in precisions
        for dropout in (0.0, 0.1)
        for impl in (("auto",) if dropout else ("auto", "sdpa"))
    ]


def run_part(context: Context) -> None:
    """Saves "rows"."""
    rows: list[dict[str, Any]] = []
    for setting in settings(context.reduced):
        if context.left <= 0:
            context.save(stopped=f"out of time after {len(rows)} settings")
            return
        batch = 2 if context.reduced else 64
        while True:
            try:
                row = time_update(
                    setting, batch, context.device, calls=2 if context.reduced else 10
                )
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                batch //= 2
                row = {**setting._asdict(), "skipped": "out of memory with one sequence"}
            except Exception as error:  # the next setting may run
                row = {**setting._asdict(), "skipped": one_line(error)}
                break
            if batch == 0:
                break
        rows.append(row)
        print(f"  {_line(row)}", flush=True)
        context.save(rows=rows)


def time_update(
    setting: Setting, batch_size: int, device: torch.device, calls: int
) -> dict[str, Any]:
    """Median milliseconds of an update and of its stages."""
    config = TrainConfig(
        length=setting.length - 1,
        device=str(device),
        dropout=setting.dropout,
        attention_impl=setting.impl,  # type: ignore[arg-type]
        compute_dtype="bfloat16" if setting.precision == "bf16" else "float32",
        num_heads=1,
        num_layers=1,
        discount=0.99,  # with 0 the target network would not be asked at all
    )
    torch.manual_seed(0)
    run, batch = _update(config, batch_size)
    with float32_precision("tf32" if setting.precision != "fp32" else "ieee"):
        for _ in range(3):
            run(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        turns = [run(batch) for _ in range(calls)]
        measured = [turn() for turn in turns]  # waits for the device
    stages = {name: statistics.median(t[i] for t in measured) for i, name in enumerate(STAGES)}
    total = statistics.median(sum(t) for t in measured)
    bound = LOWER_BOUND_MS.get(setting.length) if batch_size == 64 else None
    on_h200 = device.type == "cuda" and "H200" in torch.cuda.get_device_name(device)
    return {
        **setting._asdict(),
        "batch": batch_size,
        "milliseconds": total,
        "stages": stages,
        "tokens_per_second": 1e3 * batch_size * setting.length / total,
        "over_lower_bound": total / bound if bound and on_h200 else None,
        "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20
        if device.type == "cuda"
        else None,
    }


def _update(
    config: TrainConfig, batch_size: int
) -> tuple[Callable[[Batch], Callable[[], list[float]]], Batch]:
    """The trainer's update as a function that returns, once asked, milliseconds of its stages."""
    device = torch.device(config.device)
    online = build_network(config)
    target = copy.deepcopy(online).requires_grad_(False)
    online.train()
    target.train()
    update = Update(config, online, target, micro_batch_size=batch_size)
    algorithm = update.algorithm

    def run(batch: Batch) -> Callable[[], list[float]]:
        marks = [_mark(device)]

        def loss(*args: Any) -> Loss:
            found = algorithm.loss(*args)
            marks.append(_mark(device))
            return found

        update.algorithm = SimpleNamespace(loss=loss)  # type: ignore[assignment]
        update.gradients(batch)
        marks.append(_mark(device))
        update.step()
        marks.append(_mark(device))
        return lambda: _between(marks, device)

    T = config.spec.episode_length
    done = torch.zeros(batch_size, T, dtype=torch.bool, device=device)
    done[:, -1] = True
    obs = torch.randint(-1, 2, (batch_size, T + 1, config.spec.obs_shape[0]), device=device).float()
    actions = torch.randint(0, NUM_ACTIONS, (batch_size, T), device=device)
    rewards = torch.rand(batch_size, T, device=device)
    return run, Batch(obs, actions, rewards, done, torch.ones_like(done))


def _mark(device: torch.device) -> Any:
    if device.type == "cpu":
        return time.perf_counter()
    return record_event()


def _between(marks: list[Any], device: torch.device) -> list[float]:
    """Milliseconds from each mark to the next."""
    if device.type == "cpu":
        return [1e3 * (b - a) for a, b in itertools.pairwise(marks)]
    marks[-1].synchronize()
    return [a.elapsed_time(b) for a, b in itertools.pairwise(marks)]


def _line(row: dict[str, Any]) -> str:
    head = f"T = {row['length']:,} {row['precision']} dropout {row['dropout']} {row['impl']:5}"
    if "skipped" in row:
        return f"{head}: skipped, {row['skipped']}"
    stages = ", ".join(f"{name} {ms:.2f}" for name, ms in row["stages"].items())
    bound = row["over_lower_bound"]
    over = f", {bound:.1f} × the lower bound" if bound else ""
    return (
        f"{head} B = {row['batch']}: {row['milliseconds']:.2f} ms ({stages}), "
        f"{row['tokens_per_second'] / 1e6:.3g} M tokens/s{over}"
    )
