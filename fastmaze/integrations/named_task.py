"""The task that a trainer's env is made with: by its name and options, or as a spec."""

from __future__ import annotations

from typing import Any

from fastmaze.specs import TaskSpec, make_spec


def spec_of(task: str | TaskSpec, task_options: dict[str, Any]) -> TaskSpec:
    """The spec of a name and its options, or the one that was given, which has its own.

    Raises:
        TypeError: options beside a spec; or as `make_spec`.
        ValueError: as `make_spec`.
    """
    if not isinstance(task, TaskSpec):
        return make_spec(task, **task_options)
    if task_options:
        raise TypeError(
            f"{next(iter(task_options))}: a spec has its options already; expected the name of a "
            "task with options, or a spec without"
        )
    return task
