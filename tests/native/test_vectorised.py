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

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "csrc" / "tmaze_kernels.cpp"
STEP_VARIANTS = 18  # 3 views x with or without the time x 3 rules
# Bytes of a vector, and how many variants at least must use it. SSE2 alone lacks the shuffles to
# store rows of three floats from vectors, which the 3 variants [junction, cue, t] need.
WANTED = {"baseline": (16, 15), "avx2": (32, 18), "avx512": (64, 18)}


def find_tool(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


@pytest.fixture(scope="module")
def compile_commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command that builds the hot loops for each instruction set."""
    cmake = find_tool("cmake")
    assert cmake, "this test needs cmake: pip install fastmaze[test]"
    build = tmp_path_factory.mktemp("build")
    configure = [cmake, "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=Release"]
    subprocess.run([*configure, "-DFASTMAZE_PYTHON=OFF"], check=True, capture_output=True)
    entries = json.loads((build / "compile_commands.json").read_text())
    commands = {}
    for entry in entries:
        if entry["file"] == str(SOURCE):
            command = shlex.split(entry["command"])
            isa = next(c.split("=")[1] for c in command if c.startswith("-DFASTMAZE_ISA="))
            output = command.index("-o") + 1
            command[output] = str(build / f"{isa}.o")
            commands[isa] = command
    return commands


def report(command: list[str]) -> str:
    """What GCC says about the loops it vectorised."""
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True)
    if "Free Software Foundation" not in version.stdout:
        pytest.skip("reads the report of GCC; this build uses another compiler")
    said = subprocess.run(
        [*command, "-fopt-info-vec-optimized"], capture_output=True, text=True, check=True
    )
    return said.stderr + said.stdout


def loop_line(function: str) -> int:
    """Line of the loop in a function of the source."""
    lines = SOURCE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if re.search(rf"\b{function}\(", line))
    return next(i for i in range(start, len(lines)) if "for (int64_t i = 0" in lines[i]) + 1


@pytest.mark.parametrize("isa", WANTED)
def test_every_step_loop_is_vector_code(compile_commands: dict[str, list[str]], isa: str) -> None:
    if isa not in compile_commands:
        pytest.skip(f"this machine's build has no {isa} loops")
    text = report(compile_commands[isa])
    width, variants = WANTED[isa]
    for function, wanted in (("step", variants), ("draw_goals", 1)):
        pattern = (
            rf"tmaze_kernels\.cpp:{loop_line(function)}:\d+: optimized: +"
            rf"loop vectorized using {width} byte vectors"
        )
        assert len(re.findall(pattern, text)) >= wanted, f"{function} is not vector code:\n{text}"


def test_a_scalar_build_would_be_noticed(compile_commands: dict[str, list[str]]) -> None:
    """The test above can fail: with vectorisation off it finds nothing."""
    text = report([*compile_commands["baseline"], "-fno-tree-vectorize"])
    assert "loop vectorized" not in text
