"""Says what to install when a package that training needs is missing."""

from __future__ import annotations

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
