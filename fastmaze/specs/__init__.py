"""What a task is: frozen dataclasses, checked once, with every derived value as a property.

A spec says nothing about how a task is computed. `fastmaze.reference` holds the rules in readable
Python, `csrc/` and `fastmaze.envs.backends` the fast versions; all of them take the same spec.
"""

from __future__ import annotations

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer, check_real
from fastmaze.specs.registry import (
    FAMILIES,
    TASKS,
    Family,
    Paper,
    Task,
    dial_of,
    make_spec,
    make_tmaze_spec,
)
from fastmaze.specs.tmaze import NUM_ACTIONS, PENALTY_RULES, TMazeSpec

__all__ = [
    "FAMILIES",
    "MAX_LENGTH",
    "NUM_ACTIONS",
    "PENALTY_RULES",
    "TASKS",
    "Family",
    "Paper",
    "TMazeSpec",
    "Task",
    "TaskSpec",
    "check_boolean",
    "check_integer",
    "check_real",
    "dial_of",
    "make_spec",
    "make_tmaze_spec",
]
