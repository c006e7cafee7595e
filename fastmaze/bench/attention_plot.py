"""The rates of `fastmaze bench attention` as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from fastmaze.bench.attention_contenders import CONTENDERS, OURS
from fastmaze.requirements import require_matplotlib

_COLOURS: Final = ("#d62728", "#e6a000", "#7f7f7f", "#1f77b4", "#2ca02c", "#9467bd", "#17becf",
                   "#8c564b", "#e377c2")  # fmt: skip
"""One for each contender, in their order, the same in every picture; ours stands out."""
_LABEL_GAP: Final = 0.055
"""Least distance between two labels, as a share of the panel's height."""


def check_plot_path(path: Path) -> None:
    """Refuses a path that cannot be drawn to, before a long measurement.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: it is a directory, or lies in none that may be written.
    """
    require_matplotlib("--plot")
    if path.is_dir():
        raise ValueError(f"--plot: expected a file to write, got the directory {path}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"--plot: there is no directory {path.parent} that may be written")


def plot_attention(
    rows: list[dict[str, Any]],
    path: Path,
    ceilings: dict[str, Any],
    *,
    precision: str | None = None,
    what: str = "both",
) -> Path:
    """Draws rate over length, a panel for each head width and dropout.

    Args:
        rows: as `fastmaze bench attention` returns them.
        path: the PNG to write.
        ceilings: the same run's.
        precision: which precision; by default the first.
        what: which pass; another one that was measured if this one was not.

    Returns:
        The path written.

    Raises:
        ValueError: nothing was measured that could be drawn.
    """
    from matplotlib.figure import Figure

    rows = [row for row in rows if "tflops" in row]
    passes = {row["pass"] for row in rows}
    if passes and what not in passes:
        what = next(row["pass"] for row in rows)
    rows = [row for row in rows if row["pass"] == what]
    precision = precision or next((row["precision"] for row in rows), None)
    rows = [row for row in rows if row["precision"] == precision]
    if not rows:
        raise ValueError("rows: expected some with a rate to draw, got none")
    head_dims = sorted({row["head_dim"] for row in rows})
    dropouts = sorted({row["dropout"] for row in rows})

    unit, factor = ("TFLOP/s", 1.0)
    if max(row["tflops"] for row in rows) < 1:
        unit, factor = ("GFLOP/s", 1e3)
        rows = [{**row, "tflops": factor * row["tflops"]} for row in rows]
    limit = ceilings["matmul_tflops"].get(precision)
    note = "" if limit is None else f"matrix product: {factor * limit:,.3g} {unit}"

    # A Figure of its own, not pyplot's: no display is needed and no global state is touched.
    size = (1.2 + 4.6 * len(dropouts), 0.9 + 3.3 * len(head_dims))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(len(head_dims), len(dropouts), sharex=True, sharey=True, squeeze=False)
    for i, head_dim in enumerate(head_dims):
        for j, dropout in enumerate(dropouts):
            chosen = [r for r in rows if r["head_dim"] == head_dim and r["dropout"] == dropout]
            axes = panels[i, j]
            _draw_panel(axes, chosen, note)
            kind = f"dropout {dropout}" if dropout else "no dropout"
            axes.set_title(f"D = {head_dim}, {kind}", fontsize=10, loc="left")
            if j == 0:
                axes.set_ylabel(unit)
            if i == len(head_dims) - 1:
                axes.set_xlabel("sequence length T")
    top = max(row["tflops"] for row in rows)
    panels[0, 0].set_ylim(0, 1.08 * top)
    title = {"both": "forward + backward", "forward": "forward", "backward": "backward"}[what]
    batches = " or ".join(f"{n}" for n in sorted({row["batch"] for row in rows}))
    figure.suptitle(f"Causal attention, {title}, {precision}, B = {batches}", fontsize=11)
    figure.draw_without_rendering()  # lays out the panels, whose heights the labels need
    _label_ends(panels.flat, 1.08 * top)
    figure.savefig(path, format="png")
    return path


def _draw_panel(axes: Any, rows: list[dict[str, Any]], note: str) -> None:
    """One line for each contender; labels are put to their ends later."""
    for number, contender in enumerate(CONTENDERS):
        mine = sorted(
            (row["length"], row["tflops"]) for row in rows if row["name"] == contender.name
        )
        if not mine:
            continue
        ours = contender.name == OURS
        axes.plot(
            [length for length, _ in mine],
            [rate for _, rate in mine],
            color=_COLOURS[number],
            linewidth=2.4 if ours else 1.3,
            marker="o",
            markersize=4 if ours else 2.5,
            zorder=3 if ours else 2,
            label=contender.name,
        )
    axes.set_xscale("log", base=2)
    lengths = sorted({row["length"] for row in rows})
    axes.set_xticks(lengths, [f"{n // 1024}k" if n % 1024 == 0 else f"{n}" for n in lengths])
    axes.minorticks_off()
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.text(0.02, 0.97, note, transform=axes.transAxes, va="top", fontsize=7, color="0.4")


def _label_ends(panels: Any, top: float) -> None:
    """Names beside the lines' ends, moved apart where they would overlap."""
    for axes in panels:
        # A line that ends early is labelled there; only those of one column can overlap.
        ends = sorted(
            (float(line.get_xdata()[-1]), float(line.get_ydata()[-1]), line)
            for line in axes.get_lines()
        )
        below: dict[float, float] = {}
        for x, y, line in sorted(ends, key=lambda end: end[1]):
            height = max(y, below.get(x, -top) + _LABEL_GAP * top)
            below[x] = height
            axes.annotate(
                line.get_label(),
                xy=(x, y),
                xytext=(6, (height - y) / top * axes.bbox.height * 72 / axes.figure.dpi),
                textcoords="offset points",
                color=line.get_color(),
                fontsize=8,
                va="center",
                annotation_clip=False,
            )
