"""Every task and every family of tasks in one place: all other code asks here.

A family is a set of rules: a spec, a specification env, a native core, a renderer. A task is a
family with some of its options filled in, under a name. `docs/adding-a-task.md` shows how to add
one.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from fastmaze.specs.base import TaskSpec
from fastmaze.specs.card_games import AutoencodeSpec, RepeatFirstSpec
from fastmaze.specs.corridor_mazes import CorridorMazeSpec, bakker_t_maze, lambrechts_t_maze
from fastmaze.specs.delayed_catch import DelayedCatchSpec
from fastmaze.specs.heaven_hell import HeavenHellSpec
from fastmaze.specs.memory_cards import MemoryCardsSpec
from fastmaze.specs.memory_length import MemoryLengthSpec
from fastmaze.specs.minigrid_memory import MiniGridMemorySpec
from fastmaze.specs.pixel_worlds import (
    KeyToDoorSpec,
    VisualMatchSpec,
    active_visual_match,
    passive_visual_match,
)
from fastmaze.specs.tmaze import TMazeSpec, active_tmaze, passive_tmaze, tmaze
from fastmaze.specs.tmaze_long import TMazeLongSpec
from fastmaze.specs.umbrella_length import UmbrellaLengthSpec


@dataclass(frozen=True, kw_only=True)
class Family:
    """One set of rules, and who computes and draws them; classes as "module:Class"."""

    reference: str
    """The specification env."""
    renderer: str
    """What draws it."""
    backends: tuple[str, ...] = ("native", "reference")
    """Names of the backends that have it."""

    def load(self, name: str) -> Any:
        """The class that a field names, e.g. `load("reference")`."""
        module, _, attribute = getattr(self, name).partition(":")
        return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Paper:
    """What the table of Ni et al. 2023 says of a task, in its words."""

    T: str
    """Length of an episode in their source."""
    l_mem: str
    """Policy memory length: how far back an optimal policy must look."""
    m: str
    """Memory length of the task: how far back rewards and observations depend."""
    c: str
    """Credit assignment length: how far ahead an action's benefit can lie."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task by name."""

    make: Callable[..., TaskSpec]
    """The function that turns options into a spec; it checks their values."""
    spec: type[TaskSpec]
    """What `make` returns."""
    dial: str = "length"
    """The option that makes the task longer."""
    fixed: tuple[str, ...] = ()
    """Fields of the spec that are no options of this task."""
    summary: str
    """What the agent has to do, in some words."""
    paper: Paper | None = None
    """The paper's row; None where it has none."""

    @property
    def options(self) -> frozenset[str]:
        """Names of the options."""
        fields = {field.name for field in dataclasses.fields(self.spec)}  # type: ignore[arg-type]
        return frozenset(fields.difference(self.fixed) | {self.dial})

    @property
    def family(self) -> Family:
        """The rules."""
        return FAMILIES[self.spec.family]


FAMILIES: Final[Mapping[str, Family]] = {
    "TMaze": Family(
        reference="fastmaze.reference.tmaze:TMaze",
        renderer="fastmaze.envs.rendering:TMazeRenderer",
        backends=("native", "numba", "device", "reference"),
    ),
    "MemoryLength": Family(
        reference="fastmaze.reference.memory_length:MemoryLength",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "PixelWorld": Family(
        reference="fastmaze.reference.pixel_world:PixelWorld",
        renderer="fastmaze.envs.pixel_rendering:PixelWorldRenderer",
    ),
    "UmbrellaLength": Family(
        reference="fastmaze.reference.umbrella_length:UmbrellaLength",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "RepeatFirst": Family(
        reference="fastmaze.reference.card_games:RepeatFirst",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "Autoencode": Family(
        reference="fastmaze.reference.card_games:Autoencode",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "CorridorMaze": Family(
        reference="fastmaze.reference.corridor_maze:CorridorMaze",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "TMazeLong": Family(
        reference="fastmaze.reference.tmaze_long:TMazeLong",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "HeavenHell": Family(
        reference="fastmaze.reference.heaven_hell:HeavenHell",
        renderer="fastmaze.envs.grid_rendering:GridRenderer",
    ),
    "MemoryCards": Family(
        reference="fastmaze.reference.memory_cards:MemoryCards",
        renderer="fastmaze.envs.plain_rendering:PlainRenderer",
    ),
    "DelayedCatch": Family(
        reference="fastmaze.reference.delayed_catch:DelayedCatch",
        renderer="fastmaze.envs.grid_rendering:GridRenderer",
    ),
    "MiniGridMemory": Family(
        reference="fastmaze.reference.minigrid_memory:MiniGridMemory",
        renderer="fastmaze.envs.grid_rendering:GridRenderer",
    ),
}
"""`TaskSpec.family` to what there is of it."""

TASKS: Final[Mapping[str, Task]] = {
    "PassiveTMaze": Task(
        make=passive_tmaze,
        spec=TMazeSpec,
        fixed=("corridor_length",),
        summary="remember the cue of the first step until the junction",
        paper=Paper("1500", "T", "T", "1"),
    ),
    "ActiveTMaze": Task(
        make=active_tmaze,
        spec=TMazeSpec,
        fixed=("corridor_length",),
        summary="fetch the cue first, then remember it until the junction",
        paper=Paper("500", "T", "T", "T"),
    ),
    "TMaze": Task(
        make=tmaze,
        spec=TMazeSpec,
        dial="corridor_length",
        summary="a T-Maze with every option",
    ),
    "PassiveVisualMatch": Task(
        make=passive_visual_match,
        spec=VisualMatchSpec,
        fixed=("passive",),
        summary="see a colour, collect apples, touch the object of that colour",
        paper=Paper("1030", "T", "T", "≤ 18"),
    ),
    "ActiveVisualMatch": Task(
        make=active_visual_match,
        spec=VisualMatchSpec,
        fixed=("passive",),
        summary="find a colour, collect apples, touch the object of that colour",
        paper=Paper("600", "T", "T", "T"),
    ),
    "KeyToDoor": Task(
        make=KeyToDoorSpec,
        spec=KeyToDoorSpec,
        summary="pick up the key, collect apples, open the door",
        paper=Paper("530", "short", "T", "T"),
    ),
    "MemoryLength": Task(
        make=MemoryLengthSpec,
        spec=MemoryLengthSpec,
        summary="remember the bits of the first step, name one at the last",
        paper=Paper("100", "T", "T", "1"),
    ),
    "UmbrellaLength": Task(
        make=UmbrellaLengthSpec,
        spec=UmbrellaLengthSpec,
        summary="take an umbrella at the first step if the last one needs it, amid noise",
        paper=Paper("100", "1", "1", "T"),
    ),
    "RepeatFirst": Task(
        make=RepeatFirstSpec,
        spec=RepeatFirstSpec,
        dial="decks",
        summary="name the suit of the first card at every step",
        paper=Paper("831", "2", "T", "1"),
    ),
    "Autoencode": Task(
        make=AutoencodeSpec,
        spec=AutoencodeSpec,
        dial="decks",
        summary="watch a deck being dealt, then name its suits backwards",
        paper=Paper("311", "T", "T", "1"),
    ),
    "BakkerTMaze": Task(
        make=bakker_t_maze,
        spec=CorridorMazeSpec,
        fixed=("one_hot", "stochasticity"),
        summary="remember the sign at the start until the junction; bumping costs",
        paper=Paper("100", "T", "T", "T"),
    ),
    "LambrechtsTMaze": Task(
        make=lambrechts_t_maze,
        spec=CorridorMazeSpec,
        fixed=("one_hot",),
        summary="the same, one-hot, with some actions replaced",
        paper=Paper("200", "T", "T", "T"),
    ),
    "TMazeLong": Task(
        make=TMazeLongSpec,
        spec=TMazeLongSpec,
        summary="remember the cue of the first step; the corridor moves by itself",
        paper=Paper("100", "T", "T", "1"),
    ),
    "HeavenHell": Task(
        make=HeavenHellSpec,
        spec=HeavenHellSpec,
        dial="size",
        summary="ask the priest which arm is heaven, then go there",
        paper=Paper("20", "T", "T", "T"),
    ),
    "MemoryCards": Task(
        make=MemoryCardsSpec,
        spec=MemoryCardsSpec,
        dial="episode_length",
        summary="find the partner of the card that shows",
        paper=Paper("50", "long", "long", "1"),
    ),
    "DelayedCatch": Task(
        make=DelayedCatchSpec,
        spec=DelayedCatchSpec,
        dial="runs",
        summary="catch ball after ball, all paid at the end",
        paper=Paper("280", "1", "T", "T"),
    ),
    "MiniGridMemory": Task(
        make=MiniGridMemorySpec,
        spec=MiniGridMemorySpec,
        dial="episode_length",
        summary="see an object, go to the one of the same kind",
        paper=Paper("1445", "≤ 51", "T", "≤ 51"),
    ),
}
"""Every task by name."""


def make_spec(task: str, **options: Any) -> TaskSpec:
    """Builds the spec of a named task.

    Args:
        task: a key of `TASKS`.
        **options: the task's options, e.g. `length=1000` for PassiveTMaze.

    Returns:
        A `TaskSpec`, for the T-Mazes a `TMazeSpec`.

    Raises:
        ValueError: no such task, or an option out of range.
        TypeError: no such option, or an option of the wrong type.
    """
    if not isinstance(task, str):
        raise TypeError(f"task: expected the name of a task, got {type(task).__name__}")
    if task not in TASKS:
        raise ValueError(f"task: expected one of {tuple(TASKS)}, got {task!r}{_hint(task, TASKS)}")
    entry = TASKS[task]
    known = entry.options
    for name in options:
        if name == "max_episode_steps":
            instead = "episode_length" if "episode_length" in known else entry.dial
            raise TypeError(
                f"{task} has no option 'max_episode_steps': an episode's length is part of the "
                f"task, so that its last step is a termination; give {instead} instead"
            )
        if name not in known:
            # Python's own words first: TorchRL's GymEnv tries "frameskip" and goes by them.
            raise TypeError(
                f"got an unexpected keyword argument {name!r}: "
                f"{task} has no option {name!r}{_hint(name, known)}; "
                f"its options are {', '.join(sorted(known))}"
            )
    return entry.make(**options)


def dial_of(task: str) -> str:
    """The option that makes a task longer; of a name that is no task's, the usual one."""
    return TASKS[task].dial if isinstance(task, str) and task in TASKS else Task.dial


def make_tmaze_spec(who: str, task: str, **options: Any) -> TMazeSpec:
    """`make_spec` for what knows the T-Mazes alone.

    Args:
        who: what supports no other task, for the message.
        task: as for `make_spec`.
        **options: as for `make_spec`.

    Raises:
        ValueError: another task; or as `make_spec`.
        TypeError: as `make_spec`.
    """
    if isinstance(task, str) and task in TASKS and TASKS[task].spec is not TMazeSpec:
        mazes = tuple(name for name, entry in TASKS.items() if entry.spec is TMazeSpec)
        raise ValueError(f"task: {who} supports {mazes}, got {task!r}")
    spec = make_spec(task, **options)
    assert isinstance(spec, TMazeSpec)  # as the registry says
    return spec


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
