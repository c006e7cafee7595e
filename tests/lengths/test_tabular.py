"""POMDPs of one's own: the same from matrices and from a function, and bad input refused."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastmaze.lengths import TabularPOMDP, analyze

GOOD: dict[str, Any] = dict(
    start=[0.5, 0.5],
    transition=[[[1, 0], [0, 1]], [[0.25, 0.75], [1 / 3, 2 / 3]]],
    observation=[[1, 0], [0.1, 0.9]],
    reward=[[0, 1], [0.1, 0]],
    horizon=3,
)


def build(**changes: Any) -> TabularPOMDP:
    return TabularPOMDP.from_arrays(**{**GOOD, **changes})


def test_floats_are_read_as_the_fractions_that_are_meant() -> None:
    floats, third = build(), Fraction(1, 3)
    fractions = build(
        start=["1/2", "1/2"],
        transition=[[[1, 0], [0, 1]], [["1/4", "3/4"], [third, 2 * third]]],
        observation=[[1, 0], ["1/10", "0.9"]],
        reward=[[0, 1], ["1/10", 0]],
    )
    assert not floats.rounded
    assert analyze(floats).to_json() == analyze(fractions).to_json()


def test_step_function_and_matrices_agree() -> None:
    model = build(gamma=Fraction(9, 10))
    p = [[[1, 0], [0, 1]], [[Fraction(1, 4), Fraction(3, 4)], [Fraction(1, 3), Fraction(2, 3)]]]
    look = [[1, 0], [Fraction(1, 10), Fraction(9, 10)]]

    def step(state: int, action: int, t: int) -> list[tuple[Any, ...]]:
        reward = GOOD["reward"][state][action]
        return [(p[state][action][s] * look[s][o], s, o, reward) for s in (0, 1) for o in (0, 1)]

    start = [(Fraction(1, 2) * look[s][o], s, o) for s in (0, 1) for o in (0, 1)]
    other = TabularPOMDP.from_step(start, step, actions=(0, 1), horizon=3, gamma=Fraction(9, 10))
    assert analyze(model).lengths() == analyze(other).lengths()
    assert analyze(model).best_return == analyze(other).best_return


def test_per_step_tables_and_rewards_by_next_state() -> None:
    model = build()
    steps = build(
        transition=[GOOD["transition"]] * 3,
        observation=[GOOD["observation"]] * 4,
        reward=np.repeat(np.array([GOOD["reward"]] * 3)[..., None], 2, axis=-1),
    )
    assert analyze(model).lengths() == analyze(steps).lengths()
    assert analyze(model).best_return == analyze(steps).best_return


def test_unreachable_states_play_no_part() -> None:
    wide = build(
        start=[0.5, 0.5, 0],
        transition=[
            [[1, 0, 0], [0, 1, 0]], [[0.25, 0.75, 0], [1 / 3, 2 / 3, 0]], [[0, 0, 1], [1, 0, 0]]
        ],
        observation=[[1, 0], [0.1, 0.9], [0, 1]],
        reward=[[0, 1], [0.1, 0], [100, 7]],
    )  # fmt: skip
    report = analyze(wide)
    assert report.unreachable_states == 3
    assert report.lengths() == analyze(build()).lengths()
    assert report.best_return == analyze(build()).best_return


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (dict(start=[0.5, 0.4]), ValueError, "start: expected .* sum to 1, got 0.9"),
        (dict(start=[1.5, -0.5]), ValueError, "start: expected probabilities >= 0, got -0.5"),
        (dict(start=[math.nan, 1]), ValueError, "start: expected finite numbers, got nan"),
        (dict(start=["a", 1]), ValueError, "start: expected a number"),
        (dict(start=[None, 1]), TypeError, "start: expected a number, got NoneType"),
        (dict(start=[[1, 0]]), ValueError, "start: expected 1 dimensions"),
        (dict(observation=[[1, 0], [0.3, 0.9]]), ValueError, r"observation: .* got 1.2 at \(1,\)"),
        (dict(observation=[[1, 0]]), ValueError, r"observation: expected the shape \(2, 2\)"),
        (dict(transition=[[[1, 0]], [[0.5, 0.5]]]), ValueError, "reward: expected the shape"),
        (dict(transition=[[[1, 0, 0]], [[0, 1, 0]]]), ValueError, "transition: expected the shape"),
        (dict(reward=[[math.inf, 0], [0, 0]]), ValueError, "reward: expected finite numbers"),
        (dict(reward=[[True, False], [True, True]]), TypeError, "reward: expected numbers"),
        (dict(horizon=0), ValueError, "horizon: expected an integer of at least 1, got 0"),
        (dict(horizon=2.5), TypeError, "horizon"),
        (dict(gamma=1.5), ValueError, "gamma: expected a number from 0 to 1, got 1.5"),
        (dict(gamma=-0.1), ValueError, "gamma"),
        (dict(gamma=math.nan), ValueError, "gamma"),
        (dict(floats="round"), ValueError, "floats: expected one of"),
        (dict(action_names=["go"]), ValueError, "action_names: expected 2 names, got 1"),
        (dict(start=np.zeros(0)), ValueError, "start: expected some entries"),
        (dict(start=[0.5, 0.25, 0.25]), ValueError, "start: expected 2 probabilities.* got 3"),
        (dict(reward=[[1, 2], [3]]), ValueError, "reward: .* rows of different lengths"),
        (dict(start=[1j, 1]), TypeError, "start: expected numbers, got .* complex"),
    ],
)  # fmt: skip
def test_bad_matrices(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build(**changes)


def run_step(outcomes: list[tuple[Any, ...]], **options: Any) -> TabularPOMDP:
    return TabularPOMDP.from_step(
        [(1, "s", "o")],
        lambda state, action, t: outcomes,
        **{"actions": ["go"], "horizon": 2, **options},
    )


@pytest.mark.parametrize(
    ("outcomes", "error", "words"),
    [
        ([(0.5, "s", "o", 0)], ValueError, r"step\('s', 'go', 1\): .* sum to 1, got 0.5"),
        ([(-1, "s", "o", 0), (2, "s", "o", 0)], ValueError, "expected probabilities >= 0"),
        ([(1, "s", "o", math.inf)], ValueError, "reward: expected finite numbers"),
        ([(1, "s", "o", "much")], ValueError, "reward: expected a number"),
        ([], ValueError, "sum to 1"),
        (None, TypeError, r"step\('s', 'go', 1\): expected a list of .*, got NoneType"),
        ([(1, "s", "o")], TypeError, "expected .probability, next state, .*, got .1, 's', 'o'"),
        ([(1, ["s"], "o", 0)], TypeError, "a state that is hashable, .*, got list"),
        ([(1, "s", np.zeros(2), 0)], TypeError, "an observation that is hashable, .*, got ndarray"),
    ],
)
def test_bad_step_functions(
    outcomes: list[tuple[Any, ...]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run_step(outcomes)


def test_bad_actions_and_starts() -> None:
    good = [(1, "s", "o", 0)]
    assert run_step(good, actions=np.arange(2)).num_actions == 2
    with pytest.raises(TypeError, match="actions: expected a list of what step is given, got int"):
        run_step(good, actions=2)
    with pytest.raises(ValueError, match="actions: expected at least one, got none"):
        run_step(good, actions=[])
    with pytest.raises(TypeError, match=r"start: expected .probability, state, observation., got"):
        TabularPOMDP.from_step([(1, "s")], lambda *_: good, actions=[0], horizon=1)  # type: ignore[list-item]


def test_too_many_states_are_refused_with_the_figure() -> None:
    def step(state: int, action: int, t: int) -> list[tuple[Any, ...]]:
        return [(Fraction(1, 2), 2 * state, "o", 0), (Fraction(1, 2), 2 * state + 1, "o", 0)]

    with pytest.raises(ValueError, match="max_states: 101 states up to t = 7 of 41"):
        TabularPOMDP.from_step([(1, 1, "o")], step, actions=[0], horizon=40, max_states=100)


def roots(last: int, floats: str = "simplest") -> TabularPOMDP:
    """Two roots, one after the other and then `last`, or their sum (as a float) at once."""
    two, three = math.sqrt(2), math.sqrt(3)
    assert Fraction(two) + Fraction(three) != Fraction(two + three)
    paid = {("one", 1): two, ("one", 2): three, ("one", 3): last, ("both", 1): two + three}

    def step(state: str, action: str, t: int) -> list[tuple[Any, ...]]:
        plan = action if t == 1 else state
        return [(1, plan, "o", paid.get((plan, t), 0))]

    return TabularPOMDP.from_step(
        [(1, "start", "o")], step, actions=("one", "both"), horizon=3, floats=floats
    )


def test_ties_that_rounding_may_have_decided_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"floats: at t = 1 action \d misses the best by .* rounding"
    ):
        analyze(roots(0))
    assert analyze(roots(0, floats="exact")).c == 1
    # 0.1 + 0.2 is not 0.3 in floats, but it is in what they mean.
    sums = TabularPOMDP.from_arrays([1], [[[1], [1]]], [[1]], [[[0.1, 0.3]], [[0.2, 0]]], horizon=2)
    assert analyze(sums).best_return == Fraction(1, 2)


def test_returns_that_only_rounding_tells_apart_are_refused() -> None:
    """After two steps both have earned as much, or the last bit more?"""
    with pytest.raises(ValueError, match="returns of some steps differ by"):
        analyze(roots(5))
    assert analyze(roots(5, floats="exact")).c in (2, 3)


def two_worlds(**changes: Any) -> TabularPOMDP:
    """Which of two worlds shows at first, and at once no longer."""
    good = dict(
        start=[0.5, 0.5, 0, 0],
        transition=[[[0, 0, 1, 0]] * 2, [[0, 0, 0, 1]] * 2, [[0, 0, 1, 0]] * 2, [[0, 0, 0, 1]] * 2],
        observation=[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
        reward=[[0, 0]] * 4,
        horizon=2,
    )
    return TabularPOMDP.from_arrays(**{**good, **changes})


def test_what_a_short_calculation_with_floats_means() -> None:
    """0.1 * 3 is not 0.3, nor 1 - 0.9 0.1, but in what they mean."""
    assert analyze(two_worlds(reward=[[0, 0], [0, 0], [0.1 * 3, 2], [0.3, 2]])).m_reward == 0
    look = [[1, 0, 0], [0, 1, 0], [0, 0.9, 1 - 0.9], [0, 0.9, 0.1]]
    assert analyze(two_worlds(observation=look)).m_transit == 0
    exact = two_worlds(reward=[[0, 0], [0, 0], [0.1 * 3, 2], [0.3, 2]], floats="exact")
    assert analyze(exact).m_reward == 2


def test_numbers_that_only_rounding_tells_apart_are_refused() -> None:
    pi = 1 / math.pi
    near = math.nextafter(pi, 1)
    look = [[1, 0, 0], [0, 1, 0], [0, pi, 1 - pi], [0, near, 1 - near]]
    with pytest.raises(ValueError, match=f"observation: {pi} and {near} differ by no more than"):
        two_worlds(observation=look)
    with pytest.raises(ValueError, match=f"reward: {pi} and {near} differ"):
        two_worlds(reward=[[pi, 0], [near, 0], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match=f"rewards: {pi} and {near} differ"):
        TabularPOMDP.from_step(
            [(1, "s", "o")],
            lambda s, a, t: [(1, s, "o", pi if t == 1 else near)],
            actions=["go"],
            horizon=2,
        )
    assert two_worlds(observation=look, floats="exact").horizon == 2


def test_a_sum_that_misses_one_by_rounding_keeps_ties_and_short_numbers() -> None:
    row = np.array([0.1234567891, 0.1234567891, 0.3, 0.3, 0.1530864218]) + 2e-11
    model = TabularPOMDP.from_arrays(
        row, np.eye(5)[:, None], np.eye(5), np.zeros((5, 1)), horizon=1
    )
    weight = [Fraction(int(x), int(sum(model.start().weight))) for x in model.start().weight]
    assert sum(weight) == 1
    assert weight[0] == weight[1]
    assert weight[2] == weight[3]
    assert max(abs(float(x) - y) for x, y in zip(weight, row, strict=True)) < 1e-9
    assert int(sum(model.start().weight)).bit_length() < 64


def test_too_large_a_task_is_refused_before_it_is_built() -> None:
    with pytest.raises(ValueError, match=r"max_states: 10,000,001 steps of 40,000,012 states"):
        analyze("PassiveTMaze", length=10_000_000)
    blind = TabularPOMDP.from_arrays([1], [[[1]]], [[1]], [[0]], horizon=10**9)
    with pytest.raises(ValueError, match="1,000,000,000 steps of 1 states"):
        analyze(blind)
    with pytest.raises(ValueError, match="max_states: 3 steps of 2 states, 6 in all"):
        analyze(build(), max_states=5)


def test_a_pomdp_says_what_it_is() -> None:
    assert repr(build()) == (
        "<TabularPOMDP POMDP: T = 3, 2 states at first, 2 actions, 2 observations>"
    )


@pytest.mark.parametrize(
    ("args", "options", "error", "words"),
    [
        (["PassiveTMazes"], {}, ValueError, "did you mean"),
        (["PassiveTMaze"], dict(length=0), ValueError, "length"),
        (["PassiveTMaze"], dict(size=3), TypeError, "no option 'size'"),
        (["PassiveTMaze"], dict(gamma=2), ValueError, "gamma"),
        ([3], {}, TypeError, "task: expected a task's name, its spec or a TabularPOMDP"),
        ([build()], dict(length=3), TypeError, "options are for tasks given by name"),
        ([build()], dict(gamma=0.5), TypeError, "a POMDP brings its own"),
        ([build()], dict(max_nodes=0), ValueError, "max_nodes"),
        ([build()], dict(max_pairs=1.5), TypeError, "max_pairs"),
        ([build()], dict(on_path_budget=-1), ValueError, "on_path_budget"),
        ([build()], dict(pooled="yes"), TypeError, "pooled"),
        ([build()], dict(detail=1), TypeError, "detail"),
        ([build()], dict(progress=3), TypeError, "progress: expected a function, got int"),
    ],
)
def test_bad_calls(
    args: list[Any], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        analyze(*args, **options)
