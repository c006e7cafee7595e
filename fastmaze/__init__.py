"""FastMaze: memory and credit-assignment tasks at memory speed, and an agent that solves them.

```python
import fastmaze

envs = fastmaze.make_vec("PassiveTMaze", num_envs=4096, length=1000)  # a gymnasium VectorEnv
env = fastmaze.make("ActiveTMaze", length=100)  # one copy, the same rules and the same draws
```

Importing the package registers the ids `fastmaze/<Task>-v0` and pulls in neither torch nor numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmaze.envs.registration import register_envs
from fastmaze.specs import TASKS, TaskSpec, TMazeSpec, make_spec

if TYPE_CHECKING:
    from fastmaze.envs.device import DeviceTMaze, make_device
    from fastmaze.envs.single import FastMazeEnv, TMazeEnv, make
    from fastmaze.envs.trajectory import Trajectory
    from fastmaze.envs.vector import FastMazeVectorEnv, make_vec

__all__ = [
    "TASKS",
    "DeviceTMaze",
    "FastMazeEnv",
    "FastMazeVectorEnv",
    "TMazeEnv",
    "TMazeSpec",
    "TaskSpec",
    "Trajectory",
    "__version__",
    "make",
    "make_device",
    "make_spec",
    "make_vec",
]

_LAZY = {
    "DeviceTMaze": "fastmaze.envs.device",
    "FastMazeEnv": "fastmaze.envs.single",
    "FastMazeVectorEnv": "fastmaze.envs.vector",
    "TMazeEnv": "fastmaze.envs.single",
    "Trajectory": "fastmaze.envs.trajectory",
    "make": "fastmaze.envs.single",
    "make_device": "fastmaze.envs.device",
    "make_vec": "fastmaze.envs.vector",
}

register_envs()


def __getattr__(name: str) -> Any:
    """Imports the Gymnasium classes when first asked for: the vector ones need Gymnasium 1.1."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fastmaze")
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'fastmaze' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
