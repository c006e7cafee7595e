"""What the device can do at best, measured: matrix products and copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

import torch

from fastmaze.bench.device_timing import Operation, Stopwatch


class Precision(NamedTuple):
    """How numbers are stored and multiplied."""

    dtype: torch.dtype
    float32: Literal["tf32", "ieee"]
    """How float32 is multiplied."""


PRECISIONS: Final = {
    "bf16": Precision(torch.bfloat16, "ieee"),
    "fp16": Precision(torch.float16, "ieee"),
    "tf32": Precision(torch.float32, "tf32"),
    "fp32": Precision(torch.float32, "ieee"),
}
"""Name to precision: "tf32" stores float32 and rounds what it multiplies, "fp32" does not."""


@contextmanager
def float32_precision(precision: str) -> Iterator[None]:
    """Lets float32 matrix products use tf32, or not, as long as the context lasts."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _product(a: torch.Tensor, b: torch.Tensor) -> Operation:
    return Operation(lambda _: a @ b)


def measure_ceilings(stopwatch: Stopwatch, names: tuple[str, ...]) -> dict[str, Any]:
    """Measures a large matrix product in each precision, and a large copy.

    Returns:
        "matmul_tflops" (precision to TFLOP/s), "copy_gbps" (bytes read and written), the sizes,
        and "skipped" (what did not run to why).
    """
    device = stopwatch.device
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 1024
    copied = (2 << 30) if on_gpu else (64 << 20)
    generator = torch.Generator(device).manual_seed(0)
    rates: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for name in names:
        dtype, precision = PRECISIONS[name]
        # Random, for a product of zeros draws less power and runs faster.
        a, b = (
            torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2)
        )
        with float32_precision(precision):
            times, failed = stopwatch.measure({name: _product(a, b)})
        skipped |= failed
        if name in times:
            rates[name] = 2 * size**3 / times[name].median / 1e12
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times, failed = stopwatch.measure({"copy": Operation(lambda _: target.copy_(source))})
    skipped |= failed
    return {
        "matmul_tflops": rates,
        "matmul_size": size,
        "copy_gbps": 2 * copied / times["copy"].median / 1e9 if times else None,
        "copy_bytes": copied,
        "skipped": skipped,
    }
