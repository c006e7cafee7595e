"""Memory Length's rules by hand: who remembers earns 1, who guesses 0 on average."""

from __future__ import annotations

import numpy as np
import pytest

from fastmaze.reference.memory_length import MemoryLength
from fastmaze.specs import make_spec


def test_an_episode_step_by_step() -> None:
    """Bits at the reset and the first step, the question once, the reward at the end."""
    env = MemoryLength(make_spec("MemoryLength", length=3, bits=2))
    seen = [env.reset(11)]
    signs = [(env.bits >> i & 1) * 2 - 1 for i in range(2)]
    rewards = []
    for _ in range(4):
        obs, reward, done = env.step(env.bits >> env.query & 1)
        seen.append(obs)
        rewards.append(reward)
    assert done
    assert rewards == [0, 0, 0, 1]
    third = np.float32(1 - 1 / 3)
    wanted = [[1, 0, *signs], [1, 0, *signs], [third, 0, 0, 0], [1 - 2 / 3, env.query, 0, 0]]
    np.testing.assert_array_equal(seen, np.array([*wanted, [0, 0, 0, 0]], np.float32))


@pytest.mark.parametrize("bits", [1, 5])
def test_returns(bits: int) -> None:
    env = MemoryLength(make_spec("MemoryLength", length=4, bits=bits, show_time=False))
    returns: dict[str, list[float]] = {"oracle": [], "always one": []}
    for seed in range(200):
        for agent, earned in returns.items():
            env.reset(seed)
            for _ in range(5):
                _, reward, _ = env.step(env.bits >> env.query & 1 if agent == "oracle" else 1)
            earned.append(reward)
            assert env.statistics().episode_return == reward
    assert set(returns["oracle"]) == {1.0}
    assert abs(np.mean(returns["always one"])) < 4 / 200**0.5
