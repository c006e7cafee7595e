"""Random options for every registered task: a new task adds a line to `OPTIONS`."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from fastmaze.specs import TaskSpec, make_spec

amounts = st.floats(-2, 2, allow_nan=False, width=64)

_T_MAZE = {
    "oracle_length": st.integers(0, 3),
    "goal_reward": amounts,
    "penalty": st.floats(-2, 0),
    "add_timestep": st.booleans(),
    "episode_length": st.integers(1, 20),
}
_PIXEL_WORLD = {
    "length": st.integers(1, 40),
    "explore_frames": st.integers(1, 20),
    "reward_frames": st.integers(1, 20),
    "num_apples": st.integers(0, 22),
    "apple_reward": amounts,
    "respawn_every": st.integers(0, 25),
    "final_reward": amounts,
    "flat": st.booleans(),
}
OPTIONS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "PassiveTMaze": {"length": st.integers(1, 12), **_T_MAZE},
    "ActiveTMaze": {"length": st.integers(1, 12), **_T_MAZE},
    "TMaze": {"corridor_length": st.integers(1, 12), **_T_MAZE, "distract_reward": amounts},
    "PassiveVisualMatch": {**_PIXEL_WORLD, "fixed_colours": st.booleans()},
    "ActiveVisualMatch": {**_PIXEL_WORLD, "fixed_colours": st.booleans()},
    "MemoryLength": {
        "length": st.integers(1, 20),
        "bits": st.integers(1, 30),
        "show_time": st.booleans(),
    },
    "KeyToDoor": {**_PIXEL_WORLD, "room": st.sampled_from(["sr", "cca"])},
    "UmbrellaLength": {"length": st.integers(1, 20), "distractors": st.integers(0, 127)},
    "RepeatFirst": {"decks": st.integers(1, 3)},
    "Autoencode": {"decks": st.integers(1, 3)},
    "BakkerTMaze": {"length": st.integers(1, 6), "episode_length": st.integers(1, 30)},
    "LambrechtsTMaze": {
        "length": st.integers(1, 6),
        "stochasticity": st.just(0.0) | st.floats(1e-9, 0.9),
        "episode_length": st.integers(1, 30),
    },
    "TMazeLong": {"length": st.integers(1, 20), "noise": st.booleans()},
    "HeavenHell": {"size": st.integers(1, 6), "episode_length": st.integers(1, 40)},
    "MemoryCards": {"pairs": st.integers(1, 16) | st.just(5), "episode_length": st.integers(1, 40)},
    "DelayedCatch": {"runs": st.integers(1, 12), "random_paddle": st.booleans()},
    "MiniGridMemory": {
        "size": st.integers(3, 9).map(lambda half: 2 * half + 1),
        "random_length": st.booleans(),
        "episode_length": st.integers(1, 60),
    },
}
"""Task to its options' strategies; every option is left out now and then."""


@st.composite
def specs(draw: st.DrawFn, task: str) -> TaskSpec:
    """Any spec of a task."""
    options = draw(st.fixed_dictionaries({}, optional=OPTIONS[task]))
    return make_spec(task, **options)
