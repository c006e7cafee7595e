"""Draws docs/lengths_windows.png: the best return of a window, and the step at l_mem.

Run from the root: `python docs/lengths_pictures.py` (needs `pip install "fastmaze[plot]"`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fastmaze.lengths import analyze
from fastmaze.lengths.windows import best_returns

TASKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PassiveTMaze", dict(length=7)),
    ("ActiveTMaze", dict(length=5)),
    ("BakkerTMaze", dict(length=5)),
    ("UmbrellaLength", dict(length=5, distractors=0)),
)


def main() -> None:
    """Writes the picture."""
    figure = Figure(figsize=(8.0, 4.6), dpi=125, layout="constrained", facecolor="#faf9f5")
    for axes, (name, options) in zip(figure.subplots(2, 2).flat, TASKS, strict=True):
        report, returns = analyze(name, **options), best_returns(name, **options)
        values = [float(x) for x in returns]
        axes.step(range(len(values)), values, where="post", color="#2f6f8f", linewidth=2)
        axes.plot(range(len(values)), values, "o", color="#2f6f8f", markersize=4)
        axes.axvline(report.l_mem, color="#c8553d", linestyle="--", linewidth=1)
        spread = max(values) - min(values)
        axes.set_ylim(min(values) - 0.1 * spread, max(values) + 0.15 * spread)
        axes.set_title(
            f"{report.task}: T = {report.horizon}, l_mem = {report.l_mem}",
            loc="left", fontsize=10, color="#2f3644",
        )  # fmt: skip
        axes.set_xlabel("window n: observations that the agent sees", fontsize=8)
        axes.set_ylabel("best return", fontsize=8)
    path = Path(__file__).with_name("lengths_windows.png")
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})
    print(path)


if __name__ == "__main__":
    main()
