"""The parent's side of a contender's process, see `update_turns`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from fastmaze.bench.contenders import Unavailable
from fastmaze.bench.update_turns import Figures


class Contender:
    """A process that takes a turn when asked; ends with the context.

    Args:
        name: as in the tables.
        command: the process.
        setting: what to set up.
        threads: for the libraries that ask the environment.

    Raises:
        Unavailable: on entering: it cannot be set up; the message says why.
    """

    def __init__(self, name: str, command: list[str], setting: Figures, threads: int) -> None:
        self.name, self.threads = name, threads
        self.facts: Figures = {}
        """What it said of itself."""
        self._setting = setting
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment, "PYTHONWARNINGS": "ignore"},
        )

    def __enter__(self) -> Contender:
        try:
            self.facts = self._ask(self._setting)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def turn(self, what: str) -> Figures:
        """What the contender measured.

        Raises:
            Unavailable: it failed, or its process died.
        """
        return self._ask(what)

    def _ask(self, question: Figures | str) -> Figures:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise Unavailable("its process has no pipes")
        try:
            stdin.write(json.dumps(question, default=str) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Unavailable(f"its process ended with status {self._process.wait()}")
        answer: Figures = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


def ours(
    name: str, config: dict[str, Any], precision: str, threads: int, *, practised: bool = False
) -> Contender:
    """FastMaze with fields of `TrainConfig`, on random episodes or those of a practised agent."""
    command = [sys.executable, "-m", "fastmaze.bench.update_ours"]
    setting = {"config": config, "precision": precision, "threads": threads, "practised": practised}
    return Contender(name, command, setting, threads)


def published(
    name: str, python: str, checkout: Path, threads: int, **setting: int | str
) -> Contender:
    """The published code, run by `python` from its checkout."""
    script = Path(__file__).with_name("update_reference.py")
    values = {"checkout": str(checkout.resolve()), "threads": threads, **setting}
    return Contender(name, [python, str(script)], values, threads)
