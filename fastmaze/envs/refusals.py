"""Gymnasium's errors for what a backend refuses to do."""

from __future__ import annotations

from typing import Any, NoReturn

from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from fastmaze.envs.backends.errors import Closed, NotReady


def raise_refused(error: NotReady | Closed) -> NoReturn:
    """Raises the error that Gymnasium has for a backend's refusal."""
    if isinstance(error, Closed):
        raise ClosedEnvironmentError(str(error)) from error
    raise ResetNeeded(str(error)) from error


def raise_closed(*_: Any) -> NoReturn:
    """Raises what every call of a closed env raises; takes any arguments, to stand for a call."""
    raise ClosedEnvironmentError("the envs were closed; make new ones")
