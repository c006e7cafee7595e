"""README's code runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[0][:40])
def test_python_block_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_python_blocks() -> None:
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("line", sorted({x for b in blocks("bash") for x in b.splitlines()}))
def test_command_exists(line: str) -> None:
    """Every command shown is one that the command line or the Makefile knows."""
    command = line.split("#")[0].split()
    if not command:
        return
    if command[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert command[1] in targets
    elif command[0] == "fastmaze":
        words = [command[1]] if command[1] != "bench" else command[1:3]
        done = subprocess.run(
            [sys.executable, "-m", "fastmaze", *words, "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        for option in (w for w in command if w.startswith("--")):
            assert option in done.stdout, f"{option} is not an option of {words}"
    else:
        assert command[0] in ("pip", "git", "cd", "python", "tensorboard", "nox"), line


LINKS = [
    (page, target)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=lambda x: x if isinstance(x, str) else x.name
)
def test_link_leads_to_a_file(page: Path, target: str) -> None:
    assert (page.parent / target).exists()
