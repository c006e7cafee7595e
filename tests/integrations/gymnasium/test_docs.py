"""The code under "Gymnasium" in docs/plug-ins.md runs as it stands."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import pytest

from tests.integrations.snippets import run_snippet, snippets


def test_code_in_the_docs(tmp_path: Path) -> None:
    if tuple(map(int, gymnasium.__version__.split(".")[:2])) < (1, 2):
        pytest.skip("DictInfoToList of 1.1 cannot take apart what RecordEpisodeStatistics adds")
    (code,) = snippets("Gymnasium")
    assert run_snippet(code, tmp_path) == "1.0 True\n"
