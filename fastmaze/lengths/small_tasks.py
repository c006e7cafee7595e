"""The paper's other tasks in abstract form, small enough to enumerate.

Each keeps what decides its lengths (who sees what when, what is paid when) and drops the rest:
pixels, room layouts, the size of a deck. Where a published environment leaves its mark, the
docstring says so.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from fastmaze.lengths.tabular import TabularPOMDP, check_gamma
from fastmaze.specs import check_boolean, check_integer

Outcome = tuple[Fraction | int, Hashable, Hashable, Fraction | int]
Start = Iterable[tuple[Fraction, Hashable, Hashable]]

HALF: Final = Fraction(1, 2)
END: Final = "end"
"""State and observation after an episode's early end."""


def memory_length(length: int = 5, bits: int = 1) -> TabularPOMDP:
    """Bsuite's memory_chain: bits are shown at first, one of them is asked for at the end.

    The reset and the first step both show k = 0, so the context is seen twice; n + 1 actions.

    Args:
        length: n.
        bits: how many bits; which of them is asked for is drawn anew and shown at k = n - 1.
    """
    length, bits = check_integer("length", length, 1, 500), check_integer("bits", bits, 1, 8)
    contexts = list(itertools.product((0, 1), repeat=bits))

    def look(k: int, state: Any) -> Hashable:
        context, query = state
        shown = context if k == 0 else "-"
        return f"{shown} ask {query}" if k == length - 1 else str(shown)

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        context, query = state
        # bsuite takes the observation before it advances its clock.
        seen = look(t - 1, state) if t <= length else END
        paid = (1 if action == f"say {context[query]}" else -1) if t == length + 1 else 0
        return [(1, state, seen, paid)]

    chance = Fraction(1, len(contexts) * bits)
    start = [(chance, (c, q), look(0, (c, q))) for c in contexts for q in range(bits)]
    return _made("MemoryLength", length, start, step, ("say 0", "say 1"), length + 1)


def umbrella_length(length: int = 5, distractors: int = 1) -> TabularPOMDP:
    """Bsuite's umbrella_chain: take an umbrella at the first step or not; it matters at the last.

    Args:
        length: n = T.
        distractors: random bits beside what matters, drawn anew at each step.
    """
    length = check_integer("length", length, 1, 500)
    distractors = check_integer("distractors", distractors, 0, 4)
    noise = list(itertools.product((0, 1), repeat=distractors))
    chance = Fraction(1, len(noise))

    def look(need: int, has: int, bits: tuple[int, ...]) -> str:
        return f"need {need} has {has} {''.join(map(str, bits))}".strip()

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        need, has = state
        has = int(action == "take it") if t == 1 else has
        last = (1 if need == has else -1) if t == length else 0
        pays = (last,) if t == length else (-1, 1)
        return [
            (chance / len(pays), (need, has), look(need, has, bits), paid)
            for bits in noise
            for paid in pays
        ]

    start = [
        (chance / 4, (need, has), look(need, has, bits))
        for need in (0, 1)
        for has in (0, 1)
        for bits in noise
    ]
    return _made("UmbrellaLength", length, start, step, ("leave it", "take it"), length)


def repeat_first(copies: int = 2, suits: int = 2) -> TabularPOMDP:
    """POPGym's RepeatFirst with a small deck: name the first card's suit at every step.

    Args:
        copies: cards of each suit (13 a deck in POPGym); N = suits × copies cards, T = N - 1.
        suits: 4 in POPGym.
    """
    copies, suits = check_integer("copies", copies, 1, 52), check_integer("suits", suits, 2, 4)
    horizon = suits * copies - 1

    def draw(left: tuple[int, ...]) -> list[tuple[Fraction, int, tuple[int, ...]]]:
        total = sum(left)
        return [
            (Fraction(count, total), suit, (*left[:suit], count - 1, *left[suit + 1 :]))
            for suit, count in enumerate(left)
            if count
        ]

    def step(state: Any, action: int, t: int) -> list[Outcome]:
        first, left = state
        paid = Fraction(1 if action == first else -1, horizon)
        return [(p, (first, rest), f"suit {suit}", paid) for p, suit, rest in draw(left)]

    start = [(p, (suit, rest), f"suit {suit}") for p, suit, rest in draw((copies,) * suits)]
    return _made("RepeatFirst", copies, start, step, _says(suits), horizon)


def autoencode(copies: int = 2, suits: int = 2) -> TabularPOMDP:
    """POPGym's Autoencode with a small deck: watch N cards, then say them in reverse order.

    As there, the last card is shown in mode "play", and what is shown later is always the same.

    Args:
        copies: cards of each suit; N = suits × copies, T = 2N - 1.
        suits: 4 in POPGym.
    """
    copies, suits = check_integer("copies", copies, 1, 8), check_integer("suits", suits, 2, 4)
    cards = suits * copies

    def draw(dealt: tuple[int, ...]) -> list[tuple[Fraction, tuple[int, ...], str]]:
        mode = "play" if len(dealt) + 1 == cards else "watch"
        left = [copies - dealt.count(suit) for suit in range(suits)]
        return [
            (Fraction(count, sum(left)), (*dealt, suit), f"{mode} {suit}")
            for suit, count in enumerate(left)
            if count
        ]

    def step(dealt: Any, action: int, t: int) -> list[Outcome]:
        if t < cards:
            return [(p, longer, seen, 0) for p, longer, seen in draw(dealt)]
        paid = Fraction(1 if action == dealt[-1] else -1, cards)
        return [(1, dealt[:-1], "play 0", paid)]

    return _made("Autoencode", copies, draw(()), step, _says(suits), 2 * cards - 1)


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
    return _made("TMazeLong", length, start, step, ("up", "down"), length)


def heaven_hell(size: int = 1, episode_length: int | None = None) -> TabularPOMDP:
    """HeavenHell: a priest in a dead end knows which arm of the maze is heaven.

    The agent sees its cell; only the priest's looks different in the two worlds. The walk to the
    priest and to heaven takes 4n + 2 steps.

    Args:
        size: n, cells of the stem, of each arm, and of the way to the priest.
        episode_length: T; 4n + 3 if not given, which leaves one spare step.
    """
    size = check_integer("size", size, 1, 50)
    horizon = 4 * size + 3
    if episode_length is not None:
        horizon = check_integer("episode_length", episode_length, 1, 500)
    cells = {(0, y) for y in range(-1, size + 1)}
    cells |= {(x, size) for x in range(-size, size + 1)} | {(x, -1) for x in range(size + 1)}
    moves = {"north": (0, 1), "south": (0, -1), "west": (-1, 0), "east": (1, 0)}

    def look(world: int, cell: tuple[int, int]) -> str:
        return (
            f"{cell} heaven {'left' if world < 0 else 'right'}"
            if cell == (size, -1)
            else (f"{cell}")
        )

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        if state == END:
            return [(1, END, END, 0)]
        world, (x, y) = state
        dx, dy = moves[action]
        cell = (x + dx, y + dy) if (x + dx, y + dy) in cells else (x, y)
        if cell[1] == size and abs(cell[0]) == size:
            return [(1, END, END, 1 if cell[0] * world > 0 else -1)]
        return [(1, (world, cell), look(world, cell), 0)]

    start = [(HALF, (world, (0, 0)), look(world, (0, 0))) for world in (-1, 1)]
    return _made("HeavenHell", size, start, step, tuple(moves), horizon)


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
    slip = Fraction(str(stochasticity))
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
    return _made("BakkerTMaze", length, start, step, actions, horizon)


def memory_cards(pairs: int = 2, episode_length: int = 4) -> TabularPOMDP:
    """Memory cards: one card shows at each step; pick its partner from memory.

    As in the published environment, cards that are gone are seen to be, picking the shown card is
    wrong, and the episode ends with the last pair.

    Args:
        pairs: p; 2p cards, 2p actions.
        episode_length: T, 50 in the paper.
    """
    pairs = check_integer("pairs", pairs, 1, 3)
    horizon = check_integer("episode_length", episode_length, 1, 50)
    cards = 2 * pairs
    values = [i // 2 for i in range(cards)]
    deals = sorted(set(itertools.permutations(values)))
    removed = -1

    def look(deal: tuple[int, ...], shown: int) -> str:
        return "".join(
            "x" if value == removed else str(value) if i == shown else "?"
            for i, value in enumerate(deal)
        )

    def show(deal: tuple[int, ...], paid: int) -> list[Outcome]:
        left = [i for i, value in enumerate(deal) if value != removed]
        if not left:
            return [(1, END, END, paid)]
        return [(Fraction(1, len(left)), (deal, i), look(deal, i), paid) for i in left]

    def step(state: Any, action: int, t: int) -> list[Outcome]:
        if state == END:
            return [(1, END, END, 0)]
        deal, shown = state
        if action == shown or deal[action] != deal[shown]:
            return show(deal, -1)
        rest = tuple(removed if i in (action, shown) else x for i, x in enumerate(deal))
        return show(rest, 0)

    start = [
        (p / len(deals), state, seen)
        for deal in deals
        for p, state, seen, _ in show(deal, 0)
    ]  # fmt: skip
    return _made("MemoryCards", pairs, start, step, tuple(range(cards)), horizon)


def delayed_catch(runs: int = 2, size: int = 3) -> TabularPOMDP:
    """Catch, run after run; how many balls were caught is paid at the very last step only.

    Each run drops a ball from a random column, with the paddle in the middle again; size - 1
    falling steps and one empty step, after which the next run's board shows.

    Args:
        runs: 40 in the paper.
        size: cells of each side of the board, odd; 7 in the paper.
    """
    runs, size = check_integer("runs", runs, 1, 20), check_integer("size", size, 3, 7)
    if size % 2 == 0:
        raise ValueError(f"size: expected an odd number, got {size}")
    fall = size - 1
    horizon = size * (runs - 1) + fall

    def look(state: Any) -> str:
        ball, paddle, row, _ = state
        return f"ball {ball} row {row} paddle {paddle}"

    def fresh(caught: int) -> list[tuple[int, int, int, int]]:
        return [(ball, size // 2, 0, caught) for ball in range(size)]

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        ball, paddle, row, caught = state
        if row == fall:  # the empty step
            return [(Fraction(1, size), new, look(new), 0) for new in fresh(caught)]
        paddle = min(max(paddle + {"left": -1, "right": 1}.get(action, 0), 0), size - 1)
        caught += row + 1 == fall and ball == paddle
        new = (ball, paddle, row + 1, caught)
        return [(1, new, look(new), caught if t == horizon else 0)]

    start = [(Fraction(1, size), state, look(state)) for state in fresh(0)]
    return _made("DelayedCatch", runs, start, step, ("left", "stay", "right"), horizon)


def key_to_door(distractor: int = 2, explore: int = 2) -> TabularPOMDP:
    """Key-to-Door in abstract form: a key, apples that have nothing to do with it, a door.

    Explore: the key lies to the left or to the right, in plain view until it is taken; taking it
    pays nothing and shows an indicator once. Distractor: each step an apple lies to one side and
    pays 1. Reward: one step in front of the door, which lets in whoever has the key and pays 5.

    Args:
        distractor: steps with apples.
        explore: steps with the key.
    """
    distractor = check_integer("distractor", distractor, 0, 200)
    explore = check_integer("explore", explore, 1, 20)
    sides = ("left", "right")
    horizon = explore + distractor + 1

    def arrive(t: int, key: str, taken: bool) -> list[tuple[Fraction | int, Hashable, str]]:
        """What the step before t leads to."""
        if t <= explore:
            state = (key, taken, "")
            return [(1, state, "no key" if taken else f"key {key}")]
        if t <= explore + distractor:
            return [(HALF, ("", taken, apple), f"apple {apple}") for apple in sides]
        return [(1, ("", taken, ""), "door" if t == horizon else END)]

    def step(state: Any, action: str, t: int) -> list[Outcome]:
        key, taken, apple = state
        paid = 0
        found = False
        if t <= explore:
            found = action == key and not taken
        elif t <= explore + distractor:
            paid = int(action == apple)
        elif action == "right" and taken:
            paid = 5
        shine = ", indicator" if found else ""
        following = arrive(t + 1, key, taken or found)
        return [(p, new, seen + shine, paid) for p, new, seen in following]

    start = [(HALF * p, s, seen) for key in sides for p, s, seen in arrive(1, key, False)]
    return _made("KeyToDoor", distractor, start, step, sides, horizon)


@dataclass(frozen=True, slots=True)
class SmallTask:
    """A task of the paper's table in abstract form."""

    build: Callable[..., TabularPOMDP]
    dial: str
    """The option that `--length` sets."""
    sweep: tuple[int, ...]
    """Values of it for the table."""


SMALL_TASKS: Final[dict[str, SmallTask]] = {
    "MemoryLength": SmallTask(memory_length, "length", (2, 3, 4, 5, 6)),
    "UmbrellaLength": SmallTask(umbrella_length, "length", (2, 3, 4, 5, 6)),
    "RepeatFirst": SmallTask(repeat_first, "copies", (2, 3, 4)),
    "Autoencode": SmallTask(autoencode, "copies", (2, 3, 4)),
    "TMazeLong": SmallTask(tmaze_long, "length", (2, 3, 4, 5, 6)),
    "HeavenHell": SmallTask(heaven_hell, "size", (1, 2, 3)),
    "BakkerTMaze": SmallTask(bakker_tmaze, "length", (2, 3, 4, 5, 6)),
    "MemoryCards": SmallTask(memory_cards, "episode_length", (2, 3, 4, 5)),
    "DelayedCatch": SmallTask(delayed_catch, "runs", (2, 3, 4)),
    "KeyToDoor": SmallTask(key_to_door, "distractor", (1, 2, 3, 4)),
}
"""Task name to its abstract form."""


def small_task(name: str, gamma: Any = 1, **options: Any) -> TabularPOMDP:
    """A small task by name.

    Raises:
        TypeError: it has no such option, or an option has the wrong type.
        ValueError: an option or `gamma` is out of range.
    """
    build = SMALL_TASKS[name].build
    known = inspect.signature(build).parameters
    for option in options:
        if option not in known:
            raise TypeError(
                f"{name} has no option {option!r} here; its options are {', '.join(known)}"
            )
    model = build(**options)
    model.gamma, odd = check_gamma(gamma)
    model.rounded = model.rounded or odd
    return model


def _says(suits: int) -> tuple[int, ...]:
    return tuple(range(suits))


def _made(
    name: str, dial: int, start: Any, step: Any, actions: tuple[Any, ...], horizon: int
) -> TabularPOMDP:
    return TabularPOMDP.from_step(
        start, step, actions=actions, horizon=horizon, name=f"{name} {dial} (abstract)"
    )
