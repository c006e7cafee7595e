"""Mazes of the paper in abstract form: a cue, a walk, and a turn.

`small_tasks` says what is kept and what is dropped.
"""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import Any

from fastmaze.lengths.abstract import END, HALF, Outcome, abstract
from fastmaze.lengths.exact import rational
from fastmaze.lengths.tabular import TabularPOMDP
from fastmaze.specs import check_boolean, check_integer


def tmaze_long(length: int = 5, noise: bool = False) -> TabularPOMDP:
    """Beck et al.'s T-Maze Long: every action moves on, only the last one counts.

    Args:
        length: N = T cells.
        noise: one more random bit in each observation.
    """
    length, noise = check_integer("length", length, 2, 500), check_boolean("noise", noise)
    bits = (" -", " +") if noise else ("",)
    chance = Fraction(1, len(bits))

    def step(cue: Any, action: str, t: int) -> list[Outcome]:
        seen = END if t == length else "turn" if t == length - 1 else "on"
        paid = (4 if action == cue else -3) if t == length else 0
        return [(chance, cue, seen + bit, paid) for bit in bits]

    start = [(HALF * chance, cue, f"cue {cue}{bit}") for cue in ("up", "down") for bit in bits]
    return abstract("TMazeLong", length, start, step, ("up", "down"), length)


def heaven_hell(size: int = 1, episode_length: int | None = None) -> TabularPOMDP:
    """HeavenHell: a priest in a dead end knows which arm of the maze is heaven.

    The agent sees its cell; only the priest's looks different in the two worlds. As in the
    published model (Cassandra's file format, the start above a corner), whatever the agent does in
    the last cell of an arm is paid and ends the episode: the walk to the priest and to there takes
    4n + 2 steps, the one that is paid is the last of 4n + 3.

    Args:
        size: n, cells of the stem, of each arm, and of the way from the corner to the priest.
        episode_length: T; 4n + 3, the shortest that does, if not given.
    """
    size = check_integer("size", size, 1, 50)
    horizon = 4 * size + 3
    if episode_length is not None:
        horizon = check_integer("episode_length", episode_length, 1, 500)
    cells = {(0, y) for y in range(-1, size + 1)}
    cells |= {(x, size) for x in range(-size, size + 1)} | {(x, -1) for x in range(size + 1)}
    moves = {"north": (0, 1), "south": (0, -1), "west": (-1, 0), "east": (1, 0)}

    def look(world: int, cell: tuple[int, int]) -> str:
        told = f" heaven {'left' if world < 0 else 'right'}" if cell == (size, -1) else ""
        return f"{cell}{told}"

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        if state == END:
            return [(1, END, END, 0)]
        world, (x, y) = state
        if y == size and abs(x) == size:
            return [(1, END, END, 1 if x * world > 0 else -1)]
        dx, dy = moves[action]
        cell = (x + dx, y + dy) if (x + dx, y + dy) in cells else (x, y)
        return [(1, (world, cell), look(world, cell), 0)]

    start = [(HALF, (world, (0, 0)), look(world, (0, 0))) for world in (-1, 1)]
    return abstract("HeavenHell", size, start, step, tuple(moves), horizon)


def bakker_tmaze(
    length: int = 5, episode_length: int | None = None, stochasticity: Any = 0
) -> TabularPOMDP:
    """Bakker's T-Maze: a cue whenever at the start, a turn at the end, -0.1 for standing still.

    Args:
        length: N, the junction is cell N.
        episode_length: T; N + 1, the shortest walk, if not given.
        stochasticity: chance that the action is replaced by a uniform one (Lambrechts et al.).
    """
    length = check_integer("length", length, 1, 500)
    horizon = length + 1
    if episode_length is not None:
        horizon = check_integer("episode_length", episode_length, 1, 500)
    slip, _ = rational("stochasticity", stochasticity)
    if not 0 <= slip <= 1:
        raise ValueError(f"stochasticity: expected a number from 0 to 1, got {stochasticity}")
    actions = ("right", "up", "left", "down")

    def look(cue: str, cell: int) -> str:
        return cue if cell == 0 else "010" if cell == length else "101"

    def move(state: Any, action: str) -> tuple[Hashable, Hashable, Fraction | int]:
        if state == END:
            return END, END, 0
        cue, cell = state
        if cell == length and action in ("up", "down"):
            right = (action == "up") == (cue == "011")
            return END, END, 4 if right else Fraction(-1, 10)
        to = min(max(cell + {"right": 1, "left": -1}.get(action, 0), 0), length)
        return (cue, to), look(cue, to), 0 if to != cell else Fraction(-1, 10)

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        outcomes: list[Outcome] = [(1 - slip, *move(state, action))]
        return outcomes + [(slip / 4, *move(state, other)) for other in actions if slip]

    start = [(HALF, (cue, 0), cue) for cue in ("011", "110")]
    return abstract("BakkerTMaze", length, start, step, actions, horizon)
