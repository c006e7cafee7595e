"""What can be earned in the pixel grid-worlds: with memory all, without a third, or nothing."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.backends.reference_ import ReferenceBackend
from fastmaze.reference.pixel_world import EXPLORE, MOVES, OBJECT_CELLS, REWARD, PixelWorld
from fastmaze.specs import make_spec
from fastmaze.specs.pixel_worlds import COLUMNS, ROWS
from tests.backends.population import Population

WORLDS: list[tuple[str, dict[str, Any]]] = [
    ("KeyToDoor", {}),
    ("KeyToDoor", {"room": "cca"}),
    ("PassiveVisualMatch", {}),
    ("ActiveVisualMatch", {}),
]
every_world = pytest.mark.parametrize(("task", "options"), WORLDS)


def action_towards(env: PixelWorld, target: int) -> int:
    """First action of a shortest way from the player to a cell; any action once it is there."""
    room = env.room(env.phase)
    ways = deque([(env.player, -1)])
    known = {env.player}
    while ways:
        cell, first = ways.popleft()
        if cell == target:
            return max(first, 0)
        for action, (down, right) in enumerate(MOVES):
            row, column = cell // COLUMNS + down, cell % COLUMNS + right
            onward = row * COLUMNS + column
            inside = 0 <= row < ROWS and 0 <= column < COLUMNS
            # Not over another object on the way.
            free = inside and (room[row][column] not in "#bce" or onward == target)
            if free and onward not in known:
                known.add(onward)
                ways.append((onward, action if first < 0 else first))
    raise AssertionError(f"no way to cell {target}")


class Player:
    """Walks straight to what pays at last; in between it stands at a wall.

    Args:
        remembers: False: does not know what the first room showed.
    """

    def __init__(self, remembers: bool) -> None:
        self.remembers = remembers

    def action(self, env: PixelWorld) -> int:
        match, layout = env.spec.is_match, env.layout
        if env.phase == REWARD:
            if not match:
                return action_towards(env, layout.goal)
            return action_towards(env, OBJECT_CELLS[layout.goal if self.remembers else 1])
        if env.phase == EXPLORE and not match and self.remembers:
            return action_towards(env, layout.object)
        return 1


def play(env: PixelWorld, player: Player, seed: int) -> tuple[float, bool]:
    env.reset(seed)
    earned, done = 0.0, False
    while not done:
        _, reward, done = env.step(player.action(env))
        earned += reward
    return earned, env.statistics().success


@every_world
def test_the_oracle_earns_all(task: str, options: dict[str, Any]) -> None:
    """5 in every episode of worlds without apples, which is all that there is."""
    env = PixelWorld(make_spec(task, length=3, num_apples=0, **options))
    played = [play(env, Player(remembers=True), seed) for seed in range(40)]
    assert played == [(5.0, True)] * 40


@every_world
def test_apples_come_on_top(task: str, options: dict[str, Any]) -> None:
    """Standing at the lower wall of the orchard, no apple is eaten but by a walk to one."""
    env = PixelWorld(make_spec(task, length=30, num_apples=22, apple_reward=0.5, **options))
    earned, _ = play(env, Player(remembers=True), 1)
    assert earned == 5.0 + 0.5 * env.eaten
    assert env.statistics().episode_return == earned


@every_world
def test_without_memory(task: str, options: dict[str, Any]) -> None:
    """Always the same object: right in a third of the episodes; no key: no reward."""
    env = PixelWorld(make_spec(task, length=1, num_apples=0, **options))
    episodes = 300 if env.spec.is_match else 20
    earned = [play(env, Player(remembers=False), seed)[0] for seed in range(episodes)]
    if env.spec.is_match:
        assert set(earned) == {0.0, 5.0}
        # Four standard errors around one third.
        assert abs(np.mean(earned) / 5 - 1 / 3) < 4 * (2 / 9 / episodes) ** 0.5
    else:
        assert set(earned) == {0.0}


@every_world
def test_a_distractor_of_ten_thousand_frames(task: str, options: dict[str, Any]) -> None:
    spec = make_spec(task, length=10_000, **options)
    actions = np.random.default_rng(0).integers(0, 4, (spec.episode_length, 1))
    native, reference = (
        Population(make, spec, 1, "SameStep") for make in (NativeBackend, ReferenceBackend)
    )
    assert native.record(actions) == reference.record(actions)
    assert native.backend.statistics.length[0] == spec.episode_length


def test_colours_are_drawn_once_for_each_env_if_asked() -> None:
    """`fixed_colours`: the same order of colours in every episode; else all six come up."""

    def orders(fixed: bool) -> set[int]:
        env = PixelWorld(make_spec("PassiveVisualMatch", fixed_colours=fixed))
        env.reset(3)
        found = set()
        for _ in range(60):
            found.add(env.layout.colours)
            env.reset()
        return found

    assert len(orders(fixed=True)) == 1
    assert orders(fixed=False) == set(range(6))


def test_draws_are_even() -> None:
    """Every cell that can be drawn is drawn about as often as the others."""
    env = PixelWorld(make_spec("KeyToDoor", room="cca"))
    env.reset(0)
    counts: dict[str, list[int]] = {name: [] for name in ("object", "start", "goal")}
    apples = np.zeros(22)
    for _ in range(600):
        for name, values in counts.items():
            values.append(getattr(env.layout, name))
        apples += [env.layout.apples >> i & 1 for i in range(22)]
        env.reset()
    for values in counts.values():
        _, often = np.unique(values, return_counts=True)
        assert len(often) == 10
        assert often.min() > 30  # of 60, four standard errors below
    assert abs(apples - 600 * 10 / 22).max() < 4 * (600 * 10 / 22 * 12 / 22) ** 0.5


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda c: None, None, ""),
        (lambda c: 3, TypeError, r"context'\]\[0\]: expected a dict"),
        (lambda c: {}, ValueError, "expected a key 'grids'"),
        (lambda c: {**c, "more": 1}, ValueError, "got 'more'"),
        (lambda c: {"grids": {}}, ValueError, "distractor"),
        (lambda c: grid(c, "explore", "k", " "), ValueError, "one of each"),
        (lambda c: grid(c, "explore", "+", "k"), ValueError, "expected '[+] ' at"),
        (lambda c: grid(c, "distractor", "a", " "), ValueError, "expected 10 apples"),
        (lambda c: grid(c, "reward", "d", "#"), ValueError, "got '#'"),
        (lambda c: {"grids": {**c["grids"], "explore": "#"}}, ValueError, "7 rows of 11"),
        (lambda c: {"grids": {**c["grids"], "explore": 7}}, TypeError, "7 rows of 11"),
    ],
)
def test_contexts_that_no_episode_begins_with(change: Any, error: Any, words: str) -> None:
    """Each is refused by its place, and changes nothing; rows of a grid may be joined."""
    context = {"grids": {"explore": EXPLORE_GRID, "distractor": APPLES, "reward": [DOOR]}}
    for backend in ("native", "reference"):
        envs = fastmaze.make_vec("KeyToDoor", num_envs=1, backend=backend)
        envs.reset(seed=0)
        before = envs.get_state()
        if error is None:
            envs.reset(options={"context": [context]})
            assert (envs.get_state() != before).any()
            continue
        with pytest.raises(error, match=words):
            envs.reset(options={"context": [change(context)]})
        np.testing.assert_array_equal(envs.get_state(), before)


def grid(context: dict[str, Any], name: str, old: str, new: str) -> dict[str, Any]:
    """The context with one character of a grid changed, where it first stands."""
    text = "".join(context["grids"][name]).replace(old, new, 1)
    return {"grids": {**context["grids"], name: text}}


EXPLORE_GRID = ["  #######  ", "  #    k#  ", "  #     #  ", "  ##   ##  ", "  #     #  ",
                "  #  +  #  ", "  #######  "]  # fmt: skip
APPLES = "############a a a a a## a a a a ##a        ##         ##    +    ############"
DOOR = "              ##d##      #   #      # + #      #   #      #####              "
