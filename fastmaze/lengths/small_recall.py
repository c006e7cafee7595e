"""Tasks of the paper that ask for nothing but memory, in abstract form: bits and cards.

`small_tasks` says what is kept and what is dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from fractions import Fraction
from typing import Any

from fastmaze.lengths.abstract import END, Outcome, abstract
from fastmaze.lengths.tabular import TabularPOMDP
from fastmaze.specs import check_integer


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
    return abstract("MemoryLength", length, start, step, ("say 0", "say 1"), length + 1)


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
    return abstract("RepeatFirst", copies, start, step, tuple(range(suits)), horizon)


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

    return abstract("Autoencode", copies, draw(()), step, tuple(range(suits)), 2 * cards - 1)


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
        (Fraction(p) / len(deals), state, seen)
        for deal in deals
        for p, state, seen, _ in show(deal, 0)
    ]  # fmt: skip
    return abstract("MemoryCards", pairs, start, step, tuple(range(cards)), horizon)
