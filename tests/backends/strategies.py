"""Random tasks for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from fastmaze.specs import TMazeSpec


@st.composite
def specs(draw: st.DrawFn, longest: int = 12) -> TMazeSpec:
    """Any T-Maze: every option, tight and slack episodes, up to `longest` cells."""
    ambiguous = draw(st.booleans())
    rule = draw(st.sampled_from(["pace", "action"]))
    length = draw(st.integers(1, longest))
    oracle = draw(st.integers(0, 3))
    amount = st.floats(-2, 2, allow_nan=False, width=64)
    return TMazeSpec(
        corridor_length=length,
        oracle_length=oracle,
        episode_length=draw(st.integers(1, length + 2 * oracle + 6)),
        goal_reward=draw(amount),
        penalty=-abs(draw(amount)),
        distract_reward=draw(amount) if rule == "pace" and draw(st.booleans()) else 0.0,
        ambiguous_position=ambiguous,
        expose_goal=not ambiguous and draw(st.booleans()),
        add_timestep=draw(st.booleans()),
        penalty_rule=rule,
    )
