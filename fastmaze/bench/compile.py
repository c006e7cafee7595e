"""`fastmaze bench compile`: the machine code of every kernel variant, without a GPU.

Compiles the kernels for the GPUs they are written for, shows registers, spills, shared memory,
matrix instructions and instructions per score, and fails where a limit is passed. The limits are
in `compile_limits`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from fastmaze.bench.compile_ahead import ARCHS, Arch, Compiled, compile_all, variants
from fastmaze.bench.compile_limits import check, limits_for, per_score
from fastmaze.bench.machine import describe
from fastmaze.kernels.variants import Variant
from fastmaze.results import check_json_path, write_json
from fastmaze.specs import check_integer

_MAIN: Final = (("q", "PRECISION"), ("D",), ("DROPOUT",), ("HAS_SEQLENS",))
"""Arguments, some of them together, whose every value a sample holds."""
_HEAD: Final = (
    f"{'':48} {'warps':>5} {'regs':>5} {'spill':>6} {'shared':>8} {'HGMMA':>5} {'HMMA':>5}"
    f" {'code':>6} {'per score':>9}"
)


@dataclass(frozen=True)
class BenchConfig:
    """What to compile.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of range.
    """

    arch: tuple[Literal["sm_80", "sm_90"], ...] = ARCHS
    """Architectures: sm_80 is Ampere, sm_90 Hopper."""
    filter: str = ""
    """Only variants whose name holds this, e.g. "backward_dkv fp32 D=128"."""
    sample: bool = False
    """Only a few: every kernel with every type and width that it has, with and without dropout and
    lengths, though not in every combination; on sm_80 fewer still."""
    jobs: int | None = None
    """Processes that compile at the same time. Default: one for each core."""
    json: Path | None = None
    """File to write all figures to."""

    def __post_init__(self) -> None:
        if not self.arch or not set(self.arch) <= set(ARCHS):
            raise ValueError(f"arch: expected of {ARCHS}, got {self.arch!r}")
        if self.jobs is not None:
            check_integer("jobs", self.jobs, 1, 1024)


def run(config: BenchConfig) -> dict[str, Any]:
    """Compiles, prints the table, and returns (and writes) all figures.

    Returns:
        "rows", one for each variant, and "failed", what is wrong with those that pass a limit.
    """
    check_json_path(config.json)
    wanted = _wanted(config)
    if not wanted:
        raise ValueError(f"filter: no variant's name holds {config.filter!r}")
    import triton

    head = describe()
    print(f"Triton {triton.__version__}, commit {head['commit']}, {len(wanted)} variants")
    jobs = config.jobs or len(os.sched_getaffinity(0))
    found: dict[tuple[Arch, str], Compiled] = {}
    started = time.monotonic()
    for arch, name, compiled in compile_all(wanted, jobs):
        found[arch, name] = compiled
        _show_progress(f"{len(found)} of {len(wanted)}: {arch} {name}")
    _show_progress("")
    rows = [judge(variants(arch)[name], arch, found[arch, name]) for arch, name in wanted]
    for arch in dict.fromkeys(arch for arch, _ in wanted):
        print_table(arch, [row for row in rows if row["arch"] == arch])
    failed = [f"{r['arch']} {r['name']}: {line}" for r in rows for line in r["failures"]]
    print(f"\n{time.monotonic() - started:.0f} s")
    print("\n".join(f"FAILED: {line}" for line in failed) or "all limits kept")
    figures = {
        "config": vars(config),
        "machine": head | {"triton": triton.__version__},
        "command": "fastmaze " + " ".join(sys.argv[1:]),
        "rows": rows,
        "failed": failed,
    }
    write_json(config.json, figures)
    return figures


def judge(variant: Variant, arch: Arch, compiled: Compiled) -> dict[str, Any]:
    """One row: figures, limits, and what is wrong."""
    limits = limits_for(variant, arch)
    row: dict[str, Any] = {
        "arch": arch,
        "name": variant.name,
        "kernel": _kernel_of(variant),
        "num_warps": variant.num_warps,
        "num_stages": variant.num_stages,
        "limits": limits._asdict(),
        "failures": check(variant, compiled, limits),
    }
    if compiled.code is None:
        return row
    figures = asdict(compiled.code) | {"shared": compiled.shared}
    return row | figures | {"per_score": per_score(variant, compiled.code)}


def print_table(arch: Arch, rows: list[dict[str, Any]]) -> None:
    """All variants of an architecture, then the worst of each kernel."""
    print(
        f"\n{arch}: registers and spilled bytes of a thread, bytes of shared memory, matrix"
        f"\ninstructions, instructions in all, and those of the hot loop per score\n{_HEAD}"
    )
    for row in rows:
        print(f"{row['name']:48} {_cells(row)}")
    print(f"\n{arch}, the worst of each kernel\n{_HEAD}")
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        for tuned in (True, False):
            chosen = [
                row for row in rows
                if row["kernel"] == kernel and row["limits"]["tuned"] == tuned and "loop" in row
            ]  # fmt: skip
            if chosen:
                print(f"{f'{kernel}, {len(chosen)} variants':48} {_cells(_worst(chosen))}")


def _worst(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("num_warps", "registers", "spills", "shared", "instructions", "per_score")
    worst = {name: max(row[name] or 0 for row in rows) for name in names}
    # Of matrix instructions, few of the right kind would be bad, and many of the wrong one.
    worst["hgmma"] = min(row["hgmma"] for row in rows)
    worst["hmma"] = max(row["hmma"] for row in rows)
    failures = [line for row in rows for line in row["failures"]]
    return worst | {"limits": rows[0]["limits"], "failures": failures}


def _cells(row: dict[str, Any]) -> str:
    remarks = [] if row["limits"]["tuned"] else ["not tuned"]
    remarks += [f"FAILED: {line}" for line in row["failures"]]
    said = "  " + "; ".join(remarks) if remarks else ""
    if "registers" not in row:
        return said
    score = f"{row['per_score']:>9.1f}" if row["per_score"] else f"{'':9}"
    return (
        f"{row['num_warps']:>5} {row['registers']:>5} {row['spills']:>6} {row['shared']:>8,}"
        f" {row['hgmma']:>5} {row['hmma']:>5} {row['instructions']:>6,} {score}{said}"
    )


def _wanted(config: BenchConfig) -> list[tuple[Arch, str]]:
    wanted: list[tuple[Arch, str]] = []
    for arch in config.arch:
        chosen = [v for v in variants(arch).values() if config.filter in v.name]
        if config.sample:
            chosen = covering(chosen, by_kernel=arch == "sm_90")
        wanted += [(arch, variant.name) for variant in chosen]
    return wanted


def covering(chosen: Iterable[Variant], *, by_kernel: bool) -> list[Variant]:
    """A few variants in which every value of the main arguments occurs, the richest first.

    Args:
        chosen: of which.
        by_kernel: whether every kernel must occur, with all values that it has.
    """
    left = list(chosen)[::-1]  # the widest, with dropout, come last and are the hardest
    taken: list[Variant] = []
    covered: set[tuple[str, ...]] = set()
    while left:
        gains = [len(_values(v, by_kernel) - covered) for v in left]
        best = gains.index(max(gains))
        if not gains[best]:
            break
        taken.append(left.pop(best))
        covered |= _values(taken[-1], by_kernel)
    return taken


def _values(variant: Variant, by_kernel: bool) -> set[tuple[str, ...]]:
    """What a variant has of the main arguments, as (kernel, argument, value, …)."""
    kernel = _kernel_of(variant) if by_kernel else ""
    values = variant.signature | variant.constexprs
    return {(kernel, *names, *(str(values.get(n)) for n in names)) for names in _MAIN}


def _kernel_of(variant: Variant) -> str:
    """Kernel with its module: some of them have the same name."""
    module = variant.kernel.__module__.rpartition(".")[2].removesuffix("_triton")
    return f"{module}.{variant.kernel.__name__}"


def _show_progress(said: str) -> None:
    """One line that replaces the last, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{said[:100]}", end="", file=sys.stderr, flush=True)
