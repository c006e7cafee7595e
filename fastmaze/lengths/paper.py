"""What the paper's table claims about a task, beside what is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from fastmaze.lengths.analyze import analyze
from fastmaze.lengths.minimise import Progress
from fastmaze.lengths.report import Length, LengthReport
from fastmaze.lengths.small_tasks import SMALL_TASKS
from fastmaze.specs import TASKS

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
            "l_mem": "the turn comes 2n + 1 steps after the priest, and then the cell tells it",
            "m": "the reward comes 3n + 1 steps after the priest",
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
            "m": "the first run's catch shows when its ball is down, size − 1 steps after the "
            "start",
            "c": "a wide board leaves spare steps: at first no step loses a ball, and an optimal "
            "policy may move early, so that one wrong step more is not yet decisive",
        },
    ),
    "KeyToDoor": Claim(
        l_mem="short", m="T", c="T",
        remarks={
            "m": "the key is in view until it is taken, and taking it shows the indicator, in the "
            "last observation of its room and the first of the next",
            "c": "a spare step: an optimal policy may take the key while it could still wait, "
            "and nothing depends on it; c_sup asks about other optimal policies, too",
        },
    ),
}  # fmt: skip
"""Task to the paper's claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A row of our table: a task at several sizes."""

    task: str
    dial: str
    values: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """What is the same at all sizes, where it is not the default."""

    @property
    def name(self) -> str:
        """The task, with its options."""
        return ", ".join([self.task, *(f"{key} {value}" for key, value in self.options.items())])


def _abstract(task: str, values: tuple[int, ...], **options: Any) -> Sweep:
    return Sweep(task=task, dial=SMALL_TASKS[task].dial, values=values, options=options)


SWEEPS: Final = (
    Sweep(task="PassiveTMaze", dial="length", values=(2, 3, 4, 6, 8)),
    Sweep(task="ActiveTMaze", dial="length", values=(2, 3, 4, 6, 8)),
    _abstract("MemoryLength", (2, 3, 4, 5, 6)),
    _abstract("UmbrellaLength", (2, 3, 4, 5, 6)),
    _abstract("RepeatFirst", (2, 3, 4)),
    _abstract("RepeatFirst", (1, 2, 3), suits=4),
    _abstract("Autoencode", (2, 3, 4)),
    _abstract("TMazeLong", (2, 3, 4, 5, 6)),
    _abstract("HeavenHell", (1, 2, 3, 4)),
    _abstract("BakkerTMaze", (2, 3, 4, 5, 6)),
    _abstract("MemoryCards", (3, 4, 5, 6)),
    _abstract("DelayedCatch", (2, 3, 4)),
    _abstract("DelayedCatch", (2, 3, 4), size=7),
    _abstract("KeyToDoor", (1, 2, 3, 4)),
    _abstract("KeyToDoor", (1, 2, 3, 4), explore=1),
)
"""The rows of our table."""


def claim_of(task: str) -> Claim | None:
    """What the paper says of a task; None if it says nothing."""
    if task in CLAIMS or task not in TASKS:
        return CLAIMS.get(task)
    said = TASKS[task].paper
    return None if said is None else Claim(l_mem=said.l_mem, m=said.m, c=said.c, remarks={})


def verdict(claim: str, length: Length | None, horizon: int) -> str:
    """A tick if the claim holds, a cross if not, nothing where it names no number."""
    number = claim.removeprefix("≤").strip()
    expected = horizon if number == "T" else int(number) if number.isdigit() else None
    if expected is None:
        return ""
    if length is None or not isinstance(length, int):
        return "?"
    holds = length <= expected if claim.startswith("≤") else length == expected
    return TICK if holds else "✗"


def compare(name: str, report: LengthReport) -> list[str]:
    """Lines that put the paper's claims beside a report; none if it makes none."""
    claim = claim_of(name)
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
    """A sweep, analysed."""

    sweep: Sweep
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


def table(progress: Progress | None = None, sweeps: Iterable[Sweep] = SWEEPS) -> list[Row]:
    """Analyses every task of the table at the sizes of its sweep."""
    chosen = list(sweeps)
    rows = []
    for i, sweep in enumerate(chosen):
        sizes: list[dict[str, Any]] = [{sweep.dial: x, **sweep.options} for x in sweep.values]
        reports = tuple(analyze(sweep.task, **size) for size in sizes)
        rows.append(Row(sweep=sweep, reports=reports))
        if progress is not None:
            progress("analysing tasks", i + 1, len(chosen))
    return rows


COLUMNS: Final = {
    "m_reward": "m_reward",
    "m_transit": "m_transit (without o_{T+1})",
    "m": "m",
    "l_value": "l_value",
    "l_mem": "l_mem",
    "l_mem_everywhere": "l_mem everywhere",
    "c": "c",
    "c_sup": "c_sup",
}
"""Lengths that the table shows, and their heads."""


def markdown(rows: Sequence[Row]) -> str:
    """The table, with the paper's claims and remarks below."""
    head = ("task", "sizes", "T", *COLUMNS.values(), "paper: l_mem, m, c")
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    notes: dict[str, None] = {}
    for row in rows:
        claim = CLAIMS[row.sweep.task]
        signs = []
        for quantity in ("l_mem", "m", "c"):
            said = getattr(claim, quantity)
            found = {verdict(said, getattr(r, quantity), r.horizon) for r in row.reports}
            sign = TICK if found == {TICK} else "" if found == {""} else "✗"
            signs.append(f"{said} {sign}".strip())
            if sign == "✗":
                remark = claim.remarks.get(quantity, "")
                notes[f"- **{row.sweep.name}, {quantity}**: {row.formula(quantity)}, not {said}"
                      + (f": {remark}." if remark else ".")] = None  # fmt: skip
        cells = [
            row.sweep.name,
            f"{row.sweep.dial} {', '.join(map(str, row.sweep.values))}",
            ", ".join(str(r.horizon) for r in row.reports),
            *(row.formula(column) for column in COLUMNS),
            ", ".join(signs),
        ]
        place = 3 + list(COLUMNS).index("m_transit")
        cells[place] += f" ({row.formula('m_transit_without_last')})"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *notes])
