"""The engines behind the vector envs: one contract (`base.Backend`), several implementations.

Not every task has every backend: `fastmaze tasks` says which.

| name | what it is |
| --- | --- |
| `"native"` | C++: the fast one, and the default |
| `"numba"` | the same loops compiled by Numba, bit for bit; needs `pip install "fastmaze[numba]"` |
| `"device"` | torch tensors on a GPU or a CPU; needs `pip install "fastmaze[train]"` |
| `"reference"` | a Python loop over the specification envs: slow, the oracle of the tests |
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final, cast

from fastmaze.envs.backends.base import Backend, Mode
from fastmaze.specs import FAMILIES, TaskSpec

BACKENDS: Final = {
    "native": ("fastmaze.envs.backends.native", "NativeBackend"),
    "numba": ("fastmaze.envs.backends.numba_", "NumbaBackend"),
    "device": ("fastmaze.envs.backends.device", "DeviceBackend"),
    "reference": ("fastmaze.envs.backends.reference_", "ReferenceBackend"),
}
"""Backend name to its module and class; imported when first asked for."""

_CHECKOUT: Final = (Path(__file__).parents[3] / "CMakeLists.txt").is_file()
"""Whether these are the sources of a checkout, which Python also finds where nothing is built."""

REBUILD: Final = (
    "pip install -e . (these are a checkout's sources, not built here; or run Python from another "
    "directory, where it finds what is installed)"
    if _CHECKOUT
    else "pip install --force-reinstall --no-deps fastmaze"
)
"""What brings back the native core."""

_INSTALL: Final = {
    "numba": 'pip install "fastmaze[numba]"',
    "torch": 'pip install "fastmaze[train]"',
    "fastmaze._native": REBUILD,
}


def make_backend(
    name: str,
    spec: TaskSpec,
    num_envs: int,
    mode: Mode,
    num_threads: int = 1,
    device: str | None = None,
) -> Backend:
    """Builds the named backend.

    Raises:
        ValueError: no such backend, or not for this task; a number out of range; or a `device` that
            is not here or that the backend cannot choose.
        TypeError: the name is no string.
        ImportError: the backend's optional package is missing; the message says what to install.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"backend: expected one of {tuple(BACKENDS)}, got {name!r} ({type(name).__name__})"
        )
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {tuple(BACKENDS)}, got {name!r}")
    if device is not None and name != "device":
        raise ValueError(
            f'device: expected none with backend="{name}", which runs on the CPU, got {device!r}; '
            'backend="device" takes one'
        )
    if name not in FAMILIES[spec.family].backends:
        having = tuple(other for other in FAMILIES[spec.family].backends if other in BACKENDS)
        raise ValueError(f"backend: expected one of {having} for this task, got {name!r}")
    module, class_name = BACKENDS[name]
    try:
        backend_class = getattr(importlib.import_module(module), class_name)
    except ModuleNotFoundError as error:
        if error.name not in _INSTALL:
            raise
        raise ImportError(
            f'backend="{name}" needs {error.name}, which is not here: {_INSTALL[error.name]}'
        ) from error
    if name == "device":
        return cast(Backend, backend_class(spec, num_envs, mode, num_threads, device))
    return cast(Backend, backend_class(spec, num_envs, mode, num_threads))
