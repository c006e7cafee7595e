"""Checks of the arrays that cross a backend's border: a bad one is refused before any change."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from fastmaze.envs.backends.base import Array
from fastmaze.specs import NUM_ACTIONS, TaskSpec, check_integer

ACTION_TYPES: Final = ("int64", "int32", "int8", "uint8")
"""What an action array may be made of."""

MAX_ENVS: Final = 2**32
"""A global env index is one 32-bit counter word."""

LARGEST: Final = {"num_envs": MAX_ENVS, "num_threads": 1024}
"""What `check_count` allows; more threads than these are a slip of the pen."""


def check_array(
    name: str, array: Any, dtypes: tuple[str, ...], shape: tuple[int, ...], *, written: bool = False
) -> None:
    """Refuses anything but a C-contiguous array of one of `dtypes` and of `shape`.

    Args:
        name: the argument's name, for the message.
        array: what the caller gave.
        dtypes: the dtypes that will do, by name.
        shape: the only shape that will do.
        written: whether the array must be writable.

    Raises:
        TypeError: not an array, or of another dtype.
        ValueError: another shape, not C-contiguous, or read-only.
    """
    wanted = f"{' or '.join(dtypes)} array of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a {wanted}, got {type(array).__name__}")
    # Native byte order has no prefix in `name`, so compare the types themselves.
    if not any(array.dtype == np.dtype(dtype) for dtype in dtypes):
        raise TypeError(f"{name}: expected a {wanted}, got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected a {wanted}, got shape {array.shape}")
    if not array.flags.aligned:
        raise ValueError(f"{name}: expected an aligned array, got one at an odd address")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides}")
    if written and not array.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")


def check_actions(actions: Array, num_actions: int = NUM_ACTIONS) -> None:
    """Refuses actions other than 0 to `num_actions` - 1."""
    if actions.size and not (actions.min() >= 0 and actions.max() < num_actions):
        bad = np.flatnonzero((actions < 0) | (actions >= num_actions))[0]
        raise ValueError(
            f"actions: expected 0 to {num_actions - 1}, "
            f"got {actions.flat[bad]} at {np.unravel_index(bad, actions.shape)}"
        )


def check_step(
    shape: tuple[int, ...],
    spec: TaskSpec,
    actions: Any,
    obs: Any,
    reward: Any,
    terminated: Any,
    truncated: Any,
    final_obs: Any,
) -> None:
    """Refuses bad arrays of `Backend.step` ([N]) or `unroll` ([S, N]); not the actions' values."""
    check_array("actions", actions, ACTION_TYPES, shape)
    outputs = {
        "obs": (obs, spec.obs_dtype, (*shape, *spec.obs_shape)),
        "reward": (reward, "float32", shape),
        "terminated": (terminated, "bool", shape),
        "truncated": (truncated, "bool", shape),
        "final_obs": (final_obs, spec.obs_dtype, (*shape, *spec.obs_shape)),
    }
    for name, (array, dtype, wanted) in outputs.items():
        if array is not None or name != "final_obs":
            check_array(name, array, (dtype,), wanted, written=True)
    check_separate({"actions": actions} | {name: entry[0] for name, entry in outputs.items()})


def check_reset(
    num_envs: int,
    spec: TaskSpec,
    obs: Any,
    mask: Any,
    context: Any,
    keys: Any,
    indices: Any,
    seed_mask: Any,
) -> None:
    """Refuses bad arguments of `Backend.reset`; all but `obs` may be None."""
    check_array("obs", obs, (spec.obs_dtype,), (num_envs, *spec.obs_shape), written=True)
    if (keys is None) != (indices is None):
        raise ValueError("keys and indices: expected both or none")
    given = {"mask": mask, "keys": keys, "indices": indices, "seed_mask": seed_mask}
    dtypes = {"keys": "uint64", "indices": "uint32"}
    for name, array in given.items():
        if array is not None:
            check_array(name, array, (dtypes.get(name, "bool"),), (num_envs,))
            check_separate({"obs": obs, name: array})
    if context is None:
        return
    if spec.family == "TMaze":
        check_array("goals", context, ("int8",), (num_envs,))
        check_separate({"obs": obs, "goals": context})
        check_goals(context)
    elif spec.reset_option is None:
        raise ValueError("context: expected None, for this task takes none")
    else:
        check_array("context", context, ("uint8",), (num_envs, spec.context_size))
        check_separate({"obs": obs, "context": context})
        for row in context[context[:, 0] != 0]:
            spec.check_context(row)


def check_separate(arrays: Mapping[str, Array | None]) -> None:
    """Refuses arrays that share memory: writing one would change another while it is read."""
    given = [(name, array) for name, array in arrays.items() if array is not None]
    for (name, array), (other_name, other) in itertools.combinations(given, 2):
        if np.may_share_memory(array, other):
            raise ValueError(
                f"{name} and {other_name}: expected separate arrays, got shared memory"
            )


def check_goals(goals: Array) -> None:
    """Refuses goals other than -1, 0 (draw it) and +1."""
    bad = np.flatnonzero((goals < -1) | (goals > 1))
    if bad.size:
        raise ValueError(f"goals: expected -1, 0 or +1, got {goals[bad[0]]} at {bad[0]}")


def check_count(name: str, value: Any) -> int:
    """The value as an int, from 1 to `LARGEST[name]`; see `check_integer`."""
    return check_integer(name, value, 1, LARGEST[name])
