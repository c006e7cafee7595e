"""The pixel grid-worlds' options, rooms and colours: Key-to-Door and Visual Match.

An episode has three phases, each with a fixed number of frames and a room of its own: the explore
room shows or hides what will matter, the distractor room is an orchard, the reward room asks.
Source: Hung et al. 2019 and Raposo et al. 2021, as published with Ni et al. 2023 (Sec. 5.1, 5.2).

What `reset` draws can be set instead, `options={"context": …}`, as a dict per env:

- "grids": "explore", "distractor" and, for Key-to-Door, "reward": each room as 77 characters in
  rows of 11, one string or a list of rows. `+` the player's start, `k` key, `d` door, `a` apple,
  `#` wall, and one of `b`, `c`, `e` in place of the coloured wall cell.
- "colours", for Visual Match: the RGB of `b`, `c` and `e` in thousandths.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from fastmaze.specs.base import MAX_LENGTH, TaskSpec
from fastmaze.specs.checks import check_boolean, check_integer, check_reward

ROWS, COLUMNS = 7, 11
"""Characters of every room."""

VIEW: Final = 5
"""Rows and columns of the crop around the player that an observation shows."""

EXPLORE_ROOM: Final = (
    "  #######  ",
    "  #kkkkk#  ",
    "  #kkkkk#  ",
    "  ##   ##  ",
    "  #+++++#  ",
    "  #+++++#  ",
    "  #######  ",
)
"""Key-to-Door's first room. In these patterns one of the `k`, `+`, `p` and `d` is drawn."""

ACTIVE_ROOM: Final = (
    "  ppppppp  ",
    "  p     p  ",
    "  p     p  ",
    "  pp   pp  ",
    "  p+++++p  ",
    "  p+++++p  ",
    "  ppppppp  ",
)
"""Active Visual Match's first room; one wall cell `p` has the target's colour."""

PASSIVE_ROOM: Final = (
    "           ",
    "    ppp    ",
    "    p+p    ",
    "    ppp    ",
    "           ",
    "           ",
    "           ",
)
"""Passive Visual Match's first room: nowhere to go, the colour in view."""

ORCHARD: Final = (
    "###########",
    "#a a a a a#",
    "# a a a a #",
    "#a a a a a#",
    "# a a a a #",
    "#a a + a a#",
    "###########",
)
"""Everybody's second room; `num_apples` of the cells `a` hold apples in an episode."""

DOOR_ROOM: Final = (
    "           ",
    "   ##d##   ",
    "   #   #   ",
    "   # + #   ",
    "   #   #   ",
    "   #####   ",
    "           ",
)
"""Key-to-Door's last room; the open door leads outside, where the player may walk too."""

LARGE_DOOR_ROOM: Final = (
    "  #######  ",
    "  #+++++#  ",
    "  #+++++#  ",
    "  ##   ##  ",
    "  #ddddd#  ",
    "  #ddddd#  ",
    "  #######  ",
)
"""Key-to-Door's last room with `room="cca"`."""

MATCH_ROOM: Final = (
    "###########",
    "# b  c  e #",
    "#         #",
    "#         #",
    "####   ####",
    "   # + #   ",
    "   #####   ",
)
"""Visual Match's last room; one of the objects `b`, `c`, `e` has the target's colour."""

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    " ": (800, 800, 800),
    "#": (100, 100, 100),
    "+": (898, 584, 430),
    "k": (627, 321, 176),
    "d": (529, 808, 922),
    "a": (550, 700, 0),
    "i": (1000, 1000, 1000),
}
"""RGB in thousandths of everything but the coloured objects; `i` is the key's indicator."""

COLOUR_ORDERS: Final = tuple(itertools.permutations(((1000, 0, 0), (0, 1000, 0), (0, 0, 1000))))
"""The colours that `b`, `c` and `e` can have."""

INDICATOR: Final = (0, 5)
"""Where the indicator shows for one frame when the key is picked up: (row, column)."""


def cells_of(room: tuple[str, ...], characters: str) -> list[int]:
    """The cells, row · 11 + column, that hold one of the characters, in order."""
    return [cell for cell, found in enumerate("".join(room)) if found in characters]


APPLE_CELLS: Final = tuple(cells_of(ORCHARD, "a"))
"""The cells that may hold an apple."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is drawn at random for an episode; cells are row · 11 + column."""

    object: int
    """Explore room: the key's cell, or the coloured wall's."""
    start: int
    """Explore room: the player's first cell."""
    goal: int
    """Reward room: the door's cell, or which of the objects `b`, `c`, `e` matches: 0, 1 or 2."""
    reward_start: int
    """Reward room: the player's first cell."""
    colours: int
    """Which of `COLOUR_ORDERS`; 0 for Key-to-Door."""
    apples: int
    """Bit i is 1 if there is an apple in `APPLE_CELLS[i]`."""

    def to_bytes(self) -> npt.NDArray[np.uint8]:
        """uint8 [9], the first of them 1."""
        first = [1, self.object, self.start, self.goal, self.reward_start, self.colours]
        return np.array([*first, *self.apples.to_bytes(3, "little")], np.uint8)

    @classmethod
    def from_bytes(cls, row: npt.NDArray[np.uint8]) -> Layout:
        """What `to_bytes` returned."""
        _, at, start, goal, reward_start, colours, *apples = row.tolist()
        bits = int.from_bytes(bytes(apples), "little")
        return cls(at, start, goal, reward_start, colours, bits)


class PixelWorldSpec(TaskSpec):
    """Base of the pixel grid-worlds' specs."""

    __slots__ = ()

    family: ClassVar[str] = "PixelWorld"
    action_names: ClassVar[tuple[str, ...]] = ("north", "south", "west", "east")
    obs_dtype: ClassVar[str] = "uint8"
    obs_low: ClassVar[float] = 0
    obs_high: ClassVar[float] = 255
    reset_option: ClassVar[str | None] = "context"
    context_size: ClassVar[int] = 9
    state_fields: ClassVar[tuple[tuple[str, str, int], ...]] = (
        ("due", "<i4", 24),  # an apple is there from the frame after this one on
        ("apples", "<i4", 1),
        ("player", "u1", 1),
        ("object", "u1", 1),
        ("explore_start", "u1", 1),
        ("goal", "u1", 1),
        ("reward_start", "u1", 1),
        ("colours", "u1", 1),
        ("flags", "u1", 1),
        ("zero", "u1", 1),
    )

    if TYPE_CHECKING:  # fields of both, and what tells them apart
        length: int
        explore_frames: int
        reward_frames: int
        num_apples: int
        apple_reward: float
        respawn_every: int
        final_reward: float
        flat: bool

        @property
        def explore_room(self) -> tuple[str, ...]:
            """Pattern of the first room."""

        @property
        def reward_room(self) -> tuple[str, ...]:
            """Pattern of the last room."""

        @property
        def kind(self) -> int:
            """Which of the worlds, as the number of `Kind` in csrc/pixel_world.hpp."""

        @property
        def fixed_colours(self) -> bool:
            """Whether an env has the same colours in every episode."""

    @property
    def is_match(self) -> bool:
        """Whether colours matter: Visual Match rather than Key-to-Door."""
        return self.flag_name == "cue_seen"

    @property
    def episode_length(self) -> int:
        """T, the frames of the three phases together."""
        return self.explore_frames + self.length + self.reward_frames

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """(3, 5, 5), channels first, or (75,) if `flat`."""
        return (3 * VIEW * VIEW,) if self.flat else (3, VIEW, VIEW)

    @property
    def object_cells(self) -> list[int]:
        """Explore room: where the key or the coloured wall can be."""
        return cells_of(self.explore_room, "p" if self.is_match else "k")

    @property
    def start_cells(self) -> list[int]:
        """Explore room: where the player can start."""
        return cells_of(self.explore_room, "+")

    @property
    def goals(self) -> list[int]:
        """Reward room: where the door can be, or 0, 1, 2 for the objects."""
        return [0, 1, 2] if self.is_match else cells_of(self.reward_room, "d")

    @property
    def reward_start_cells(self) -> list[int]:
        """Reward room: where the player can start."""
        return cells_of(self.reward_room, "+")

    @property
    def native_options(self) -> Mapping[str, float]:
        """See `TaskSpec.native_options`."""
        names = ("length", "explore_frames", "reward_frames", "num_apples", "apple_reward",
                 "respawn_every", "final_reward", "fixed_colours", "kind")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def is_possible(self, layout: Layout) -> bool:
        """Whether an episode can begin so."""
        return (
            layout.object in self.object_cells
            and layout.start in self.start_cells
            and layout.goal in self.goals
            and layout.reward_start in self.reward_start_cells
            and layout.colours < (len(COLOUR_ORDERS) if self.is_match else 1)
            and layout.apples < 1 << len(APPLE_CELLS)
            and layout.apples.bit_count() == self.num_apples
        )

    def check_context(self, context: npt.NDArray[np.uint8]) -> None:
        """See `TaskSpec.check_context`."""
        if context[0] != 1 or not self.is_possible(Layout.from_bytes(context)):
            raise ValueError("context: no episode of this task can begin with what is given")

    def encode_context(self, name: str, value: Any) -> npt.NDArray[np.uint8]:
        """See `TaskSpec.encode_context`; the module's text tells what a context is."""
        grids, colours = _parts(name, value, self.is_match)
        given = {"explore", "distractor"} if self.is_match else {"explore", "distractor", "reward"}
        if not isinstance(grids, Mapping) or set(grids) != given:
            raise ValueError(f"{name}['grids']: expected a dict of {sorted(given)}, got {grids!r}")
        where = f"{name}['grids']"
        kinds = {"p": ("bce", "#")} if self.is_match else {"k": ("k", " ")}
        explore = _read(f"{where}['explore']", grids["explore"], self.explore_room,
                        {**kinds, "+": ("+", " ")})  # fmt: skip
        orchard = _read(f"{where}['distractor']", grids["distractor"], ORCHARD, {"a": ("a", " ")})
        object_cell, mark = _only(f"{where}['explore']", explore["p" if self.is_match else "k"])
        start, _ = _only(f"{where}['explore']", explore["+"])
        apples = sum(1 << APPLE_CELLS.index(cell) for cell, _ in orchard["a"])
        if apples.bit_count() != self.num_apples:
            raise ValueError(
                f"{where}['distractor']: expected {self.num_apples} apples, as in this task, "
                f"got {apples.bit_count()}"
            )
        if self.is_match:
            order = _colour_order(f"{name}['colours']", colours)
            goal, reward_start = "bce".index(mark), self.reward_start_cells[0]
        else:
            kinds = {"d": ("d", " "), "+": ("+", " ")}
            room = _read(f"{where}['reward']", grids["reward"], self.reward_room, kinds)
            goal, _ = _only(f"{where}['reward']", room["d"])
            reward_start, _ = _only(f"{where}['reward']", room["+"])
            order = 0
        return Layout(object_cell, start, goal, reward_start, order, apples).to_bytes()

    def _check(self) -> None:
        for name in ("length", "explore_frames", "reward_frames"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1, MAX_LENGTH))
        for name, most in (("num_apples", len(APPLE_CELLS)), ("respawn_every", MAX_LENGTH)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 0, most))
        for name in ("apple_reward", "final_reward"):
            object.__setattr__(self, name, check_reward(name, getattr(self, name)))
        object.__setattr__(self, "flat", check_boolean("flat", self.flat))
        if self.episode_length > MAX_LENGTH:
            raise ValueError(
                "length + explore_frames + reward_frames: expected at most "
                f"{MAX_LENGTH}, got {self.episode_length}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyToDoorSpec(PixelWorldSpec):
    """Key-to-Door: pick up the key, collect apples, open the door (Ni et al. 2023, Sec. 5.2).

    Picking up the key pays nothing, and shows a white indicator for one frame. Without the key the
    door stays shut.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    flag_name: ClassVar[str | None] = "key_taken"

    length: int = 30
    """Frames of the distractor phase; at least 1."""
    room: str = "sr"
    """"sr": the last room is the paper's, of 3 × 3 cells; "cca": the original task's larger one,
    where the player and the door stand anywhere."""
    explore_frames: int = 15
    """Frames of the first phase."""
    reward_frames: int | None = None  # type: ignore[assignment]
    """Frames of the last phase; None for 10 with room "sr" and 15 with "cca"."""
    num_apples: int = 10
    """Apples in the orchard at its first frame, 0 to 22."""
    apple_reward: float = 1.0
    """Paid for each apple."""
    respawn_every: int = 20
    """An eaten apple is back when so many frames have passed; 0 for never."""
    final_reward: float = 5.0
    """Paid for entering the door, once."""
    flat: bool = False
    """Observations of shape (75,) instead of (3, 5, 5)."""

    def __post_init__(self) -> None:
        if not isinstance(self.room, str) or self.room not in ("sr", "cca"):
            raise ValueError(f"room: expected 'sr' or 'cca', got {self.room!r}")
        if self.reward_frames is None:
            object.__setattr__(self, "reward_frames", 10 if self.room == "sr" else 15)
        self._check()

    @property
    def explore_room(self) -> tuple[str, ...]:
        """Pattern of the first room."""
        return EXPLORE_ROOM

    @property
    def reward_room(self) -> tuple[str, ...]:
        """Pattern of the last room."""
        return DOOR_ROOM if self.room == "sr" else LARGE_DOOR_ROOM

    @property
    def kind(self) -> int:
        """Which of the worlds, as the number of `Kind` in csrc/pixel_world.hpp."""
        return 0 if self.room == "sr" else 1

    @property
    def fixed_colours(self) -> bool:
        """There are none that matter."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualMatchSpec(PixelWorldSpec):
    """Visual Match: see a colour, collect apples, touch the object of that colour (Sec. 5.1).

    Touching one of the three objects pays `final_reward` if it has the colour, and else nothing;
    all three vanish, and the play goes on to the end.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.
    """

    flag_name: ClassVar[str | None] = "cue_seen"
    chance: ClassVar[float | None] = 1 / 3

    length: int = 30
    """Frames of the distractor phase; at least 1."""
    passive: bool = True
    """The colour is in view from the start; False: it is somewhere in the wall of a room."""
    explore_frames: int = 15
    """Frames of the first phase."""
    reward_frames: int = 15
    """Frames of the last phase."""
    num_apples: int = 10
    """Apples in the orchard at its first frame, 0 to 22."""
    apple_reward: float = 1.0
    """Paid for each apple."""
    respawn_every: int = 20
    """An eaten apple is back when so many frames have passed; 0 for never."""
    final_reward: float = 5.0
    """Paid for touching the object of the right colour."""
    fixed_colours: bool = False
    """Draw which object has which colour once for each env, as the published code does, instead of
    for each episode."""
    flat: bool = False
    """Observations of shape (75,) instead of (3, 5, 5)."""

    def __post_init__(self) -> None:
        for name in ("passive", "fixed_colours"):
            object.__setattr__(self, name, check_boolean(name, getattr(self, name)))
        self._check()

    @property
    def explore_room(self) -> tuple[str, ...]:
        """Pattern of the first room."""
        return PASSIVE_ROOM if self.passive else ACTIVE_ROOM

    @property
    def reward_room(self) -> tuple[str, ...]:
        """Pattern of the last room."""
        return MATCH_ROOM

    @property
    def kind(self) -> int:
        """Which of the worlds, as the number of `Kind` in csrc/pixel_world.hpp."""
        return 2 if self.passive else 3


def passive_visual_match(**options: Any) -> VisualMatchSpec:
    """The colour is in view at the start (Ni et al. 2023, Sec. 5.1).

    Args:
        **options: any option of `VisualMatchSpec` but `passive`.
    """
    return VisualMatchSpec(passive=True, **options)


def active_visual_match(**options: Any) -> VisualMatchSpec:
    """The colour has to be looked for first (Hung et al. 2019).

    Args:
        **options: any option of `VisualMatchSpec` but `passive`.
    """
    return VisualMatchSpec(passive=False, **options)


def _parts(name: str, value: Any, is_match: bool) -> tuple[Any, Any]:
    """The grids and the colours of a context."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict, got {type(value).__name__}")
    wanted = ("grids", "colours") if is_match else ("grids",)
    for key in value:
        if key not in ("grids", "colours"):
            raise ValueError(f"{name}: expected keys among ('grids', 'colours'), got {key!r}")
    for key in wanted:
        if key not in value:
            raise ValueError(f"{name}: expected a key {key!r}, got {sorted(value)}")
    return value["grids"], value.get("colours")


def _read(
    name: str, grid: Any, room: tuple[str, ...], drawn: Mapping[str, tuple[str, str]]
) -> dict[str, list[tuple[int, str]]]:
    """What stands on the cells of a room that differ from episode to episode.

    Args:
        name: what an error calls the grid.
        grid: the room, one string or a list of rows.
        room: its pattern.
        drawn: for a pattern's character, what may stand on its cells, and what else does.

    Returns:
        For each character of `drawn`, (cell, character found) where it is not the other one.
    """
    rows = [grid] if isinstance(grid, str) else grid
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, str) for row in rows):
        raise TypeError(f"{name}: expected {ROWS} rows of {COLUMNS} characters, got {grid!r}")
    text = "".join(rows)
    if len(text) != ROWS * COLUMNS:
        raise ValueError(f"{name}: expected {ROWS} rows of {COLUMNS} characters, got {grid!r}")
    found: dict[str, list[tuple[int, str]]] = {character: [] for character in drawn}
    for cell, (given, pattern) in enumerate(zip(text, "".join(room), strict=True)):
        some, other = drawn.get(pattern, ("", " " if pattern in "+" else pattern))
        if pattern == "+" and pattern not in drawn:
            some = "+"  # the player's only start
        if given != other and (given not in some or not some):
            place = (cell // COLUMNS, cell % COLUMNS)
            raise ValueError(f"{name}: expected {(some + other)!r} at {place}, got {given!r}")
        if given != other and pattern in found:
            found[pattern].append((cell, given))
    return found


def _only(name: str, found: list[tuple[int, str]]) -> tuple[int, str]:
    if len(found) != 1:
        raise ValueError(f"{name}: expected one of each that is drawn, got {len(found)}")
    return found[0]


def _colour_order(name: str, colours: Any) -> int:
    wanted = f"{name}: expected pure red, green and blue in thousandths for 'b', 'c' and 'e'"
    if not isinstance(colours, Mapping) or set(colours) != set("bce"):
        raise ValueError(f"{wanted}, got {colours!r}")
    try:
        order = tuple(tuple(colours[mark]) for mark in "bce")
    except TypeError as error:
        raise TypeError(f"{wanted}, got {colours!r}") from error
    if order not in COLOUR_ORDERS:
        raise ValueError(f"{wanted}, got {colours!r}")
    return COLOUR_ORDERS.index(order)
