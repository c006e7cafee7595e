"""The core's own test program, csrc/tests, passes in an ordinary build."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.native.test_vectorised import ROOT, find_tool


def test_core_test_program(tmp_path: Path) -> None:
    cmake = find_tool("cmake")
    assert cmake, "this test needs cmake: pip install fastmaze[test]"
    options = ["-DFASTMAZE_PYTHON=OFF", "-DFASTMAZE_NATIVE_TEST=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (
        [cmake, "-S", str(ROOT), "-B", str(tmp_path), *options],
        [cmake, "--build", str(tmp_path), "-j", "2"],
        [str(tmp_path / "fastmaze_test")],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "baseline: ok" in done.stdout
