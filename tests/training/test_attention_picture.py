"""Protects the picture of where an agent looks: its episodes, its steps, its file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastmaze.specs import make_spec
from fastmaze.training import TrainConfig, greedy_episode, load_agent, train
from fastmaze.training.attention_picture import (
    LastLook,
    cue_steps,
    describe,
    last_looks,
    plot_attention,
)

Make = Callable[..., TrainConfig]


def test_each_cue_has_its_look(tiny: Make, tmp_path: Path) -> None:
    run_dir = train(tiny(num_episodes=8), progress=False).run_dir
    looks = last_looks(run_dir, length=9)
    heads = tiny().hyper.num_heads
    assert [look.goal_y for look in looks] == [-1, 1]
    for look in looks:
        assert look.weights.shape == (1, heads, 10)
        np.testing.assert_allclose(look.weights.sum(-1), 1.0, rtol=1e-5)
        assert look.cue_steps.tolist() == [0]
        np.testing.assert_array_equal(look.on_cue, look.weights[..., 0])
    path = plot_attention(looks, tmp_path / "look.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    words = describe(looks)
    assert words.count("head 1: ") == words.count(f"head {heads}: ") == 2


def test_the_weights_are_those_of_the_last_decision(tiny: Make) -> None:
    """The picture's pass sees what the rollout saw: the same values for the last action."""
    run_dir = train(tiny(num_episodes=8), progress=False).run_dir
    _, network = load_agent(run_dir)
    episode = greedy_episode(run_dir)
    seen: list[torch.Tensor] = []
    network.encoder.register_forward_hook(  # type: ignore[attr-defined]
        lambda module, args, y: seen.append(y)
    )
    from fastmaze.training.attention_picture import _weights

    _weights(network, network.encoder, episode)  # type: ignore[arg-type]
    with torch.no_grad():
        q = network.head(seen[0][0, -1])
    np.testing.assert_allclose(q.numpy(), episode.q_values[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "obs", "expected"),
    [
        ({"ambiguous_position": True}, [[0, 1], [0, 0], [1, 0], [1, -1]], [0]),
        ({"ambiguous_position": False}, [[1, 0, 0], [0, 0, -1], [1, 0, 0], [2, 1, 0]], [1]),
        ({"expose_goal": True}, [[1, 0, 0], [0, 0, -1], [1, 0, -1], [2, 1, -1]], [1, 2, 3]),
    ],
)
def test_steps_that_show_the_cue(
    options: dict[str, Any], obs: list[list[int]], expected: list[int]
) -> None:
    """An arm of the junction is not taken for a cue."""
    spec = make_spec("TMaze", corridor_length=2, **options)
    assert cue_steps(spec, np.array(obs, np.float32)).tolist() == expected


def test_a_cue_that_was_never_seen(tmp_path: Path) -> None:
    unseen = LastLook(1, False, np.array([], np.intp), np.full((2, 3, 5), 0.2, np.float32))
    assert unseen.on_cue.tolist() == [[0.0] * 3] * 2
    assert "never seen" in describe([unseen])
    assert plot_attention([unseen], tmp_path / "look.png").is_file()


def test_refusals(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = train(tiny(model="lstm", num_episodes=8), progress=False).run_dir
    with pytest.raises(ValueError, match=r"with a transformer \(--model gpt\), got lstm"):
        last_looks(run_dir)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastmaze\[plot\]"'):
        plot_attention([], tmp_path / "look.png")
