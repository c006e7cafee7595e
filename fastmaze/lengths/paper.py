"""What the paper's table claims about a task, beside what is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from fastmaze.lengths.analyze import analyze
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.report import Length, LengthReport
from fastmaze.lengths.small_tasks import SMALL_TASKS

TICK: Final = "✓"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A row of the paper's table (Ni et al. 2023), with our remarks where we find otherwise."""

    l_mem: str
    """A number, "T", or a word such as "short"."""
    m: str
    c: str
    remarks: dict[str, str]
    """For "l_mem", "m" or "c" why what is computed differs."""


CLAIMS: Final[dict[str, Claim]] = {
    "PassiveTMaze": Claim(l_mem="T", m="T", c="1", remarks={}),
    "ActiveTMaze": Claim(
        l_mem="T", m="T", c="T",
        remarks={
            "l_mem": "the cue is the second observation, so the first is never needed",
            "m": "only o_{T+1} makes it T: m_reward, and m_transit without it, are T − 1",
        },
    ),
    "MemoryLength": Claim(
        l_mem="T", m="T", c="1",
        remarks={
            "l_mem": "the context is shown twice, at o_1 and o_2, so the first is never needed",
            "m": "the context is shown twice, at o_1 and o_2",
        },
    ),
    "UmbrellaLength": Claim(l_mem="1", m="1", c="T", remarks={}),
    "RepeatFirst": Claim(l_mem="2", m="T", c="1", remarks={}),
    "Autoencode": Claim(
        l_mem="T", m="T", c="1",
        remarks={
            "l_mem": "the deck is known: after what was said, elimination tells the last card, "
            "and the last two need only one of the first two observations",
            "m": "the deck is known: all cards but the first tell the first",
        },
    ),
    "TMazeLong": Claim(l_mem="T", m="T", c="1", remarks={}),
    "HeavenHell": Claim(
        l_mem="T", m="T", c="T",
        remarks={
            "l_mem": "the priest is half-way: what is left is the walk back and up the stem, "
            "and one spare step",
            "m": "the priest is a quarter of the way: what is left is the walk to heaven",
            "c": "one spare step: at the first step nothing is lost yet",
        },
    ),
    "BakkerTMaze": Claim(
        l_mem="T", m="T", c="T",
        remarks={
            "c": "at the start all wrong moves stand still and pay at once; from the second cell "
            "on, a step back is paid for at the end only",
        },
    ),
    "MemoryCards": Claim(l_mem="long", m="long", c="1", remarks={}),
    "DelayedCatch": Claim(
        l_mem="1", m="T", c="T",
        remarks={
            "m": "the first run's catch shows when its ball is down, size − 1 steps after the start"
        },
    ),
    "KeyToDoor": Claim(
        l_mem="short", m="T", c="T",
        remarks={
            "m": "the first step leaves the key in view or shows the indicator",
            "c": "a spare step: an optimal policy may take the key while it could still wait, "
            "and nothing depends on it; c_sup asks about other optimal policies, too",
        },
    ),
}  # fmt: skip
"""Task to the paper's claim."""

SWEEPS: Final = {
    "PassiveTMaze": ("length", (2, 3, 4, 6, 8)),
    "ActiveTMaze": ("length", (2, 3, 4, 6, 8)),
    **{name: (task.dial, task.sweep) for name, task in SMALL_TASKS.items()},
}
"""Task to its dial and the values that the table takes."""


def verdict(claim: str, length: Length | None, horizon: int) -> str:
    """A tick if the claim holds, a cross if not, nothing where it names no number."""
    if length is None or not isinstance(length, int):
        return "?"
    expected = horizon if claim == "T" else int(claim) if claim.isdigit() else None
    if expected is None:
        return ""
    return TICK if expected == length else "✗"


def compare(name: str, report: LengthReport) -> list[str]:
    """Lines that put the paper's claims beside a report; none if it makes none."""
    claim = CLAIMS.get(name)
    if claim is None:
        return []
    lines = [f"{'':8}{'paper':>8}{'computed':>16}"]
    for quantity, said in (("l_mem", claim.l_mem), ("m", claim.m), ("c", claim.c)):
        found = getattr(report, quantity)
        sign = verdict(said, found, report.horizon)
        line = f"{quantity:8}{said:>8}{found!s:>16}  {sign}"
        if sign == "✗" and quantity in claim.remarks:
            line += f" {claim.remarks[quantity]}"
        lines.append(line)
        if quantity == "c" and report.c_sup != report.c:
            sign = verdict(said, report.c_sup, report.horizon)
            lines.append(f"{'c_sup':8}{'':8}{report.c_sup!s:>16}  {sign}")
    return lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A task over a sweep of sizes."""

    name: str
    dial: str
    values: tuple[int, ...]
    reports: tuple[LengthReport, ...]

    def formula(self, quantity: str) -> str:
        """A length in terms of T, or its values."""
        return formula([(r.horizon, getattr(r, quantity)) for r in self.reports])


def formula(points: Sequence[tuple[int, Length | None]]) -> str:
    """The simplest of: a constant, T − k, a line in T; or the values one by one."""
    exact = [(t, n) for t, n in points if isinstance(n, int)]
    if len(exact) < len(points):
        return ", ".join(str(n) for _, n in points)
    if len({n for _, n in exact}) == 1:
        return str(exact[0][1])
    (t, n), (t2, n2) = exact[0], exact[-1]
    slope = Fraction(n2 - n, t2 - t)
    shift = n - slope * t
    if len(exact) < 3 or any(slope * t + shift != n for t, n in exact):
        return ", ".join(str(n) for _, n in exact)
    top, over = slope.numerator, slope.denominator
    offset = shift * over
    if offset.denominator != 1:
        return ", ".join(str(n) for _, n in exact)
    line = "T" if top == 1 else f"{top}T"
    if offset:
        line += f" {'+' if offset > 0 else '−'} {abs(int(offset))}"
    return line if over == 1 else f"({line})/{over}" if offset else f"{line}/{over}"


def table(progress: Progress | None = None, names: Iterable[str] | None = None) -> list[Row]:
    """Analyses every task of the table at the sizes of its sweep."""
    rows = []
    chosen = list(SWEEPS) if names is None else list(names)
    for i, name in enumerate(chosen):
        dial, values = SWEEPS[name]
        sizes: list[dict[str, Any]] = [{dial: value} for value in values]
        reports = tuple(analyze(name, **size) for size in sizes)
        rows.append(Row(name=name, dial=dial, values=values, reports=reports))
        if progress is not None:
            progress("analysing tasks", i + 1, len(chosen))
    return rows


COLUMNS: Final = ("m_reward", "m_transit", "m_transit_without_last", "l_value", "l_mem",
                  "l_mem_everywhere", "c", "c_sup")  # fmt: skip
"""Lengths that the table shows."""


def markdown(rows: Sequence[Row]) -> str:
    """The table, with the paper's claims and remarks below."""
    head = ("task", "sizes", "T", *COLUMNS, "paper: l_mem, m, c")
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    notes = []
    for row in rows:
        claim = CLAIMS[row.name]
        signs = []
        for quantity in ("l_mem", "m", "c"):
            said = getattr(claim, quantity)
            found = {verdict(said, getattr(r, quantity), r.horizon) for r in row.reports}
            sign = TICK if found == {TICK} else "" if found == {""} else "✗"
            signs.append(f"{said} {sign}".strip())
            if sign == "✗":
                remark = claim.remarks.get(quantity, "")
                notes.append(
                    f"- **{row.name}, {quantity}**: {row.formula(quantity)}, not {said}"
                    + (f": {remark}." if remark else ".")
                )
        sizes = f"{row.dial} {', '.join(map(str, row.values))}"
        spans = ", ".join(str(r.horizon) for r in row.reports)
        found_values = [row.formula(column) for column in COLUMNS]
        lines.append("| " + " | ".join((row.name, sizes, spans, *found_values, ", ".join(signs)))
                     + " |")  # fmt: skip
    return "\n".join([*lines, "", *notes])
