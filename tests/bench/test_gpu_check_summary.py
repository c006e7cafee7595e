"""The page says what the results say, whatever of them there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastmaze.bench.gpu_check_parts import result_path, write_atomically
from fastmaze.bench.gpu_check_summary import summarize

_HEAD: dict[str, Any] = {"reduced": False, "complete": True}


def row(what: str, name: str, ms: float, **more: Any) -> dict[str, Any]:
    rate = {"gbps": 4000.0} if what == "decode" else {"tflops": 300.0}
    kind = {"precision": "bf16", "head_dim": 64, "dropout": 0.1, "length": 4096, "batch": 64}
    return {"pass": what, "name": name, "milliseconds": ms, **kind, **rate, **more}


RESULTS: dict[str, dict[str, Any]] = {
    "machine": {
        "machine": {
            "cpu": "Some CPU", "cores": 16, "date": "2026-01-01", "commit": "abc1234",
            "versions": {"torch": "2.11.0", "numba": None},
            "device": {"name": "NVIDIA H200", "device": "cuda", "multiprocessors": 132},
        },
        "ceilings": {"matmul_tflops": {"bf16": 788.0}, "copy_gbps": 4300.0},
    },
    "correctness": {
        "note": "kernels in Triton", "checked": 9, "planned": 10, "failures": ["T=65 is off"],
        "stopped": "out of time: 1 of 10 not checked", "worst": {"bf16 out": 0.5, "bf16 dq": 0.75},
    },
    "sanitizer": {"tools": {"memcheck": "clean"}, "failures": []},
    "envs": {"checked": 21, "planned": 22, "failures": ["another reward"], "rows": [
        {"num_envs": 65536, "impl": "triton", "microseconds": 1.5, "steps_per_second": 4.0e10,
         "bytes_per_step": 54, "gbps": 2160.0, "copy_gbps": 2700.0, "share_of_copy": 0.8},
        {"num_envs": 65536, "impl": "torch", "skipped": "no graph"},
    ]},
    "tuning": {"groups": [
        {"kernel": "forward", "precision": "bf16", "head_dim": 64, "dropout": True,
         "best": [128, 64, 8, 3], "default": [128, 64, 4, 3], "gain": 1.25},
    ]},
    "attention": {
        "tuned": 1,
        "drop_rates": [{"name": "sdpa cudnn", "precision": "bf16", "asked": 0.1, "rate": 0.125,
                        "scale": 1.1429}],
        "rows": [row("both", "fastmaze", 2.0), row("both", "sdpa flash", 3.0),
                 row("both", "sdpa cudnn", 5.0), row("both", "fastmaze blockwise", 1.0),
                 {**row("both", "flex", 0.0), "skipped": "has no dropout"}],
    },
    "update": {"rows": [
        {"length": 1500, "precision": "bf16", "dropout": 0.0, "impl": "auto", "batch": 64,
         "milliseconds": 1.12, "stages": {"forward": 0.5, "backward": 0.5, "optimizer": 0.12},
         "tokens_per_second": 85.7e6, "over_lower_bound": 2.0},
        {"length": 10_000, "precision": "tf32", "dropout": 0.0, "impl": "torch",
         "skipped": "out of memory with one sequence"},
    ]},
    "fusions": {"rows": [
        {"name": "LayerNorm", "size": "B = 64", "milliseconds": {"fused": 1.0, "eager": 1.5},
         "skipped": {"compiled": "no compiler"}, "speedup": 1.5},
    ]},
}  # fmt: skip


def write(out: Path, results: dict[str, dict[str, Any]]) -> None:
    for name, values in results.items():
        write_atomically(result_path(out, name), {**_HEAD, **values})


def test_every_part_is_told(tmp_path: Path) -> None:
    write(tmp_path, RESULTS)
    page = summarize(tmp_path, "fastmaze bench gpu-check --out x")
    for words in (
        "`fastmaze bench gpu-check --out x`",
        "NVIDIA H200",
        "commit abc1234",
        "bf16 788",
        "copy 4,300 GB/s",
        "**FAILED** T=65 is off",
        "9 of 10 cases, 1 failures",
        "1 of 10 not checked",
        "| bf16 | 0.75 | 0.50 |",
        "memcheck: clean",
        "21 of 22 checks, 1 failures",
        "| 65,536 | triton | 1.5 | 4e+04 | 2.16e+03 of 2.7e+03 | 0.80 |",
        "| 65,536 | torch | no graph |",
        "| forward | bf16 | 64 | 0.1 | [128, 64, 8, 3] | [128, 64, 4, 3] | 1.25 |",
        "sdpa cudnn is 0.1250",
        "| 1.50 |",  # 3 ms of the fastest other over our 2; our own fallback is no other
        "2.0 × bound",
        "out of memory with one sequence",
        "1.5 ms | no compiler | 1.50 |",
    ):
        assert words in page, words
    assert "not complete" not in page
    assert "figures mean nothing" not in page


def test_half_results_make_a_page_too(tmp_path: Path) -> None:
    """A part that was killed has left little; the reader is told."""
    write(tmp_path, {name: {} for name in RESULTS})
    page = summarize(tmp_path, "x")
    assert page.count("not complete") == len(RESULTS)
    write(tmp_path, {"machine": {"error": "Traceback\nRuntimeError: no GPU\n", "reduced": True}})
    page = summarize(tmp_path, "x")
    assert "**ERROR** `RuntimeError: no GPU`" in page
    assert "figures mean nothing" in page


def test_without_results_there_is_a_page(tmp_path: Path) -> None:
    assert summarize(tmp_path, "x").startswith("# gpu-check")
