"""The hot loops are vector code in every build: the compiler's own report says so.

A scalar loop would pass every other test and run at a quarter of the speed. This test configures
the project as an install does, takes the very compile commands of the loops, and asks the compiler
to report what it vectorised.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
ISAS = {"baseline": 16, "avx2": 32, "avx512": 64}
"""Instruction set to the bytes of its vectors."""


class Loop(NamedTuple):
    """One loop of the core, and in how many variants at least it must be vector code."""

    source: str
    """What is compiled."""
    file: str
    """Where the loop stands."""
    function: str
    wanted: dict[str, int]


# SSE2 alone lacks the shuffles to store rows of three floats from vectors: the three T-Mazes that
# show [junction, cue, t], and Memory Length.
LOOPS = [
    # 3 views x with or without the time x 3 rules.
    Loop("tmaze_kernels.cpp", "tmaze_kernels.cpp", "step",
         {"baseline": 15, "avx2": 18, "avx512": 18}),
    Loop("tmaze_kernels.cpp", "tmaze_kernels.cpp", "draw_goals", dict.fromkeys(ISAS, 1)),
    # Memory Length as usual, Repeat First, 4 corridor mazes (2 show three bits), 2 of T-Maze Long,
    # 2 of Umbrella Length, HeavenHell.
    Loop("plain_tasks.cpp", "plain_loops.hpp", "move_run",
         {"baseline": 5, "avx2": 11, "avx512": 11}),
    # For every class with kMomentDraws.
    Loop("plain_tasks.cpp", "plain_loops.hpp", "draw_moments", dict.fromkeys(ISAS, 9)),
    # For each of 3 action types of every class.
    Loop("plain_tasks.cpp", "plain_loops.hpp", "narrow_from", dict.fromkeys(ISAS, 54)),
]  # fmt: skip


def find_tool(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


@pytest.fixture(scope="module")
def compile_commands(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], list[str]]:
    """The command that builds each source of hot loops for each instruction set."""
    cmake = find_tool("cmake")
    assert cmake, "this test needs cmake: pip install fastmaze[test]"
    build = tmp_path_factory.mktemp("build")
    configure = [cmake, "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release"]
    subprocess.run([*configure, "-DFASTMAZE_PYTHON=OFF"], check=True, capture_output=True)
    entries = json.loads((build / "compile_commands.json").read_text())
    commands = {}
    for entry in entries:
        command = shlex.split(entry["command"])
        isa = next((c.split("=")[1] for c in command if c.startswith("-DFASTMAZE_ISA=")), None)
        if isa:
            source = Path(entry["file"]).name
            output = command.index("-o") + 1
            command[output] = str(build / f"{source}.{isa}.o")
            commands[source, isa] = command
    return commands


@pytest.fixture(scope="module")
def reports(compile_commands: dict[tuple[str, str], list[str]]) -> dict[tuple[str, str], str]:
    """What GCC says about the loops that it vectorised."""
    return {key: report(command) for key, command in compile_commands.items()}


def report(command: list[str]) -> str:
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True)
    if "Free Software Foundation" not in version.stdout:
        pytest.skip("reads the report of GCC; this build uses another compiler")
    said = subprocess.run(
        [*command, "-fopt-info-vec-optimized"], capture_output=True, text=True, check=True
    )
    return said.stderr + said.stdout


def loop_line(loop: Loop) -> int:
    """Line of the last loop over envs or actions in a function."""
    lines = (CSRC / loop.file).read_text().splitlines()
    start = next(
        i
        for i, line in enumerate(lines)
        if re.match(rf"\s*(\[\[\S+\]\] |static )*(?!return)\w+ {loop.function}\(", line)
    )
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = next(i for i in range(start, len(lines)) if lines[i] == " " * indent + "}")
    return max(i for i in range(start, end) if "for (int64_t i = 0" in lines[i]) + 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: f"{loop.source}-{loop.function}")
def test_every_step_loop_is_vector_code(
    reports: dict[tuple[str, str], str], loop: Loop, isa: str
) -> None:
    if (loop.source, isa) not in reports:
        pytest.skip(f"this machine's build has no {isa} loops")
    pattern = (
        rf"{re.escape(loop.file)}:{loop_line(loop)}:\d+: optimized: +"
        rf"loop vectorized using {ISAS[isa]} byte vectors"
    )
    text = reports[loop.source, isa]
    found = len(re.findall(pattern, text))
    assert found >= loop.wanted[isa], f"{loop.function} is not vector code:\n{text}"


def test_a_scalar_build_would_be_noticed(
    compile_commands: dict[tuple[str, str], list[str]],
) -> None:
    """The test above can fail: with vectorisation off it finds nothing."""
    command = compile_commands["tmaze_kernels.cpp", "baseline"]
    assert "loop vectorized" not in report([*command, "-fno-tree-vectorize"])


def test_nothing_leaks_out_of_an_instruction_set(
    reports: dict[tuple[str, str], str], compile_commands: dict[tuple[str, str], list[str]]
) -> None:
    """A shared inline function, if the linker took its AVX-512 copy, would end older machines."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not here")
    for (source, isa), command in compile_commands.items():
        output = command[command.index("-o") + 1]
        said = subprocess.run(
            [nm, "--defined-only", "--extern-only", output],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        names = [line.split()[-1] for line in said.stdout.splitlines()]
        assert any(f"isa_{isa}" in name for name in names)
        # The reference to C++'s own handler of exceptions is data.
        leaked = [n for n in names if f"isa_{isa}" not in n and not n.startswith("DW.ref.")]
        assert not leaked, f"{source} for {isa}: {leaked}"
