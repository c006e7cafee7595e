"""Protects the diagnosis of a failure: who was at the junction in time, by either observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastmaze.envs.device import DeviceTMaze
from fastmaze.envs.vector import make_vec
from fastmaze.reference.tmaze import TMaze
from fastmaze.specs import make_spec
from fastmaze.training.data_parallel import ALONE
from fastmaze.training.device_rollout import DeviceCollector
from fastmaze.training.outcomes import Outcomes, joined, outcomes_of
from fastmaze.training.rollout import Collector

N = 64


class Wanderer(torch.nn.Module):
    """Walks right, now and then elsewhere: some arrive in time."""

    has_device_state = False

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))

    def initial_state(self, batch_size: int, max_length: int) -> None:
        return None

    def step(self, obs: torch.Tensor, previous: torch.Tensor, state: Any) -> Any:
        return torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(obs), 4), state


@pytest.mark.parametrize("backend", ["native", "device"])
@pytest.mark.parametrize(
    "options",
    [
        {"ambiguous_position": True},
        {"ambiguous_position": False},
        {"ambiguous_position": False, "expose_goal": True, "add_timestep": True},
        {"ambiguous_position": True, "oracle_length": 1, "episode_length": 9},
    ],
    ids=["ambiguous", "position", "exposed", "time-to-spare"],
)
def test_the_junction_rate_is_that_of_true_positions(backend: str, options: dict[str, Any]) -> None:
    spec = make_spec("TMaze", corridor_length=4, **options)
    envs: Any
    collector: Any
    if backend == "device":
        envs = DeviceTMaze(spec, num_envs=N, device="cpu", autoreset_mode="Disabled")
        collector = DeviceCollector(envs)
        collect = collector.collect_tensors
    else:
        envs = make_vec(
            "TMaze", num_envs=N, autoreset_mode="Disabled", corridor_length=4, **options
        )
        collect = Collector(envs).collect
    epsilon = np.full((spec.episode_length, N), 0.3)
    epsilon[-1] = 1.0
    played = collect(Wanderer(), epsilon=epsilon, rng=np.random.default_rng(0), seed=3)
    how = outcomes_of(played, spec, ALONE)

    actions = torch.as_tensor(played.actions).numpy()
    expected = []
    for i in range(N):
        maze = TMaze(spec, env_index=i)
        maze.reset(3)
        for action in actions[:-1, i]:
            maze.step(int(action))
        expected.append(maze.x == spec.junction)
    junction = how.marks["junction"]
    np.testing.assert_array_equal(junction, expected)
    assert 0 < junction.sum() < N
    assert how.success.sum() > 0
    assert (junction >= how.success).all(), "who is in the goal was at the junction before"
    assert junction.dtype == np.bool_
    envs.close()


def test_lots_of_episodes_are_joined_in_order() -> None:
    parts = [
        Outcomes(
            np.full(count, number), np.full(count, True), {"far": np.full(count, number > 1.5)}
        )
        for count, number in ((2, 1.0), (3, 2.0))
    ]
    whole = joined(parts)
    assert whole.returns.tolist() == [1, 1, 2, 2, 2]
    assert whole.marks["far"].tolist() == [False, False, True, True, True]
    assert joined(parts, 3).returns.tolist() == [1, 1, 2]
