"""Says what to install when an optional package is missing, before any work is done."""

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


def require_matplotlib(what: str) -> None:
    """Raises ImportError, with the line to install it, if nothing can be drawn.

    Args:
        what: needs it, as the message calls it.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{what} needs matplotlib: pip install "fastmaze[plot]"') from error
