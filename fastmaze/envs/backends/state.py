"""The bytes of a saved batch: a header that says whose state it is, then the arrays.

The arrays follow one another without padding, in the order of `fields_of`, each `num_envs` long.
All backends of a task read and write the same bytes, so a state moves between them.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends.base import Array, Mode
from fastmaze.reference.base import NEVER_RESET
from fastmaze.specs import TaskSpec, TMazeSpec

_EPISODE: Final = (
    ("key", np.uint64),  # Philox key
    ("index", np.uint32),  # Philox counter word 0
    ("episode", np.uint32),  # Philox counter word 1; NEVER_RESET before the first reset
    ("start", np.int32),  # clock at the start of the episode
)
"""What every state begins with: which episode it is."""
FIELDS: Final = (
    *_EPISODE,
    ("x", np.int32),
    ("t", np.int32),
    ("flags", np.int32),  # y + 1 | goal is +1 << 2 | cue << 3 (0 never, 1 before, 2 seen now)
    ("penalties", np.int32),  # steps of this episode that paid the penalty
    ("distractions", np.int32),  # steps of this episode that paid the distraction
)
"""Of the T-Maze."""
COMMON_FIELDS: Final = (
    *_EPISODE,
    ("t", np.int32),  # clock
    ("over", np.uint8),  # 1 when the episode has ended and the next one has not begun
)
"""Of every other task, before one row of `TaskSpec.state_dtype` per env, named "task"."""
BYTES_PER_ENV: Final = sum(np.dtype(dtype).itemsize for _, dtype in FIELDS)
"""Of the T-Maze."""
MODES: Final[tuple[Mode, ...]] = ("NextStep", "SameStep", "Disabled")
"""In the order of `Autoreset` in csrc/tmaze_batch.hpp."""

_MAGIC: Final = b"FastMaze"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sIIQQ")  # magic, version, mode, num_envs, fingerprint of the spec


def add_header(
    arrays: npt.NDArray[np.uint8], spec: TaskSpec, num_envs: int, mode: Mode
) -> npt.NDArray[np.uint8]:
    """The saved batch, uint8 [header + bytes of the arrays]."""
    header = _HEADER.pack(_MAGIC, _VERSION, MODES.index(mode), num_envs, spec.fingerprint)
    return np.concatenate([np.frombuffer(header, np.uint8), arrays])


def strip_header(state: Any, spec: TaskSpec, num_envs: int, mode: Mode) -> npt.NDArray[np.uint8]:
    """The arrays of a saved batch, after checking that it is one of this task, size and mode.

    Raises:
        TypeError: not a uint8 array.
        ValueError: not a saved batch, or one of another task, size or mode.
    """
    if not isinstance(state, np.ndarray) or state.dtype != np.uint8:
        got = state.dtype if isinstance(state, np.ndarray) else type(state).__name__
        raise TypeError(f"state: expected a uint8 array from get_state, got {got}")
    size = _HEADER.size + num_envs * sum(dtype.itemsize for _, dtype in fields_of(spec))
    if state.ndim != 1 or state.size < _HEADER.size:
        raise ValueError(f"state: expected shape ({size},), got {state.shape}")
    magic, version, saved_mode, saved_envs, fingerprint = _HEADER.unpack(
        state[: _HEADER.size].tobytes()
    )
    if magic != _MAGIC or version != _VERSION or saved_mode >= len(MODES):
        raise ValueError("state: expected an array from get_state of this version of FastMaze")
    for name, saved, own in (
        ("num_envs", saved_envs, num_envs),
        ("autoreset_mode", MODES[saved_mode], mode),
    ):
        if saved != own:
            raise ValueError(f"state: expected {name}={own}, as in this env, got {name}={saved}")
    if fingerprint != spec.fingerprint:
        raise ValueError(f"state: expected the state of this task ({spec}), got another task's")
    if state.size != size:
        raise ValueError(f"state: expected shape ({size},), got {state.shape}")
    return np.ascontiguousarray(state[_HEADER.size :])


def fields_of(spec: TaskSpec) -> tuple[tuple[str, np.dtype[Any]], ...]:
    """Name and dtype of each array of a task's saved batch, in order."""
    if spec.family == "TMaze":
        return tuple((name, np.dtype(dtype)) for name, dtype in FIELDS)
    common = tuple((name, np.dtype(dtype)) for name, dtype in COMMON_FIELDS)
    return (*common, ("task", spec.state_dtype))


def split_arrays(
    saved: npt.NDArray[np.uint8], spec: TaskSpec, num_envs: int
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a saved batch by name, fresh ones; their values are not checked."""
    arrays: dict[str, Array] = {}
    at = 0
    for name, dtype in fields_of(spec):
        size = num_envs * dtype.itemsize
        arrays[name] = np.frombuffer(saved[at : at + size].tobytes(), dtype).copy()
        at += size
    return arrays


def keep_rows(
    state: npt.NDArray[np.uint8],
    kept: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.bool_],
    spec: TaskSpec,
    num_envs: int,
) -> npt.NDArray[np.uint8]:
    """`state` of `get_state`, but with the rows, bool [num_envs], of the state `kept`; fresh."""
    mixed = state.copy()
    at = _HEADER.size
    for _, dtype in fields_of(spec):
        here = slice(at, at + num_envs * dtype.itemsize)
        old = kept[here].reshape(num_envs, dtype.itemsize)
        mixed[here].reshape(num_envs, dtype.itemsize)[rows] = old[rows]
        at = here.stop
    return mixed


def row_of(arrays: dict[str, Array], i: int) -> dict[str, Any]:
    """One env's values by name, the task's own among them, as plain numbers and lists."""
    row = {name: array[i].item() for name, array in arrays.items() if name != "task"}
    if "task" in arrays:
        task = arrays["task"][i]
        row |= {name: task[name].tolist() for name in task.dtype.names or ()}
    return row


def load_arrays(state: Any, spec: TMazeSpec, num_envs: int, mode: Mode) -> dict[str, Array]:
    """The arrays of a batch of T-Mazes by name, fresh ones, after checking every value.

    Raises:
        TypeError: as `strip_header`.
        ValueError: as `strip_header`, or values that no episode of this task can reach.
    """
    arrays = split_arrays(strip_header(state, spec, num_envs, mode), spec, num_envs)
    x, t, flags, start = (arrays[name] for name in ("x", "t", "flags", "start"))
    waiting = arrays["episode"] == NEVER_RESET
    latest = np.where(waiting | (mode != "SameStep"), spec.episode_length, spec.episode_length - 1)
    y, cue, steps = (flags & 3) - 1, flags >> 3, t.astype(np.int64) - start
    good = (x >= 0) & (x <= spec.junction) & (flags >= 0) & (y <= 1) & (cue <= 2)
    good &= ((y == 0) | (x == spec.junction)) & np.where(x == 0, cue != 0, cue != 2)
    good &= (start >= 0) & (steps >= 0) & (t <= latest)
    for name in ("penalties", "distractions"):
        good &= (arrays[name] >= 0) & (arrays[name] <= steps)
    if not good.all():
        raise ValueError(
            f"state: env {int(np.argmin(good))} holds values that no episode of this task can reach"
        )
    return arrays


def view_of(spec: TMazeSpec) -> int:
    """What an observation shows, as the number of `View` in csrc/tmaze.hpp."""
    return 0 if spec.ambiguous_position else (2 if spec.expose_goal else 1)


def rule_of(spec: TMazeSpec) -> int:
    """What a step pays, as the number of `Rule` in csrc/tmaze.hpp."""
    if spec.penalty_rule == "action":
        return 2
    return 1 if spec.distract_reward != 0 else 0
