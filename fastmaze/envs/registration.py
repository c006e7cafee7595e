"""The tasks' ids in Gymnasium's registry: `fastmaze/<Task>-v0`."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from fastmaze.specs import TASKS

VERSION = 0
"""The number at the end of every id; it changes when results change."""


def env_id(task: str) -> str:
    """Gymnasium's id of a task, e.g. "fastmaze/PassiveTMaze-v0"."""
    return f"fastmaze/{task}-v{VERSION}"


def register_envs() -> None:
    """Registers every task, for `gymnasium.make` and `gymnasium.make_vec`.

    No step limit is registered: an episode's length is part of the task, so that its last step is
    a termination and no wrapper may turn it into a truncation.
    """
    for task in TASKS:
        if env_id(task) not in registry:
            register(
                id=env_id(task),
                entry_point="fastmaze.envs.single:FastMazeEnv",
                vector_entry_point="fastmaze.envs.vector:make_vec",
                kwargs={"task": task},
            )
