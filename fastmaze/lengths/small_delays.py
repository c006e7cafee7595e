"""Tasks of the paper whose reward comes late, in abstract form.

`small_tasks` says what is kept and what is dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from fractions import Fraction
from typing import Any

from fastmaze.lengths.abstract import END, HALF, Outcome, abstract
from fastmaze.lengths.tabular import TabularPOMDP
from fastmaze.specs import check_integer


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
    return abstract("UmbrellaLength", length, start, step, ("leave it", "take it"), length)


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
    return abstract("DelayedCatch", runs, start, step, ("left", "stay", "right"), horizon)


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
    return abstract("KeyToDoor", distractor, start, step, sides, horizon)
