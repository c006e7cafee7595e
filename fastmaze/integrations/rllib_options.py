"""What FastMaze's env runner takes from RLlib's configuration, checked."""

from __future__ import annotations

from typing import Any

from fastmaze.envs.backends.validation import MAX_ENVS
from fastmaze.envs.registration import env_id
from fastmaze.specs import TASKS, check_integer


def task_named(env: Any) -> str:
    """The task of an id, or of its own name; raises ValueError for what is none of FastMaze's."""
    names = {**{env_id(task): task for task in TASKS}, **{task: task for task in TASKS}}
    if not isinstance(env, str) or env not in names:
        raise ValueError(
            "config.environment(env=...): FastMazeEnvRunner runs fastmaze/<Task>-v0, or <Task>, "
            f"of these: {[env_id(task) for task in sorted(TASKS)]}, got {env!r}"
        )
    return names[env]


def population_options(options: dict[str, Any]) -> dict[str, Any]:
    """`env_config` as keywords of make_vec; raises ValueError for those that are not the user's."""
    if "num_envs" in options:
        raise ValueError(
            "env_config['num_envs']: FastMazeEnvRunner takes the number from "
            "config.env_runners(num_envs_per_env_runner=...); leave it out"
        )
    mode = options.pop("autoreset_mode", "NextStep")
    if getattr(mode, "value", mode) != "NextStep":
        raise ValueError(
            f"env_config['autoreset_mode']: RLlib's runners need 'NextStep', got {mode!r}"
        )
    if options.pop("copy", True) is not True:
        raise ValueError(
            "env_config['copy']: the episodes keep the envs' arrays, so they must be fresh ones, "
            "copy=True; leave it out"
        )
    offset = options.pop("env_offset", 0)
    offset = check_integer("env_config['env_offset']", offset, 0, MAX_ENVS - 1)
    return {**options, "env_offset": offset}
