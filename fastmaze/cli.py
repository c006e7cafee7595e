"""The command `fastmaze`: finds the command asked for, runs it, and turns errors into one line.

Each command is a module of `fastmaze.commands`, imported only when it is asked for: `fastmaze
doctor` must work where torch is missing, and help must not wait for it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

COMMANDS: Final = {
    "train": "train an agent; `--length` is the one dial",
    "evaluate": "play greedy episodes with a trained agent and count its successes",
    "bench": "measure speed: `bench envs`, `bench attention`, …",
    "lengths": "how much memory and credit assignment a task needs, computed exactly",
    "play": "walk a maze yourself, or watch a trained agent",
    "tasks": "every task: memory lengths, spaces, backends",
    "doctor": "what is installed, what works, and what to install",
}
"""Command to what it does; each is a module of `fastmaze.commands` with `run(args) -> int`."""

USER_ERRORS: Final = (ValueError, TypeError, ImportError, OSError)
"""What is most likely the user's to mend: told in one line, without a traceback."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: what follows `fastmaze` on the command line; None for this process's.

    Returns:
        The exit status: 0, 2 for a mistake of the user's, 130 after Ctrl-C.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if args[0] in ("-V", "--version"):
        from fastmaze import __version__

        print(f"fastmaze {__version__}")
        return 0
    # Read when torch is first used: large tensors in huge pages, 5 to 10 % of a CPU's update.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    command = args[0]
    if command not in COMMANDS:
        print(f"fastmaze: no command {command!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(f"fastmaze.commands.{command}")
        status: int = module.run(args[1:])
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has gone. Python's own flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except USER_ERRORS as error:
        if os.environ.get("FASTMAZE_TRACEBACK"):
            raise
        print(f"fastmaze {command}: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return f"""\
usage: fastmaze COMMAND [OPTIONS]

Memory and credit-assignment tasks at memory speed, and an agent that solves them.

commands:
{commands}

first steps:
  fastmaze doctor                            what works on this machine
  fastmaze tasks                             what there is to learn
  fastmaze play PassiveTMaze --length 10     learn the task by walking it
  fastmaze train --length 50                 train an agent on it, in well under a minute
  fastmaze play --run RUN_DIR                watch that agent

`fastmaze COMMAND --help` explains the options of a command. FASTMAZE_TRACEBACK=1 in the
environment shows where an error comes from."""
