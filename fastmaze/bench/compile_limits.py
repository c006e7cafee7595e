"""What the machine code of a kernel may look like: all limits of `fastmaze bench compile`."""

from __future__ import annotations

from typing import Final, NamedTuple

from fastmaze.bench.compile_ahead import Arch, Compiled
from fastmaze.bench.machine_code import MachineCode
from fastmaze.kernels.variants import Variant

SHARED: Final[dict[Arch, int]] = {
    "sm_90": 232_448,
    # Of the smaller GPUs with these instructions; an A100 has more.
    "sm_80": 101_376,
}
"""Bytes of shared memory that a program may use."""

PER_SCORE: Final[dict[tuple[str, str, bool], tuple[float, float, float, float]]] = {
    # On sm_90, where dropout must stay cheap: kernel, what it multiplies, dropout -> D = 16, 32,
    # 64, 128. A tenth above the most of what Triton 3.6.0 and 3.7.1 make.
    ("causal_forward", "half", False): (7.1, 7.4, 7.7, 8.4),
    ("causal_forward", "half", True): (17.1, 17.3, 17.6, 18.4),
    ("causal_forward", "tf32", False): (12.9, 13.4, 15.4, 26.3),
    ("causal_forward", "tf32", True): (24.5, 24.7, 26.5, 37.6),
    ("causal_backward_dq", "half", False): (8.1, 8.3, 8.5, 9.9),
    ("causal_backward_dq", "half", True): (16.4, 16.6, 16.9, 18.3),
    ("causal_backward_dq", "tf32", False): (16.4, 17.5, 20.5, 27.4),
    ("causal_backward_dq", "tf32", True): (27.2, 28.3, 30.8, 37.8),
    ("causal_backward_dkv", "half", False): (11.6, 11.6, 11.8, 14.0),
    ("causal_backward_dkv", "half", True): (24.0, 24.0, 24.3, 31.5),
    ("causal_backward_dkv", "tf32", False): (22.3, 24.2, 30.0, 36.4),
    ("causal_backward_dkv", "tf32", True): (36.3, 37.0, 42.6, 65.2),
}
"""Instructions of the hot loop for each score, at most."""

SPILLS: Final[dict[tuple[Arch, str, str, int], int]] = {
    # Architecture, kernel, what it multiplies, D.
    ("sm_80", "causal_forward", "half", 128): 100,
    ("sm_80", "causal_forward", "tf32", 128): 500,
    ("sm_80", "causal_backward_dq", "half", 128): 450,
    ("sm_80", "causal_backward_dq", "tf32", 64): 60,
    ("sm_80", "causal_backward_dq", "tf32", 128): 400,
    ("sm_80", "causal_backward_dkv", "half", 128): 250,
    ("sm_80", "causal_backward_dkv", "tf32", 128): 350,
    ("sm_90", "causal_backward_dq", "exact", 128): 700,
    ("sm_90", "causal_backward_dkv", "exact", 128): 1100,
}
"""Bytes that a thread may spill, where no tile without spills is known; `SLACK` everywhere else."""

SLACK: Final[dict[Arch, int]] = {"sm_90": 0, "sm_80": 16}
"""Bytes that a thread may spill anywhere. Sizes are chosen for sm_90; on sm_80 a few kernels spill
4 or 8 bytes, others with each version of the compiler."""

_WIDTHS: Final = (16, 32, 64, 128)


class Limits(NamedTuple):
    """Bounds of one variant."""

    tuned: bool
    """Whether its sizes fit the registers; if not, its spills are only kept from growing."""
    spills: int
    """Bytes of a thread."""
    shared: int
    """Bytes of a program."""
    matrix: str
    """The matrix instruction that must occur, the other must not; "" where either may."""
    per_score: float | None
    """Instructions of a thread for each of its scores."""


def limits_for(variant: Variant, arch: Arch) -> Limits:
    """The bounds of one variant."""
    kernel, kind = variant.kernel.__name__, _kind(variant)
    if kind == "none":
        return Limits(True, SLACK[arch], SHARED[arch], "", None)
    matrix = "" if kind == "exact" else "HGMMA" if arch == "sm_90" else "HMMA"
    if not kernel.startswith("causal_"):
        return Limits(True, SLACK[arch], SHARED[arch], matrix, None)
    D, dropout = variant.constexprs["D"], variant.constexprs["DROPOUT"]
    spills = SPILLS.get((arch, kernel, kind, D))
    bounds = PER_SCORE.get((kernel, kind, dropout)) if arch == "sm_90" else None
    score = None if bounds is None else bounds[_WIDTHS.index(D)]
    return Limits(spills is None, spills or SLACK[arch], SHARED[arch], matrix, score)


def _kind(variant: Variant) -> str:
    """What the matrix products of a variant take: "half", "tf32" or "exact"; "none" without any."""
    if "PRECISION" not in variant.constexprs:
        return "none"
    if "*fp32" not in (variant.signature.get("q"), variant.signature.get("x")):
        return "half"
    return "exact" if variant.constexprs["PRECISION"] == "ieee" else "tf32"


def check(variant: Variant, compiled: Compiled, limits: Limits) -> list[str]:
    """What is wrong with a variant, in words."""
    code = compiled.code
    if code is None:
        return [f"does not compile: {compiled.error}"]
    wrong = []
    if code.spills > limits.spills:
        wrong.append(f"spills {code.spills} bytes, allowed are {limits.spills}")
    if compiled.shared > limits.shared:
        wrong.append(f"{compiled.shared:,} bytes of shared memory, there are {limits.shared:,}")
    if code.serialized:
        wrong.append(f"matrix products wait for each other ({', '.join(code.serialized)})")
    counts = {"HGMMA": code.hgmma, "HMMA": code.hmma}
    for opcode, count in counts.items() if limits.matrix else ():
        if (count > 0) != (opcode == limits.matrix):
            wrong.append(f"{count} {opcode} instructions, expected only {limits.matrix}")
    score = per_score(variant, code)
    if limits.per_score is not None and (score is None or score > limits.per_score):
        found = "no hot loop was found" if score is None else f"{score:.1f}"
        wrong.append(f"instructions per score: {found}, allowed are {limits.per_score}")
    return wrong


def per_score(variant: Variant, code: MachineCode) -> float | None:
    """Instructions that a thread spends in the hot loop on each of its scores; None without one."""
    sizes = variant.constexprs
    if not code.loop or "BLOCK_M" not in sizes:
        return None
    scores: int = sizes["BLOCK_M"] * sizes["BLOCK_N"]
    return code.loop * 32 * variant.num_warps / scores
