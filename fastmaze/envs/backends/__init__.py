"""The engines behind the vector envs: one contract (`base.Backend`), several implementations.

| name | what it is |
| --- | --- |
| `"native"` | C++: the fast one, and the default |
| `"numba"` | the same loops compiled by Numba, bit for bit; needs `pip install "fastmaze[numba]"` |
| `"reference"` | a Python loop over the specification envs: slow, the oracle of the tests |
"""

from __future__ import annotations

import importlib
from typing import Final, cast

from fastmaze.envs.backends.base import Backend, Mode
from fastmaze.specs import TMazeSpec

BACKENDS: Final = {
    "native": ("fastmaze.envs.backends.native", "NativeBackend"),
    "numba": ("fastmaze.envs.backends.numba_", "NumbaBackend"),
    "reference": ("fastmaze.envs.backends.reference_", "ReferenceBackend"),
}
"""Backend name to its module and class; imported when first asked for."""

_INSTALL: Final = {
    "numba": 'pip install "fastmaze[numba]"',
    "fastmaze._native": "pip install --force-reinstall --no-deps fastmaze",
}


def make_backend(
    name: str, spec: TMazeSpec, num_envs: int, mode: Mode, num_threads: int = 1
) -> Backend:
    """Builds the named backend.

    Raises:
        ValueError: no such backend, or a number out of range.
        TypeError: the name is no string.
        ImportError: the backend's optional package is missing; the message says what to install.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"backend: expected one of {tuple(BACKENDS)}, got {name!r} ({type(name).__name__})"
        )
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {tuple(BACKENDS)}, got {name!r}")
    module, class_name = BACKENDS[name]
    try:
        backend_class = getattr(importlib.import_module(module), class_name)
    except ModuleNotFoundError as error:
        if error.name not in _INSTALL:
            raise
        raise ImportError(
            f'backend="{name}" needs {error.name}, which is not here: {_INSTALL[error.name]}'
        ) from error
    return cast(Backend, backend_class(spec, num_envs, mode, num_threads))
