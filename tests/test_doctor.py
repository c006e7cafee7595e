"""`doctor` tells the truth about what works, and what to install for what does not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fastmaze import doctor
from fastmaze.envs import backends


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
    assert findings["backends"].keys() == {"native", "numba", "reference"}
    assert all(state["works"] for state in findings["backends"].values()), findings["backends"]
    text = doctor.report(findings)
    for name, version in findings["versions"].items():
        assert name in text
        assert version is None or version in text


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
    assert any("reinstall" in line for line in findings["advice"])
