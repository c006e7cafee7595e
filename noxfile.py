"""FastMaze inside other trainers, each in an environment of its own with pinned versions.

nox -l                  what there is
nox -s sb3              its tests, which train an agent to success
nox -s sb3 -- steps     instead: env steps/s in its own collection loop
nox -s sb3 -- -k cue    instead: some of the tests

A trainer is a folder of tests/integrations with a requirements.txt, and a script of its name in
benchmarks/plug_ins.
"""

from __future__ import annotations

from pathlib import Path

import nox

TESTS = Path("tests/integrations")
TRAINERS = sorted(path.parent.name for path in TESTS.glob("*/requirements.txt"))

nox.options.envdir = ".venv-plug-ins"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True


def plug_in(session: nox.Session) -> None:
    """Installs a trainer and FastMaze, and runs its tests, or with `-- steps` measures it."""
    trainer = session.name
    session.install(
        "-Cbuild-dir=build/plug-ins", "-e", ".", "-r", str(TESTS / trainer / "requirements.txt"),
        "pytest", "pytest-benchmark", "hypothesis",
    )  # fmt: skip
    # What has to be compiled against the packages that are now there.
    source = TESTS / trainer / "requirements-source.txt"
    if source.exists():
        no_cuda = {"PUFFERLIB_DISABLE_CUDA": "1"}
        session.install("--no-build-isolation", "-r", str(source), env=no_cuda)
    if session.posargs[:1] == ["steps"]:
        script = f"benchmarks.plug_ins.{trainer}"
        session.run("python", "-m", script, *session.posargs[1:])
    else:
        session.run("python", "-m", "pytest", str(TESTS / trainer), *session.posargs)


for name in TRAINERS:
    nox.session(plug_in, name=name)
