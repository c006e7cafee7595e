"""The T-Maze's options, the paper's two T-Mazes, and every derived value as a property."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer, check_reward

NUM_ACTIONS: Final = 4
"""0 right, 1 up, 2 left, 3 down."""

PENALTY_RULES: Final = ("pace", "action")


@dataclass(frozen=True, kw_only=True, slots=True)
class TMazeSpec(TaskSpec):
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

    family: ClassVar[str] = "TMaze"
    action_names: ClassVar[tuple[str, ...]] = ("right", "up", "left", "down")
    reset_option: ClassVar[str | None] = "goal_y"
    flag_name: ClassVar[str | None] = "cue_seen"
    chance: ClassVar[float | None] = 1 / 2

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
            object.__setattr__(self, name, check_reward(name, getattr(self, name)))
        for name in ("ambiguous_position", "expose_goal", "add_timestep"):
            object.__setattr__(self, name, check_boolean(name, getattr(self, name)))
        if self.penalty > 0:
            raise ValueError(f"penalty: expected a number <= 0, got {self.penalty}")
        # A step may pay both.
        check_reward("penalty + distract_reward", self.penalty + self.distract_reward)
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
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation, (D,)."""
        return (self.obs_dim,)

    @property
    def whole_obs(self) -> bool:
        """Whether all entries of an observation are whole numbers: places, cues, times."""
        return True

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


def passive_tmaze(length: int = 10, **options: Any) -> TMazeSpec:
    """The cue shows at the start: long memory, short credit (Ni et al. 2023, Eg. 1).

    Args:
        length: L, the corridor's length; T = L + 1 and the penalty is -1/L.
        **options: any option of `TMazeSpec` but `corridor_length`, to override the paper's.
    """
    length = check_integer("length", length, 1, MAX_LENGTH - 1)
    paper = dict(episode_length=length + 1, penalty=-1 / length, ambiguous_position=True)
    return TMazeSpec(corridor_length=length, **{**paper, **options})


def active_tmaze(length: int = 10, **options: Any) -> TMazeSpec:
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


def tmaze(corridor_length: int = 10, **options: Any) -> TMazeSpec:
    """Every option of `TMazeSpec`; T is the shortest possible, L + 2o + 1, unless given.

    Args:
        corridor_length: L.
        **options: any option of `TMazeSpec`.
    """
    length = check_integer("corridor_length", corridor_length, 1, MAX_LENGTH)
    oracle = check_integer("oracle_length", options.get("oracle_length", 0), 0, MAX_LENGTH)
    options.setdefault("episode_length", length + 2 * oracle + 1)
    return TMazeSpec(corridor_length=length, **options)
