"""What a task is: frozen dataclasses, checked once, with every derived value as a property.

A spec says nothing about how a task is computed. `fastmaze.reference` holds the rules in readable
Python, `csrc/` and `fastmaze.envs.backends` the fast versions; all of them take the same spec.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import numbers
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

MAX_LENGTH: Final = 2**24 - 1
"""Largest corridor or episode: positions and times stay exact in float32 observations."""

NUM_ACTIONS: Final = 4
"""0 right, 1 up, 2 left, 3 down."""

PENALTY_RULES: Final = ("pace", "action")

_REWARD_LIMIT: Final = 3e38
"""Rewards are float32, which ends a little later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TMazeSpec:
    """A T-Maze (Ni et al. 2023, Examples 1 and 2; after Bakker 2001).

    ```
                              g+   (o+L, +1)
     O---s---------------------J   O = (0,0) oracle, s = (o,0) start, J = (o+L,0) junction
                              g-   (o+L, -1)
    ```

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range, or two options exclude each other.
    """

    corridor_length: int
    """L, cells from the start to the junction; at least 1."""
    episode_length: int
    """T, steps in every episode; at least 1. Nothing else ends an episode."""
    oracle_length: int = 0
    """o, cells from the start back to the oracle; 0 shows the cue at reset (a passive maze)."""
    goal_reward: float = 1.0
    """Paid at the last step for standing in the goal cell."""
    penalty: float = 0.0
    """Paid (at most 0) at each step but the last that breaks the `penalty_rule`."""
    distract_reward: float = 0.0
    """Paid at each step but the last that ends at the oracle."""
    ambiguous_position: bool = False
    """Observe only (at the junction?, cue or arm) instead of the position: [junction, cue or y]."""
    expose_goal: bool = False
    """Show the goal for good once the oracle was visited; needs `ambiguous_position=False`."""
    add_timestep: bool = False
    """Append the time t to the observation."""
    penalty_rule: str = "pace"
    """"pace": pay for being behind the pace of the optimal agent (the paper); "action": pay for
    every action but 0 after the first o steps (a later variant; needs `distract_reward=0`)."""

    def __post_init__(self) -> None:
        for name, low in (("corridor_length", 1), ("episode_length", 1), ("oracle_length", 0)):
            object.__setattr__(
                self, name, check_integer(name, getattr(self, name), low, MAX_LENGTH)
            )
        for name in ("goal_reward", "penalty", "distract_reward"):
            object.__setattr__(self, name, _reward(name, getattr(self, name)))
        for name in ("ambiguous_position", "expose_goal", "add_timestep"):
            object.__setattr__(self, name, check_boolean(name, getattr(self, name)))
        if self.penalty > 0:
            raise ValueError(f"penalty: expected a number <= 0, got {self.penalty}")
        # A step may pay both.
        _reward("penalty + distract_reward", self.penalty + self.distract_reward)
        if not isinstance(self.penalty_rule, str) or self.penalty_rule not in PENALTY_RULES:
            raise ValueError(
                f"penalty_rule: expected one of {PENALTY_RULES}, got {self.penalty_rule!r}"
            )
        if self.penalty_rule == "action" and self.distract_reward != 0:
            raise ValueError(
                f'distract_reward: must be 0 with penalty_rule="action", got {self.distract_reward}'
            )
        if self.expose_goal and self.ambiguous_position:
            raise ValueError("expose_goal: needs ambiguous_position=False, got both True")
        if self.junction > MAX_LENGTH:
            raise ValueError(
                f"corridor_length + oracle_length: expected at most {MAX_LENGTH}, "
                f"got {self.junction}"
            )

    @property
    def junction(self) -> int:
        """The x of the junction and of both goal cells, o + L."""
        return self.oracle_length + self.corridor_length

    @property
    def obs_dim(self) -> int:
        """D, entries of one observation."""
        return (2 if self.ambiguous_position else 3) + self.add_timestep

    @property
    def obs_low(self) -> tuple[float, ...]:
        """Smallest value of each entry of an observation."""
        first = (0.0, -1.0) if self.ambiguous_position else (0.0, -1.0, -1.0)
        return first + (0.0,) * self.add_timestep

    @property
    def obs_high(self) -> tuple[float, ...]:
        """Largest value of each entry of an observation."""
        first = (1.0, 1.0) if self.ambiguous_position else (float(self.junction), 1.0, 1.0)
        return first + (float(self.episode_length),) * self.add_timestep

    @property
    def tight_length(self) -> int:
        """Steps of the shortest walk start, oracle, junction, goal: L + 2o + 1."""
        return self.corridor_length + 2 * self.oracle_length + 1

    @property
    def fingerprint(self) -> int:
        """64 bits that two specs share only if they are the same task with the same options."""
        text = json.dumps([type(self).__name__, dataclasses.asdict(self)], sort_keys=True)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _passive_tmaze(length: int = 10, **options: Any) -> TMazeSpec:
    """The cue shows at the start: long memory, short credit (Ni et al. 2023, Eg. 1).

    Args:
        length: L, the corridor's length; T = L + 1 and the penalty is -1/L.
        **options: any option of `TMazeSpec` but `corridor_length`, to override the paper's.
    """
    length = check_integer("length", length, 1, MAX_LENGTH - 1)
    paper = dict(episode_length=length + 1, penalty=-1 / length, ambiguous_position=True)
    return TMazeSpec(corridor_length=length, **{**paper, **options})


def _active_tmaze(length: int = 10, **options: Any) -> TMazeSpec:
    """The cue is a step to the left: long memory and long credit (Ni et al. 2023, Eg. 2).

    Args:
        length: L, the corridor's length; T = L + 3 and the penalty is -1/L.
        **options: any option of `TMazeSpec` but `corridor_length`, to override the paper's.
    """
    length = check_integer("length", length, 1, MAX_LENGTH - 3)
    paper = dict(
        oracle_length=1, episode_length=length + 3, penalty=-1 / length, ambiguous_position=True
    )
    return TMazeSpec(corridor_length=length, **{**paper, **options})


def _tmaze(corridor_length: int = 10, **options: Any) -> TMazeSpec:
    """Every option of `TMazeSpec`; T is the shortest possible, L + 2o + 1, unless given.

    Args:
        corridor_length: L.
        **options: any option of `TMazeSpec`.
    """
    length = check_integer("corridor_length", corridor_length, 1, MAX_LENGTH)
    oracle = check_integer("oracle_length", options.get("oracle_length", 0), 0, MAX_LENGTH)
    options.setdefault("episode_length", length + 2 * oracle + 1)
    return TMazeSpec(corridor_length=length, **options)


TASKS: Final[Mapping[str, Callable[..., TMazeSpec]]] = {
    "PassiveTMaze": _passive_tmaze,
    "ActiveTMaze": _active_tmaze,
    "TMaze": _tmaze,
}
"""Task name to the function that turns its options into a spec."""


def make_spec(task: str, **options: Any) -> TMazeSpec:
    """Builds the spec of a named task.

    Args:
        task: a key of `TASKS`.
        **options: the task's options, e.g. `length=1000` for PassiveTMaze.

    Raises:
        ValueError: no such task, or an option out of range.
        TypeError: no such option, or an option of the wrong type.
    """
    if not isinstance(task, str):
        raise TypeError(f"task: expected the name of a task, got {type(task).__name__}")
    if task not in TASKS:
        raise ValueError(f"task: expected one of {tuple(TASKS)}, got {task!r}{_hint(task, TASKS)}")
    fields = {field.name for field in dataclasses.fields(TMazeSpec)}
    known = fields if task == "TMaze" else fields - {"corridor_length"} | {"length"}
    for name in options:
        if name == "max_episode_steps":
            raise TypeError(
                f"{task} has no option 'max_episode_steps': an episode's length is part of the "
                "task, so that its last step is a termination; give episode_length instead"
            )
        if name not in known:
            raise TypeError(
                f"{task} has no option {name!r}{_hint(name, known)}; "
                f"its options are {', '.join(sorted(known))}"
            )
    return TASKS[task](**options)


def _hint(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """The value as an int: a Python int, a NumPy integer, or an integer array of no dimension.

    Args:
        name: what an error calls it.
        value: what the caller gave.
        low: smallest value allowed.
        high: largest value allowed; needs `low`.

    Raises:
        TypeError: anything else, also True and False.
        ValueError: out of range.
    """
    number = _scalar(value, "iu")
    # A time difference of NumPy counts as an integer, but cannot be used as one.
    if isinstance(number, (bool, np.timedelta64)) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {_described(value)}")
    number = operator.index(number)
    if low is not None and (number < low or (high is not None and number > high)):
        within = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {within}, got {number}")
    return number


def check_real(name: str, value: Any) -> float:
    """The value as a finite float: a real number of Python or NumPy, or one in an
    array of no dimension.

    Raises:
        TypeError: anything else, also True and False.
        ValueError: infinite or not a number.
    """
    number = _scalar(value, "iuf")
    if isinstance(number, (bool, np.timedelta64)) or not isinstance(number, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {_described(value)}")
    try:
        result = float(number)
    except OverflowError:
        result = math.inf  # an int or a fraction beyond all floats
    if not math.isfinite(result):
        raise ValueError(f"{name}: expected a finite number, got {result}")
    return result


def check_boolean(name: str, value: Any) -> bool:
    """The value as a bool: True or False, of Python or NumPy.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {_described(value)}")
    return bool(value)


def _reward(name: str, value: Any) -> float:
    number = check_real(name, value) + 0.0  # -0.0 becomes 0.0
    if abs(number) >= _REWARD_LIMIT:
        raise ValueError(f"{name}: expected a finite number within float32, got {number}")
    return number


def _scalar(value: Any, kinds: str) -> Any:
    """The number in an array of no dimension and of one of NumPy's `kinds`, or else the value."""
    one = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in kinds
    return value[()] if one else value


def _described(value: Any) -> str:
    """A value as errors tell it; arrays by their shape, for all of one would be too much."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{value!r} ({type(value).__name__})"
