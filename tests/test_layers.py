"""Who may know whom: an import from a lower layer to a higher one is a fault."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fastmaze"

# The envs that need torch, and are imported when they are asked for.
DEVICE = tuple(
    f"envs.{name}"
    for name in ("backends.device", "backends.device_core", "backends.device_philox",
                 "backends.device_triton", "device")
)  # fmt: skip

_ENVS_BENCH = ("specs", "reference", "envs", "bench", "_native", "results")

# Module prefix -> what of FastMaze it may import. The first prefix that fits a module decides.
MAY_IMPORT = {
    "specs": ("specs",),
    "reference": ("specs", "reference"),
    **dict.fromkeys(DEVICE[:-1], ("specs", "reference", "envs.backends")),
    "envs.backends": ("specs", "reference", "envs.backends", "_native"),
    "envs.device": ("specs", "reference", "envs"),
    "envs": ("specs", "reference", "envs"),
    "integrations": ("specs", "reference", "envs", "integrations", "requirements"),
    # What measures the envs knows the envs alone; what measures kernels and updates, all of them.
    "bench.envs": _ENVS_BENCH,
    "bench.tasks": _ENVS_BENCH,
    "bench.env_turns": _ENVS_BENCH,
    "bench.contenders": _ENVS_BENCH,
    "bench.peers": _ENVS_BENCH,
    "bench.numpy_tmaze": _ENVS_BENCH,
    "bench.machine": _ENVS_BENCH,
    "bench.lengths": ("lengths", "bench", "results"),
    "bench": (*_ENVS_BENCH, "requirements", "kernels", "models", "agents", "training"),
    "lengths": ("specs", "reference", "lengths"),
    "models": ("kernels", "models", "_native"),
    "agents": ("kernels", "models", "agents"),
    "training": ("specs", "reference", "envs", "models", "agents", "training", "requirements"),
}
# The envs must fit beside anyone's trainer, and their core beside anyone's Gymnasium.
NEVER = {
    "specs": ("torch", "numba", "gymnasium"),
    "reference": ("torch", "numba", "gymnasium"),
    **dict.fromkeys(DEVICE, ("numba", "gymnasium")),
    "envs.backends": ("torch", "gymnasium"),
    "envs": ("torch", "numba"),
    "lengths": ("torch", "numba", "gymnasium"),
    "models": ("gymnasium",),
    "agents": ("gymnasium",),
}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def fits(module: str, prefixes: tuple[str, ...] | list[str]) -> str | None:
    return next((p for p in prefixes if module == p or module.startswith(p + ".")), None)


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    layer = fits(module, list(MAY_IMPORT))
    for name in imports(path):
        forbidden = NEVER.get(layer or "", ())
        assert not fits(name, forbidden), f"{module} must not import {name}"
        if layer and name.startswith("fastmaze."):
            inner = name.removeprefix("fastmaze.")
            assert fits(inner, MAY_IMPORT[layer]), f"{module} must not import {name}"
