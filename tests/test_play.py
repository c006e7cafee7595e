"""Playing in the terminal: what the player sees, what keys do, and how the terminal is left."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmaze.envs.rendering import least_columns, visible_columns
from fastmaze.play import play
from fastmaze.specs import TMazeSpec
from fastmaze.terminal import Screen
from tests.backends.strategies import specs


def walk(
    monkeypatch: pytest.MonkeyPatch, keys: str, task: str = "PassiveTMaze", **options: Any
) -> str:
    """What is printed while the keys come from a pipe."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(keys))
    monkeypatch.setattr(sys, "stdout", out)
    assert play(task, seed=1, **options) == 0
    return out.getvalue()


def test_a_walk_to_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 puts the goal of the first maze below the junction; the cue says so, once."""
    out = walk(monkeypatch, "ddd\ns\n", length=3)
    frames = out.strip().split("\n\n")
    assert len(frames) == 5
    assert ["▼" in frame for frame in frames] == [True] + [False] * 4
    assert ["★" in frame for frame in frames] == [False] * 5  # the agent stands on it at the end
    assert "the cue: the goal is down" in frames[0]
    assert "the junction" in frames[3]
    assert "return +1" in frames[4]
    assert "You reached the goal." in frames[4]


def test_the_wrong_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The goal is shown when nothing can be done about it any more."""
    frames = walk(monkeypatch, "dddw", length=3).strip().split("\n\n")
    assert "★" in frames[-1]
    assert "You missed the goal." in frames[-1]


def test_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words for arrows, keys without a meaning, a new maze, moves after the end, quitting."""
    out = walk(monkeypatch, "right x\nup down left ddddd r\nq d\n", "ActiveTMaze", length=1)
    # ActiveTMaze(length=1) has four steps: start, four steps, and the start of the next maze.
    assert out.count("observes [") == 6
    assert out.count("steps left 4") == 2


def test_observations_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    out = walk(monkeypatch, "a d", "TMaze", corridor_length=2, oracle_length=1, add_timestep=True)
    assert "observes [1, 0, 0, 0]: the position" in out
    assert "observes [0, 0, -1, 1]: the cue: the goal is down" in out
    assert "observes [1, 0, 0, 2]: the position" in out


def test_screen_without_a_terminal_has_no_escape_codes() -> None:
    stream = io.StringIO()
    with Screen(stream) as screen:
        screen.show("one")
        screen.show("two")
    assert stream.getvalue() == "one\n\ntwo\n\n"


class Terminal:
    """A `fastmaze play` in a terminal of its own."""

    def __init__(self, *args: str, columns: int = 80) -> None:
        self.process, self.descriptor = pty.fork()
        if self.process == 0:
            # With an environment, for readline may have set COLUMNS behind Python's back.
            sizes = {"COLUMNS", "LINES"}
            env = {name: value for name, value in os.environ.items() if name not in sizes}
            command = [sys.executable, "-m", "fastmaze", "play", *args]
            os.execve(sys.executable, command, env)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.before = termios.tcgetattr(self.descriptor)
        self.text = ""

    def wait_for(self, words: str) -> None:
        """Reads until the words have come since the last wait."""
        seen = ""
        while words not in seen:
            assert select.select([self.descriptor], [], [], 30)[0], f"no {words!r} in {seen!r}"
            part = os.read(self.descriptor, 65536).decode()
            seen, self.text = seen + part, self.text + part

    def press(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def end(self) -> int:
        """Waits for the process; its exit status."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # The terminal's buffer must not fill up while the process writes its last words.
            if select.select([self.descriptor], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):  # the other end is closed
                    self.text += os.read(self.descriptor, 65536).decode()
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
        os.kill(self.process, signal.SIGKILL)
        raise AssertionError("the process does not end")


def test_keys_of_a_real_terminal() -> None:
    """Arrow keys in both encodings, letters, and the next maze by Enter; restored by q."""
    terminal = Terminal("PassiveTMaze", "--length", "2", "--seed", "1")
    terminal.wait_for("t 0/3")
    terminal.press(b"\x1b[C")
    terminal.wait_for("t 1/3")
    terminal.press(b"\x1bOC")
    terminal.wait_for("the junction")
    terminal.press(b"\x1b[1;5B")
    terminal.wait_for("You reached the goal.")
    terminal.press(b"\n")
    terminal.wait_for("t 0/3")
    assert termios.tcgetattr(terminal.descriptor) != terminal.before
    terminal.press(b"q")
    assert terminal.end() == 0
    assert terminal.text.endswith("\x1b[?25h")
    assert termios.tcgetattr(terminal.descriptor) == terminal.before


@pytest.mark.parametrize(("columns", "length"), [(40, 39), (80, 75)])
def test_interrupted(columns: int, length: int) -> None:
    """Ctrl-C leaves the terminal as it was; a narrow one gets a narrow maze."""
    terminal = Terminal("ActiveTMaze", "--length", "5000", columns=columns)
    terminal.wait_for("steps left 5003")
    terminal.press(b"a")
    terminal.wait_for("the cue: the goal is")
    terminal.press(b"\x03")
    assert terminal.end() == 130
    assert terminal.text.endswith("\x1b[?25h")
    assert termios.tcgetattr(terminal.descriptor) == terminal.before
    mazes = [line for line in terminal.text.split("\r\n") if line.startswith("└")]
    assert {len(line.removesuffix("\x1b[K")) for line in mazes} == {length}


@pytest.mark.parametrize("columns", [10, 20, 24])
def test_a_terminal_too_narrow_for_the_maze(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the number of columns in place of a maze whose lines would wrap."""
    monkeypatch.setenv("COLUMNS", str(columns))
    out = walk(monkeypatch, "dd", length=5000)
    assert "25 columns needed"[: columns - 1] in out
    assert max(map(len, out.splitlines())) < columns
    monkeypatch.setenv("COLUMNS", "25")
    out = walk(monkeypatch, "dd", length=5000)
    assert "needed" not in out
    assert out.count("●") == 3
    assert max(map(len, out.splitlines())) < 25


@given(specs(), st.data())
def test_least_columns_are_enough_everywhere(spec: TMazeSpec, data: st.DataObject) -> None:
    x = data.draw(st.integers(0, spec.junction))
    assert len(visible_columns(spec, x, max_columns=0)) <= least_columns(spec) <= 9
