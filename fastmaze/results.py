"""Results as JSON, for `--json PATH`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def check_json_path(path: Path | None) -> None:
    """Refuses a path that cannot be written, before a long measurement rather than after it.

    Raises:
        ValueError: it is a directory, lies in none, or must not be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"--json: expected a file to write, got the directory {path}")
    if not path.parent.is_dir():
        raise ValueError(f"--json: there is no directory {path.parent}")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"--json: the file {path} is read-only")
    if not path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"--json: nothing may be written into the directory {path.parent}")


def write_json(path: Path | None, values: dict[str, Any]) -> None:
    """Writes the values, with paths as strings; nothing where `path` is None."""
    if path is not None:
        path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
