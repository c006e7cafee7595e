"""Part "attention" of `fastmaze bench gpu-check`: as many cases of the benchmark as fit the time.

The most telling come first: bf16, then float32 as trained with, then fp16. FlexAttention, which
is compiled for each case, comes last.
"""

from __future__ import annotations

from typing import Any

import torch

from fastmaze.bench.attention import BenchConfig, measure
from fastmaze.bench.attention_contenders import CONTENDERS
from fastmaze.bench.attention_plot import plot_attention
from fastmaze.bench.gpu_check_parts import Context
from fastmaze.bench.gpu_tuning import tuned_tiles
from fastmaze.kernels.tiles import override


def run_part(context: Context) -> None:
    """Saves "ceilings", "drop_rates", "rows", and whether "tuned" tiles were used."""
    tuned = {} if context.reduced else tuned_tiles(context.out)
    context.save(tuned=len(tuned))
    print(f"with {len(tuned)} tuned tiles" if tuned else "with the default tiles")
    figures: dict[str, Any] = {"rows": [], "drop_rates": []}

    def after_case(found: dict[str, Any]) -> bool:
        rows = [*figures["rows"], *found["rows"]]
        rates = [*figures["drop_rates"], *found["drop_rates"]]
        context.save(rows=rows, drop_rates=rates, ceilings=found["ceilings"])
        return context.left > 0

    with override(tuned):
        for config in configs(context.device):
            if context.left <= 0:
                break
            found = measure(config, context.device, after_case)
            figures["rows"] += found["rows"]
            figures["drop_rates"] += found["drop_rates"]
    if context.left <= 0:
        context.save(stopped=f"out of time after {len(figures['rows'])} rows")
    if any("tflops" in row for row in figures["rows"]):
        plot_attention(figures["rows"], context.out / "attention.png", context.results["ceilings"])


def configs(device: torch.device) -> list[BenchConfig]:
    """What is measured, in this order."""
    if device.type == "cpu":
        return [
            BenchConfig(
                lengths=(128, 256),
                head_dims=(64,),
                precisions=("fp32",),
                passes=("forward", "both", "decode"),
                rounds=1,
                minutes=60.0,
            )
        ]
    quick = tuple(contender.name for contender in CONTENDERS if contender.name != "flex")
    lengths = (512, 1500, 4096, 8192)
    main = [
        BenchConfig(
            lengths=lengths,
            precisions=(precision,),
            passes=("forward", "both", "decode"),
            contenders=quick,
        )
        for precision in ("bf16", "tf32", "fp16")
    ]
    flex = BenchConfig(
        lengths=(4096, 8192),
        precisions=("bf16",),
        dropouts=(0.0,),
        passes=("forward", "both"),
        contenders=("fastmaze", "flex"),
    )
    return [main[0], main[1], flex, main[2]]
