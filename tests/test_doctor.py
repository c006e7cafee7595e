"""`doctor` tells the truth about what works, and what to install for what does not."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fastmaze import doctor
from fastmaze.envs import backends

ROOT = Path(__file__).parents[1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the backend that takes seconds to compile."""
    for module in (backends, doctor):
        monkeypatch.setattr(
            module, "BACKENDS", {k: v for k, v in backends.BACKENDS.items() if k != "numba"}
        )


def test_healthy_installation() -> None:
    """Every backend plays the specification's steps here, and the report says so."""
    findings = doctor.examine()
    assert findings["backends"].keys() == {"native", "numba", "device", "reference"}
    assert all(state["works"] for state in findings["backends"].values()), findings["backends"]
    text = doctor.report(findings)
    for name, version in findings["versions"].items():
        assert name in text
        assert version is None or version in text
    assert "  PassiveTMaze        native numba device reference\n" in text
    assert "  MiniGridMemory      native reference\n" in text
    packages = findings["versions"].keys() - {"python", "fastmaze"}
    assert all(importlib.metadata.version(name) for name in packages), "all are installed here"


@pytest.mark.usefixtures("quick")
def test_trainers_are_told_with_the_line_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = doctor.importlib.metadata.version

    def version(name: str) -> str:
        if name in doctor.TRAINERS and name != "torchrl":
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return "1.2.3" if name == "torchrl" else real(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    text = doctor.report(doctor.examine())
    assert "  torchrl             1.2.3\n" in text
    for package, extra in (("stable-baselines3", "sb3"), ("pufferlib-core", "pufferlib"),
                           ("ray", "rllib")):  # fmt: skip
        assert f'  {package:19} not installed: pip install "fastmaze[{extra}]"\n' in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for package, line in doctor.TRAINERS.items():
        extra = line.split("[")[1].split("]")[0]
        assert any(required.startswith(package) for required in extras[extra])


@pytest.mark.usefixtures("quick")
def test_missing_packages_come_with_the_line_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = doctor.importlib.metadata.version

    def version(name: str) -> str:
        if name in ("torch", "numba", "matplotlib"):
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    findings = doctor.examine()
    assert findings["versions"]["torch"] is None
    advice = "\n".join(findings["advice"])
    for extra in ("numba", "train", "plot"):
        assert f'pip install "fastmaze[{extra}]"' in advice
    assert advice in doctor.report(findings).replace("\n  ", "\n")


@pytest.mark.usefixtures("quick")
def test_broken_backends_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not load, and one whose steps are wrong."""
    from fastmaze.envs.backends.native import NativeBackend

    monkeypatch.setitem(sys.modules, "fastmaze.envs.backends.native", None)
    state = doctor.examine()["backends"]["native"]
    assert not state["works"]
    assert "ModuleNotFoundError" in state["detail"]
    monkeypatch.undo()

    def wrong(self: Any, spec: Any, *args: Any, **kwargs: Any) -> None:
        init(self, doctor_spec(spec), *args, **kwargs)

    def doctor_spec(spec: Any) -> Any:
        import dataclasses

        return dataclasses.replace(spec, penalty=-0.7)

    init = NativeBackend.__init__
    monkeypatch.setattr(NativeBackend, "__init__", wrong)
    findings = doctor.examine()
    assert not findings["backends"]["native"]["works"]
    assert "differ" in findings["backends"]["native"]["detail"]
    assert "FAILS" in doctor.report(findings)
    assert any(line.startswith("pip install -e .") for line in findings["advice"])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("cuda", "visible", "words"),
    [
        (None, None, "install torch's CUDA build"),
        ("12.8", None, "update the NVIDIA driver   # torch needs one for CUDA 12.8"),
        ("12.8", "", "unset CUDA_VISIBLE_DEVICES"),
    ],
)
@pytest.mark.parametrize("driver", [True, False])
def test_a_gpu_that_torch_cannot_use(
    cuda: str | None,
    visible: str | None,
    words: str,
    driver: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Another torch only where this one has no CUDA; nothing where there is no driver at all."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor, "_DRIVER", tmp_path if driver else tmp_path / "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    findings = doctor.examine()
    about_gpus = [line for line in findings["advice"] if "CUDA" in line or "NVIDIA" in line]
    assert len(about_gpus) == driver
    assert all(words in line for line in about_gpus)
    assert "none that torch can use" in doctor.report(findings)
