"""The compile gate: kernels keep their limits for sm_80 and sm_90, and a breach is seen.

Compiling happens in processes of their own: here, kernels are interpreted where no GPU is.
FASTMAZE_COMPILE_ALL=1 compiles every variant and not a sample: half an hour where nothing is
cached.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastmaze.bench import compile_ahead
from fastmaze.bench.compile import BenchConfig, covering
from fastmaze.bench.compile_ahead import Compiled
from fastmaze.bench.compile_limits import check, limits_for, per_score
from fastmaze.bench.machine_code import (
    MachineCode,
    hot_loop_length,
    parse_instructions,
    read_machine_code,
)
from fastmaze.cli import main
from fastmaze.kernels.variants import Variant

LOG = """\
ptxas info    : 11 bytes gmem
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized \
due to insufficient register resources for the wgmma pipeline in the function 'causal_forward'
ptxas info    : Compiling entry function 'causal_forward' for 'sm_90a'
ptxas info    : Function properties for causal_forward
    32 bytes stack frame, 44 bytes spill stores, 52 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
"""
INJECTED = """\
ptxas info    : (C7519) Potential Performance Loss: warpgroup.arrive is injected in around line \
1417 by compiler to allow use of registers in GMMA in function 'causal_forward'
ptxas info    : Function properties for causal_forward
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers
"""
# Two loops; in the inner one a wait may go to the far end, from where it comes back.
DISASSEMBLY = """\
\tcode for sm_90a
\t\tFunction : causal_forward
        /*0000*/                   LDC R1, c[0x0][0x28] ;            /* 0x00000a00ff017b82 */
                                                                     /* 0x000e700000000800 */
        /*0010*/               @P2 BRA 0x110 ;                       /* 0x00000000002c2947 */
        /*0020*/                   BSSY B0, 0x60 ;
        /*0030*/                   IADD3 R5, R5, 0x1, RZ ;
        /*0040*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R4 ;
        /*0050*/              @!P0 BRA 0x120 ;
        /*0060*/                   WARPGROUP.ARRIVE ;
        /*0070*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24, gsb0 ;
        /*0080*/                   ISETP.NE.AND P1, PT, R5, R6, PT ;
        /*0090*/               @P1 BRA 0x30 ;
        /*00a0*/                   IADD3 R7, R7, 0x1, RZ ;
        /*00b0*/                   HFMA2.MMA R7, -RZ, RZ, 0, 0 ;
        /*00c0*/               @P3 BRA 0x20 ;
        /*00d0*/                   UISETP.NE.AND UP0, UPT, UR5, URZ, UPT ;
        /*00e0*/                   BRA UP0, 0x100 ;
        /*00f0*/                   NOP ;
        /*0100*/                   EXIT ;
        /*0110*/                   EXIT ;
        /*0120*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R4 ;
        /*0130*/              @!P0 BRA 0x120 ;
        /*0140*/                   BRA 0x60 ;
        /*0150*/                   BRA 0x150;
"""
CODE = MachineCode(
    registers=200, spills=0, serialized=(), instructions=900, hgmma=8, hmma=0, loop=160
)


def variant(kernel: str = "causal_forward", q: str = "*bf16", **constants: Any) -> Variant:
    sizes = {"D": 64, "BLOCK_M": 128, "BLOCK_N": 64, "DROPOUT": False, "HAS_SEQLENS": False}
    function = SimpleNamespace(__name__=kernel, __module__="fastmaze.kernels.causal_forward")
    values = {**sizes, "PRECISION": "tf32", **constants}
    return Variant("straw", function, {"q": q}, values, {}, num_warps=4, num_stages=2)


def test_the_assemblers_words_are_understood() -> None:
    """Products that wait are serialized; a wait that was added is not that. Loads count, too."""
    code = read_machine_code(LOG, DISASSEMBLY)
    assert (code.registers, code.spills, code.serialized) == (255, 52, ("C7510",))
    assert read_machine_code(INJECTED, DISASSEMBLY).serialized == ()


def test_instructions_are_counted_by_kind() -> None:
    """HFMA2.MMA is no matrix product, for all its name."""
    code = read_machine_code(LOG, DISASSEMBLY)
    assert (code.instructions, code.hgmma, code.hmma) == (22, 1, 0)
    assert read_machine_code(LOG, DISASSEMBLY.replace("HGMMA", "HMMA")).hmma == 1


def test_the_hot_loop_is_the_innermost_with_matrix_products() -> None:
    """Nor the polling inside, nor the outer loop, nor the way back from the far end."""
    inner = range(0x30, 0xA0, 0x10)
    far_end = range(0x120, 0x150, 0x10)
    assert hot_loop_length(parse_instructions(DISASSEMBLY)) == len(inner) + len(far_end)
    without = DISASSEMBLY.replace("@P1 BRA 0x30", "@P1 BRA 0x100")
    outer = range(0x20, 0xD0, 0x10)
    assert hot_loop_length(parse_instructions(without)) == len(outer) + len(far_end)
    none = DISASSEMBLY.replace("HGMMA", "FFMA")
    assert hot_loop_length(parse_instructions(none)) == 0


@pytest.mark.parametrize(("log", "disassembly"), [("", DISASSEMBLY), (LOG, "code for sm_90a")])
def test_texts_of_another_form_are_refused(log: str, disassembly: str) -> None:
    """Else a new compiler's wording would read as a kernel without faults."""
    with pytest.raises(ValueError, match="expected"):
        read_machine_code(log, disassembly)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spills": 8}, "spills 8 bytes"),
        ({"serialized": ("C7510",)}, "C7510"),
        ({"hgmma": 0}, "0 HGMMA"),
        ({"hmma": 4}, "4 HMMA"),
        ({"loop": 1000}, "15.6"),
        ({"loop": 0}, "no hot loop"),
    ],
)
def test_a_breach_is_told(changes: dict[str, Any], said: str) -> None:
    """Each limit by itself, in an otherwise blameless kernel."""
    straw = variant()
    limits = limits_for(straw, "sm_90")
    assert check(straw, Compiled(CODE, 1000), limits) == []
    (line,) = check(straw, Compiled(replace(CODE, **changes), 1000), limits)
    assert said in line


@pytest.mark.parametrize(("arch", "shared"), [("sm_90", 232_448), ("sm_80", 101_376)])
def test_shared_memory_has_an_end(arch: compile_ahead.Arch, shared: int) -> None:
    straw = variant()
    limits = limits_for(straw, arch)
    code = replace(CODE, hgmma=8 * (arch == "sm_90"), hmma=8 * (arch == "sm_80"))
    assert check(straw, Compiled(code, shared), limits) == []
    (line,) = check(straw, Compiled(code, shared + 1), limits)
    assert "shared memory" in line
    (line,) = check(straw, Compiled(None, 0, "PTXASError: out of registers"), limits)
    assert "out of registers" in line


def test_instructions_of_a_score_are_those_of_a_thread() -> None:
    """160 instructions of 4 · 32 threads, for 128 · 64 scores."""
    assert per_score(variant(), CODE) == pytest.approx(160 * 4 * 32 / (128 * 64))
    assert per_score(variant(), replace(CODE, loop=0)) is None


def test_what_is_not_tuned_is_bounded_all_the_same() -> None:
    """Exact products spill; they must not spill more and more unseen."""
    straw = variant("causal_backward_dkv", q="*fp32", PRECISION="ieee", D=128)
    limits = limits_for(straw, "sm_90")
    assert not limits.tuned
    code = replace(CODE, hgmma=0, loop=0, spills=limits.spills)
    assert check(straw, Compiled(code, 1000), limits) == []
    assert check(straw, Compiled(replace(code, spills=code.spills + 1), 1000), limits)


def test_a_sample_holds_every_value() -> None:
    """Of every kernel, with fewer variants than all."""
    chosen = [
        variant(kernel, q, D=D, DROPOUT=dropout)
        for kernel in ("one", "two")
        for q in ("*bf16", "*fp32")
        for D in (16, 32, 64)
        for dropout in (False, True)
    ]
    sample = covering(chosen, by_kernel=True)
    assert len(sample) == 2 * 3
    for kernel in ("one", "two"):
        of_it = [v for v in sample if v.kernel.__name__ == kernel]
        assert {v.constexprs["D"] for v in of_it} == {16, 32, 64}
        assert {v.constexprs["DROPOUT"] for v in of_it} == {False, True}
        assert {v.signature["q"] for v in of_it} == {"*bf16", "*fp32"}
    assert len(covering(chosen, by_kernel=False)) == 3


@pytest.mark.parametrize("options", [{"arch": ()}, {"arch": ("sm_70",)}, {"jobs": 0}])
def test_wrong_options_are_told(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        BenchConfig(**options)


def test_a_filter_that_nothing_passes_is_told() -> None:
    """An empty table would look like limits kept."""
    done = compile_apart("--filter", "no such kernel")
    assert done.returncode == 2
    assert "no such kernel" in done.stderr


def test_interpreted_kernels_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert main(["bench", "compile"]) == 2
    assert "TRITON_INTERPRET" in capsys.readouterr().err


def compile_apart(
    *options: str, code: str = "pass", cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process that compiles; `code` goes before it."""
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    if cache is not None:
        environment["TRITON_CACHE_DIR"] = str(cache)
    program = f"import sys; from fastmaze.cli import main; {code}; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, "bench", "compile", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_limits_are_kept(tmp_path: Path) -> None:
    """The gate itself. A sample holds every kernel, dtype and width, with dropout and without."""
    everything = os.environ.get("FASTMAZE_COMPILE_ALL") == "1"
    json_path = tmp_path / "compile.json"
    options = [] if everything else ["--sample"]
    done = compile_apart("--jobs", "1", "--json", str(json_path), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(json_path.read_text())
    assert figures["failed"] == []
    names = {(row["arch"], row["name"]) for row in figures["rows"]}
    assert len(names) == len(figures["rows"])
    for arch, count in (("sm_80", 350), ("sm_90", 390)) if everything else ():
        assert sum(name[0] == arch for name in names) >= count
    on_hopper = " ".join(name for arch, name in names if arch == "sm_90")
    for word in ("forward", "dq", "dkv", "decode", "bf16", "fp16", "exact", "D=16", "D=32",
                 "D=64", "D=128", "dropout", "lengths"):  # fmt: skip
        assert word in on_hopper
    assert any(row["hmma"] for row in figures["rows"] if row["arch"] == "sm_80")


def test_a_bad_tile_fails(tmp_path: Path) -> None:
    """One warp for what takes four: it spills, and the matrix unit of Hopper is not used."""
    bad = (
        "import torch; from fastmaze.kernels import tiles;"
        "tiles._OVERRIDES['forward', torch.bfloat16, 128, False] = tiles.Tile(64, 64, 1, 2)"
    )
    options = ["--jobs", "1", "--arch", "sm_90", "--filter", "forward bf16 D=128 64x64"]
    done = compile_apart(*options, code=bad, cache=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: sm_90 forward bf16 D=128 64x64: spills" in done.stdout
    assert "0 HGMMA instructions" in done.stdout


def test_what_several_processes_compiled_is_remembered(tmp_path: Path) -> None:
    """A second look shows the same, and would fail if it compiled anything."""
    options = ["--arch", "sm_90", "--filter", "double_q_loss-backward-fp32"]
    first = compile_apart("--jobs", "2", *options, cache=tmp_path)
    no_compiler = "from triton import compiler; del compiler.ASTSource"
    second = compile_apart("--jobs", "1", *options, code=no_compiler, cache=tmp_path)
    assert first.returncode == second.returncode == 0, first.stdout + first.stderr + second.stderr
    shown = [
        [line for line in done.stdout.splitlines() if line.startswith("double_q_loss")]
        for done in (first, second)
    ]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 3  # two variants, and the worst of their kernel
