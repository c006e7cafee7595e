"""MiniGrid Memory's rules by hand; tests/packages replays the package itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmaze
from fastmaze.reference.minigrid_memory import DIRECTIONS, ENCODING, MiniGridMemory
from fastmaze.specs import make_spec

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
KEY, BALL = 5, 6
CONTEXT = {"hallway_end": 10, "start": 6, "cue": "ball", "upper": "key"}


def begin(context: dict[str, Any] = CONTEXT, **options: Any) -> MiniGridMemory:
    env = MiniGridMemory(make_spec("MiniGridMemory", **options))
    env.reset(0, env.spec.encode_context("context", context))
    return env


def kinds(obs: np.ndarray) -> set[int]:
    """Types of the objects in view."""
    return set(obs[..., 0].ravel().tolist()) & {KEY, BALL}


@pytest.mark.parametrize("start", range(1, 11))
@pytest.mark.parametrize("upper", ["key", "ball"])
def test_who_knows_the_way_earns_the_most(start: int, upper: str) -> None:
    """From column x to the end h: h + 1 - x steps ahead, a turn, and one more step ahead."""
    env = begin({**CONTEXT, "start": start, "upper": upper})
    turn = LEFT if upper == "ball" else RIGHT
    *way, last = [FORWARD] * (11 - start) + [turn, FORWARD]
    assert [env.step(action)[1:] for action in way] == [(0.0, False)] * len(way)
    k = 10 + 3 - start
    assert env.step(last)[1:] == (1 - 0.9 * (k / 1445), True)
    assert env.statistics()[:3] == (1 - 0.9 * (k / 1445), k, True)


def test_the_other_end_pays_nothing() -> None:
    env = begin()
    *_, (_, reward, done) = (env.step(a) for a in [FORWARD] * 5 + [LEFT, FORWARD])
    assert (reward, done) == (0.0, True)
    assert env.statistics()[:3] == (0.0, 7, False)


def test_time_runs_out() -> None:
    env = begin(episode_length=3)
    assert [env.step(DONE)[1:] for _ in range(3)] == [(0.0, False), (0.0, False), (0.0, True)]
    assert env.statistics()[:3] == (0.0, 3, False)


def honest(env: MiniGridMemory) -> Any:
    """Looks for the cue, then for the end with an object of its kind; sees observations alone."""
    yield LEFT
    obs = yield LEFT
    while not kinds(obs):
        obs = yield FORWARD
    (cue,) = kinds(obs)
    yield LEFT
    obs = yield LEFT
    while obs[3, 5, 0] != ENCODING["#"][0]:  # to the wall behind the fork
        obs = yield FORWARD
    obs = yield LEFT
    if cue not in kinds(obs):
        yield LEFT
        yield LEFT
    yield FORWARD


@pytest.mark.parametrize("start", range(1, 11))
@pytest.mark.parametrize("cue", ["key", "ball"])
def test_who_looks_first_succeeds(start: int, cue: str) -> None:
    """Looking west through the hallway, the cue is in view from column 7 on, six cells ahead.

    From there it is as far as to who knows the way, and two more turns if the upper end is wrong.
    """
    env = begin({**CONTEXT, "start": start, "cue": cue})
    agent, done = honest(env), False
    action = next(agent)
    while not done:
        obs, reward, done = env.step(action)
        action = None if done else agent.send(obs)
    back = max(start - 7, 0)
    k = 4 + 2 * back + 10 + 3 - start + (0 if cue == "key" else 2)
    assert reward == 1 - 0.9 * (k / 1445)
    assert env.statistics() == (reward, k, True, True)


def test_what_is_seen_from_the_start_room() -> None:
    """By hand: looking west from (2, 8), the cue ahead to the right, walls of the room, no more."""
    env = begin({**CONTEXT, "start": 2})
    env.step(LEFT)
    obs, _, _ = env.step(LEFT)
    assert (env.x, env.y, env.direction) == (2, 8, 2)
    rows = ["???????", "???????", "???????", "???????", "?#####?", "?#··o#?", "?#···#?"]
    wanted = [[ENCODING.get(found, (0, 0, 0)) for found in row] for row in rows]
    np.testing.assert_array_equal(obs.transpose(1, 0, 2), wanted)


def test_actions_that_do_nothing() -> None:
    """Neither does going into a wall, or into an object."""
    env = begin({**CONTEXT, "start": 1})
    env.step(LEFT)  # in front of the cue, facing it
    before = env.observation()
    for action in (PICKUP, DROP, TOGGLE, DONE, FORWARD):
        obs, reward, done = env.step(action)
        np.testing.assert_array_equal(obs, before)
        assert (reward, done) == (0.0, False)
    for _ in range(2):
        env.step(RIGHT)
    env.step(FORWARD)  # one row down
    env.step(FORWARD)  # a wall
    assert (env.x, env.y) == (1, 9)


def chances_of_an_end(size: int, starts: range, actions: int, steps: int) -> np.ndarray:
    """Chance that a random walk ends at each step, in the longest hallway; from the map alone."""
    middle, fork = size // 2, size - 2
    free = {(x, middle + dy) for x in (1, 2, 3) for dy in (-1, 0, 1)} - {(1, middle - 1)}
    free |= {(x, middle) for x in range(4, fork + 1)} | {(fork, middle + dy) for dy in (-1, 1)}
    chances = {(x, middle, 0): 1 / len(starts) for x in starts}
    ends = []
    for _ in range(steps):
        after: dict[tuple[int, int, int], float] = {}
        for (x, y, direction), chance in chances.items():
            ahead = (x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1])
            ahead = ahead if ahead in free else (x, y)
            moves = [(x, y, (direction + 1) % 4), (x, y, (direction - 1) % 4), (*ahead, direction)]
            for state in moves + [(x, y, direction)] * (actions - 3):
                after[state] = after.get(state, 0) + chance / actions
        at_end = [state for state in after if state[0] == fork and state[1] != middle]
        ends.append(sum(after.pop(state) for state in at_end))
        chances = after
    return np.array(ends)


def test_random_agents() -> None:
    """Right in half of the walks that come to an end; when they do is a Markov chain's business."""
    n, length = 4096, 5 * 9**2
    ends = chances_of_an_end(9, range(1, 7), 7, length)
    wanted = (0.5 * ends * (1 - 0.9 * np.arange(1, length + 1) / length)).sum()
    envs = fastmaze.make_vec(
        "MiniGridMemory", num_envs=n, size=9, random_length=False, autoreset_mode="SameStep"
    )
    envs.reset(seed=9)
    generator = np.random.default_rng(5)
    returns = np.full(n, np.nan)
    for _ in range(length):
        info = envs.step(generator.integers(0, 7, n))[4]
        if "final_info" in info:
            first = info["_final_info"] & np.isnan(returns)
            returns[first] = info["final_info"]["episode_return"][first]
    assert 0.1 < wanted < 0.4
    assert abs(returns.mean() - wanted) < 4 * returns.std() / n**0.5


def test_draws_are_even() -> None:
    """Hallways end anywhere from column 4 on, starts are anywhere in them, kinds are fair."""
    envs = fastmaze.make_vec("MiniGridMemory", num_envs=4400, backend="native")
    envs.reset(seed=2)
    state = envs.get_state()
    rows = state[-4400 * 7 :].reshape(4400, 7)
    x, _, direction, end, cue, upper, _ = rows.T
    ends, counts = np.unique(end, return_counts=True)
    np.testing.assert_array_equal(ends, np.arange(4, 15))
    assert abs(counts - 400).max() < 5 * 400**0.5
    assert not direction.any()
    assert (x <= end).all()
    assert set(np.unique(x[end == 14])) == set(range(1, 15))
    pairs = 2 * cue + upper
    assert abs(np.bincount(pairs) - 1100).max() < 5 * 1100**0.5
    fixed = fastmaze.make_vec("MiniGridMemory", num_envs=50, size=11, random_length=False)
    fixed.reset(seed=0)
    assert set(fixed.get_state()[-50 * 7 :].reshape(50, 7)[:, 3]) == {8}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hallway_end": 15}, ValueError, r"\['hallway_end'\]: expected an integer from 4 to 14"),
        ({"hallway_end": "10"}, TypeError, "hallway_end"),
        ({"start": 11}, ValueError, r"\['start'\]: expected an integer from 1 to 10"),
        ({"cue": "box"}, ValueError, r"\['cue'\]: expected one of \('key', 'ball'\)"),
        ({"upper": 1}, TypeError, "upper"),
        ({"lower": "key"}, ValueError, "expected the keys"),
    ],
)
def test_contexts_that_no_episode_begins_with(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    for backend in ("native", "reference"):
        envs = fastmaze.make_vec("MiniGridMemory", num_envs=1, backend=backend)
        obs, _ = envs.reset(seed=0, options={"context": [CONTEXT]})
        np.testing.assert_array_equal(obs[0], begin().observation())
        with pytest.raises(error, match=words):
            envs.reset(options={"context": [{**CONTEXT, **change}]})
        with pytest.raises(TypeError, match="expected a dict"):
            envs.reset(options={"context": ["key"]})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": 8}, ValueError, "size: expected an odd integer from 7 to 101, got 8"),
        ({"size": 5}, ValueError, "size: expected an integer from 7"),
        ({"size": 103}, ValueError, "size"),
        ({"random_length": 1}, TypeError, "random_length"),
        ({"episode_length": 0}, ValueError, "episode_length"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make_spec("MiniGridMemory", **options)
