"""Draws docs/tmaze.png, the README's picture: one walk through a passive T-maze.

Run from the project's root: `python docs/pictures.py` (needs `pip install "fastmaze[plot]"`).
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

import fastmaze

LENGTH = 20
MOMENTS = {
    0: "The oracle shows the cue, for one step: the goal is up.",
    11: "In the corridor nothing tells where the agent is, nor where the goal is.",
    20: "At the junction it has to choose by what it saw 20 steps ago: the last step pays, or not.",
}
"""Steps taken to what there is to say then."""


def main() -> None:
    """Writes the picture."""
    env = fastmaze.make("PassiveTMaze", length=LENGTH, render_mode="rgb_array")
    env.reset(seed=0, options={"goal_y": 1})
    frames = {}
    for t in range(LENGTH + 1):
        if t:
            env.step(0)  # right
        if t in MOMENTS:
            frames[t] = env.render()
    figure = Figure(figsize=(8.0, 4.8), dpi=125, layout="constrained", facecolor="#faf9f5")
    for axes, (t, frame) in zip(figure.subplots(len(frames), 1), frames.items(), strict=True):
        axes.imshow(frame)
        axes.set_title(f"t = {t}   {MOMENTS[t]}", loc="left", fontsize=10, color="#2f3644")
        axes.axis("off")
    path = Path(__file__).with_name("tmaze.png")
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(path)


if __name__ == "__main__":
    main()
