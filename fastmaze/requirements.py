"""Says what to install when an optional package is missing, before any work is done."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.util import find_spec
from typing import Final

TRAINING_PACKAGES: Final = ("torch", "safetensors", "tensorboard", "tqdm")


def require_training_packages() -> None:
    """Raises ImportError, with the line to install them, if packages are missing."""
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"training needs {', '.join(missing)}, not installed here: "
            'pip install "fastmaze[train]"'
        )


def require_matplotlib(what: str) -> None:
    """Raises ImportError, with the line to install it, if nothing can be drawn.

    Args:
        what: needs it, as the message calls it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{what} needs matplotlib: pip install "fastmaze[plot]"') from error


def require_trainer(module: str, *, extra: str, at_least: str, package: str) -> None:
    """Raises ImportError, with the line to install it, if a trainer is missing or too old.

    Args:
        module: needs it, e.g. "fastmaze.integrations.sb3".
        extra: FastMaze's extra that installs it, e.g. "sb3".
        at_least: the oldest version known to work, e.g. "2.3".
        package: the trainer as pip knows it, e.g. "stable-baselines3".
    """
    line = f'pip install "fastmaze[{extra}]"'
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise ImportError(f"{module} needs {package}, not installed here: {line}") from error
    if _numbers(found) < _numbers(at_least):
        raise ImportError(
            f"{module} needs {package} >= {at_least}, the oldest version known to work; found "
            f"{found}: {line}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" is (2, 13, 0), "3.0rc1" is (3, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()
