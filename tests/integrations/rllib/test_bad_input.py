"""What FastMaze's runner refuses, and that the message says what would be right."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray's RLlib is missing: nox -s rllib")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

from tests.integrations.rllib.runners import make_config, make_runner  # noqa: E402

MODULE = "fastmaze.integrations.rllib"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_envs": 4}, ValueError, r"num_envs_per_env_runner"),
        ({"autoreset_mode": "SameStep"}, ValueError, r"'NextStep', got 'SameStep'"),
        ({"copy": False}, ValueError, r"copy=True"),
        ({"lenght": 5}, TypeError, r"did you mean 'length'"),
        ({"length": 0}, ValueError, r"length"),
        ({"backend": "cuda"}, ValueError, r"backend"),
        (
            {"env_offset": "a"},
            TypeError,
            r"\['env_offset'\]: expected an integer, got 'a'",
        ),
        ({"env_offset": -1}, ValueError, r"\['env_offset'\]: .*got -1"),
    ],
)
def test_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Options that the runner sets itself, or that are wrong, are named."""
    with pytest.raises(error, match=message):
        make_runner(make_config().environment(env_config=options))


@pytest.mark.parametrize("env", ["CartPole-v1", "PassiveTMaze-v0", lambda context: None])
def test_other_envs(env: Any) -> None:
    """The runner runs FastMaze's tasks alone, and says how they are called."""
    config = make_config()
    config.environment(env)
    with pytest.raises(ValueError, match=r"<Task>,.*fastmaze/PassiveTMaze-v0.*got"):
        make_runner(config)


def test_number_of_envs() -> None:
    with pytest.raises(ValueError, match="num_envs"):
        make_runner(make_config(num_envs=0))


def test_old_api_stack() -> None:
    """RLlib's old API stack has other runners."""
    config = make_config()
    config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    with pytest.raises(ValueError, match="new API stack"):
        make_runner(config)


@pytest.mark.parametrize(
    ("version", "message"),
    [("2.9.3", r"ray >= .*found 2\.9\.3.*fastmaze\[rllib\]"), (None, r"needs ray, not installed")],
)
def test_ray_missing_or_old(
    monkeypatch: pytest.MonkeyPatch, version: str | None, message: str
) -> None:
    """The message has the line to install it."""
    find = metadata.version

    def fake(package: str) -> str:
        if package != "ray":
            return find(package)
        if version is None:
            raise metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(metadata, "version", fake)
    monkeypatch.delitem(sys.modules, MODULE)
    with pytest.raises(ImportError, match=message):
        import_module(MODULE)
