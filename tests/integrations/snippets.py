"""The code in docs/plug-ins.md, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def snippets(heading: str) -> list[str]:
    """The Python blocks of a section of docs/plug-ins.md; there is at least one."""
    text = (ROOT / "docs" / "plug-ins.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    found = re.findall(r"```python\n(.*?)```", sections[heading], re.DOTALL)
    assert found, f"no Python under the heading {heading!r}"
    return found


def run_snippet(code: str, directory: Path, timeout: float = 600) -> str:
    """Runs it in an empty directory, and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
