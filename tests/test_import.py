"""`import fastmaze` is light: neither torch nor numba, and not much of a wait."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "numba", "matplotlib", "triton", "tensorboard", "tqdm", "tyro", "safetensors")


def modules_after(code: str) -> set[str]:
    said = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.split())


def test_import_pulls_in_nothing_heavy() -> None:
    assert not modules_after("import fastmaze").intersection(HEAVY)


def test_making_native_envs_pulls_in_nothing_heavy() -> None:
    code = "import fastmaze; fastmaze.make_vec('PassiveTMaze', num_envs=2, length=5).reset(seed=0)"
    assert not modules_after(code).intersection(HEAVY)
