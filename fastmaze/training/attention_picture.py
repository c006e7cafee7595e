"""Where a trained transformer looks when the last action is due: at the cue?

```
 weight of the last step's attention, one line a head
 1 |o                                   o  the steps that show the cue
   | \
   |  `--.____________________________     1/T, if it looked everywhere alike
   0   step of the episode           T
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fastmaze.models.attention_weights import last_step_weights
from fastmaze.models.gpt import GPT
from fastmaze.models.q_network import QNetwork
from fastmaze.reference.philox import draw_goal
from fastmaze.requirements import require_matplotlib
from fastmaze.specs import NUM_ACTIONS, TMazeSpec
from fastmaze.training.config import TrainConfig
from fastmaze.training.evaluation import (
    EVAL_SEED,
    GreedyEpisode,
    eval_seed,
    load_agent,
    play_greedily,
)


@dataclass(frozen=True, slots=True)
class LastLook:
    """Where the last step of one greedy episode looks."""

    goal_y: int
    """-1 or +1, what the cue says."""
    success: bool
    """Ended in the goal cell."""
    cue_steps: npt.NDArray[np.intp]
    """Steps that show the cue, in order; empty if the agent never went to see it."""
    weights: npt.NDArray[np.float32]
    """float32 [blocks, H, T]; each row of T sums to 1."""

    @property
    def on_cue(self) -> npt.NDArray[np.float32]:
        """Weight on the steps that show the cue, float32 [blocks, H]."""
        weight: npt.NDArray[np.float32] = self.weights[..., self.cue_steps].sum(axis=-1)
        return weight


def last_looks(
    checkpoint: Path | str, *, seed: int = 0, length: int | None = None
) -> list[LastLook]:
    """Plays one greedy episode for each cue, and finds where their last steps look.

    Args:
        checkpoint: a run's directory (its best weights are taken), or a file of it.
        seed: of the mazes; for each cue, the first one from here on that draws it.
        length: another corridor length than the agent was trained on.

    Returns:
        Two, of the cues -1 and +1.

    Raises:
        FileNotFoundError: there is no such run or file.
        CheckpointError: the file is truncated, or no FastMaze checkpoint.
        ValueError: the agent has no attention, or another task than a T-Maze.
    """
    return looks_of(*load_agent(checkpoint, length=length), seed=seed)


def looks_of(config: TrainConfig, network: QNetwork, *, seed: int) -> list[LastLook]:
    """As `last_looks`, with an agent that `load_agent` returned."""
    spec = config.spec
    if not isinstance(spec, TMazeSpec):
        raise ValueError(
            f"attention: expected an agent of a T-Maze, whose last step needs the cue, got one of "
            f"{config.task}"
        )
    if not isinstance(network.encoder, GPT):
        raise ValueError(
            f"attention: expected an agent with a transformer (--model gpt), got {config.model}, "
            "which has no attention to show"
        )
    looks = []
    for goal_y in (-1, 1):
        episode = play_greedily(config, network, _seed_of(goal_y, seed))
        looks.append(
            LastLook(
                goal_y=goal_y,
                success=episode.success,
                cue_steps=cue_steps(spec, episode.obs[:-1]),
                weights=_weights(network, network.encoder, episode),
            )
        )
    return looks


def cue_steps(spec: TMazeSpec, obs: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Steps whose observation, float32 [T, D], shows the cue: at the oracle's first visit.

    From there on, with `expose_goal`.
    """
    # At the junction the second entry of an ambiguous observation is the arm, not the cue.
    shows = (obs[:, 0] == 0) & (obs[:, 1] != 0) if spec.ambiguous_position else obs[:, 2] != 0
    return np.flatnonzero(shows)


def plot_attention(looks: Sequence[LastLook], path: Path | str) -> Path:
    """Draws the weights over the steps: a row for each block, a column for each cue.

    Args:
        looks: what `last_looks` returned.
        path: the PNG to write.

    Returns:
        The path written.

    Raises:
        ImportError: matplotlib is missing; the message says what to install.
    """
    require_matplotlib("the attention picture")
    from matplotlib.figure import Figure

    path = Path(path)
    blocks, heads, T = looks[0].weights.shape
    figure = Figure(
        figsize=(1.0 + 4.5 * len(looks), 1.0 + 2.5 * blocks), dpi=150, layout="constrained"
    )
    grid = figure.subplots(blocks, len(looks), sharex=True, sharey=True, squeeze=False)
    for column, look in enumerate(looks):
        for block in range(blocks):
            axes = grid[block, column]
            for head in range(heads):
                weights = look.weights[block, head]
                (line,) = axes.plot(weights, linewidth=0.8, label=f"head {head + 1}")
                # Marks, for a single step of many is too narrow for a line to show.
                cue = look.cue_steps
                axes.plot(cue, weights[cue], "o", markersize=5, color=line.get_color())
            axes.axhline(1 / T, color="0.5", linestyle=":", linewidth=1.0, label="1/T")
            if len(look.cue_steps):
                at = look.cue_steps[0]
                axes.axvline(at, color="0.8", linewidth=4.0, zorder=0, label="cue")
            # Weights far below those of an even look are as good as none.
            axes.set(yscale="log", ylim=(0.01 / T, 2.0))
        end = "in the goal" if look.success else "not in the goal"
        grid[0, column].set_title(f"cue {look.goal_y:+d}: {end}", fontsize="medium")
        grid[-1, column].set_xlabel("step of the episode")
    for block in range(blocks):
        name = "" if blocks == 1 else f", block {block + 1}"
        grid[block, 0].set_ylabel(f"attention of the last step{name}")
    lines, names = grid[0, -1].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside right upper", frameon=False, fontsize="small")
    figure.savefig(path, format="png")
    return path


def describe(looks: Sequence[LastLook]) -> str:
    """The weight on the cue in each block and head, in words."""
    T = looks[0].weights.shape[-1]
    lines = [f"attention of the last of {T:,} steps to the cue (an even look: {1 / T:.2g})"]
    for look in looks:
        end = "in the goal" if look.success else "not in the goal"
        if not len(look.cue_steps):
            lines.append(f"cue {look.goal_y:+d}, {end}: never seen")
            continue
        for block, heads in enumerate(look.on_cue):
            name = "" if len(look.on_cue) == 1 else f", block {block + 1}"
            shares = "  ".join(f"head {i + 1}: {weight:.3f}" for i, weight in enumerate(heads))
            lines.append(f"cue {look.goal_y:+d}, {end}{name}:  {shares}")
    return "\n".join(lines)


def _weights(network: QNetwork, encoder: GPT, episode: GreedyEpisode) -> npt.NDArray[np.float32]:
    """The last step's weights in a network's own passing over an episode, [blocks, H, T]."""
    device = next(network.parameters()).device
    obs = torch.from_numpy(episode.obs[None, :-1]).to(device)  # [1, T, D]
    previous = torch.full(obs.shape[:2], NUM_ACTIONS, device=device)  # none before the first step
    previous[0, 1:] = torch.from_numpy(episode.actions[:-1]).to(device)
    with torch.no_grad():
        x = network.embedder(obs, previous)  # [1, T, E]
    weights: npt.NDArray[np.float32] = last_step_weights(encoder, x)[:, 0].cpu().numpy()
    return weights


def _seed_of(goal_y: int, seed: int) -> int:
    """The first seed of evaluations, from this one on, whose maze has this goal."""
    while draw_goal(eval_seed(seed), 0, 0) != goal_y:
        seed = (seed + 1) % EVAL_SEED
    return seed
