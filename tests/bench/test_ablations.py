"""Protects the ablations: an option that `train` does not know would end them half-way."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tyro

from fastmaze.commands.train import Options

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ablations" / "leave_one_out.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("leave_one_out", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["leave_one_out"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("maze", ["passive", "active"])
def test_each_setting_differs_from_the_default_in_what_it_says(
    script: ModuleType, maze: str
) -> None:
    configs = {
        name: tyro.cli(Options, args=[*script.MAZES[maze], *options]).config
        for name, options in script.settings(maze).items()
    }
    default = configs.pop("the default")
    assert len(configs) > 20
    for name, config in configs.items():
        assert config.hyper != default.hyper, name
    assert len({str(config.hyper) for config in configs.values()}) == len(configs), "no two alike"
