"""What an analysis finds: every length, exact or as bounds, with the histories that prove it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from fastmaze.lengths.exact import shown


class Bounds(NamedTuple):
    """A length that is only known to lie between two numbers, both included."""

    lower: int
    upper: int

    def __str__(self) -> str:
        return f"{self.lower}…{self.upper} (bounds)"


Length = int | Bounds
"""An exact length, or bounds where a limit stopped the search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One time step."""

    t: int
    states: int
    """Reachable hidden states."""
    classes: int
    """Of them, those that anything observable or paid tells apart."""
    beliefs: int
    """Different beliefs that histories lead to."""
    c: int | None = None
    """Largest c(h; π) of the histories that optimal policies visit."""
    m_reward: int | None = None
    """The least window that does at this t; with `detail=True` only, as are the next two."""
    m_transit: int | None = None
    l_value: int | None = None


@dataclass(frozen=True, kw_only=True)
class LengthReport:
    """The memory and credit-assignment lengths of a task (`docs/lengths.md` defines them)."""

    task: str
    note: str = ""
    """What to know first, e.g. that this is a task's abstract form."""
    horizon: int
    """T."""
    gamma: Fraction
    pooled: bool
    """Windows of different times were compared, too."""
    last_observation: bool
    """o_{T+1} counts in `m_transit`."""
    m_reward: Length
    m_transit: Length
    m_transit_without_last: Length
    """m_transit without o_{T+1}."""
    l_value: Length | None
    """None if the belief graph was too large for values."""
    l_mem: Length | None
    """After every history that optimal actions can reach."""
    l_mem_everywhere: Length | None
    """After every reachable history."""
    l_mem_on_path: Length | None
    """Only the return from the start is optimal; None unless asked for."""
    c: Length | None
    """c^M; bounds where ties among optimal policies leave a bracket."""
    c_sup: Length | None
    """The largest c(h; π) over histories that some optimal policy visits."""
    best_return: Fraction | None
    """V* from the start."""
    unreachable_states: int
    """States, over all layers, that no history can be in; they play no part."""
    steps: tuple[Step, ...]
    stories: dict[str, str] = field(default_factory=dict)
    """For each length the histories that prove it, told for people."""
    remarks: tuple[str, ...] = ()
    """What stopped the search, if anything did."""

    @property
    def m(self) -> Length:
        """m^M: the larger of `m_reward` and `m_transit`."""
        lower = max(lowest(self.m_reward), lowest(self.m_transit))
        upper = max(highest(self.m_reward), highest(self.m_transit))
        return lower if lower == upper else Bounds(lower, upper)

    @property
    def c_bracket(self) -> tuple[int, int] | None:
        """(lower, upper) of c^M, equal where it is exact."""
        return None if self.c is None else (lowest(self.c), highest(self.c))

    @property
    def exact(self) -> bool:
        """No limit stopped any search (c may still be a bracket)."""
        return not self.remarks

    def lengths(self) -> dict[str, Length | None]:
        """Every length by name."""
        return {name: getattr(self, name) for name in LENGTHS}

    def to_json(self) -> dict[str, Any]:
        """Everything, in values that JSON has: bounds as {"lower", "upper"}, fractions as text."""
        return {
            "task": self.task,
            "note": self.note,
            "T": self.horizon,
            "gamma": str(self.gamma),
            "pooled": self.pooled,
            "last_observation": self.last_observation,
            **{name: _plain(value) for name, value in self.lengths().items()},
            "best_return": None if self.best_return is None else _text(self.best_return),
            "exact": self.exact,
            "remarks": list(self.remarks),
            "unreachable_states": self.unreachable_states,
            "stories": self.stories,
            "steps": [
                {name: getattr(step, name) for name in Step.__dataclass_fields__}
                for step in self.steps
            ],
        }

    def __str__(self) -> str:
        head = f"{self.task}: T = {self.horizon}"
        if self.gamma != 1:
            head += f", γ = {self.gamma}"
        if self.pooled:
            head += ", windows of all times pooled"
        lines = [head, *([f"  ({self.note})"] if self.note else [])]
        for name, value in self.lengths().items():
            if value is not None:
                lines.append(f"  {name:24}{value!s:>14}   {LENGTHS[name]}")
        if self.best_return is not None:
            best = shown(self.best_return)
            lines.append(f"  {'best return':24}{best:>14}   V* from the start")
        states, beliefs = (
            sum(getattr(step, name) for step in self.steps) for name in ("states", "beliefs")
        )
        size = f"  over all t: {states:,} hidden states, {beliefs:,} beliefs"
        if self.unreachable_states:
            size += f"; {self.unreachable_states:,} states cannot be reached and play no part"
        lines += [size, *(f"  note: {remark}" for remark in self.remarks)]
        return "\n".join(lines)


LENGTHS = {
    "m_reward": "window that tells the expected reward",
    "m_transit": "window that tells the next observation's distribution",
    "m_transit_without_last": "the same, not asked about o_{T+1}",
    "m": "the larger of m_reward and m_transit",
    "l_value": "window that tells Q*",
    "l_mem": "window to act on, after histories that optimal actions reach",
    "l_mem_everywhere": "the same, after every reachable history",
    "l_mem_on_path": "window of some policy with the best return from the start",
    "c": "steps until the better action is ahead, on the kindest optimal policy's way",
    "c_sup": "the same, on any optimal policy's way",
}
"""Every length, in words."""


def lowest(length: Length) -> int:
    """The length, or its lower bound."""
    return length.lower if isinstance(length, Bounds) else length


def highest(length: Length) -> int:
    """The length, or its upper bound."""
    return length.upper if isinstance(length, Bounds) else length


def length_of(lower: int, upper: int | None) -> Length:
    """An exact length where both agree, or there is no upper bound to tell."""
    return lower if upper is None or upper <= lower else Bounds(lower, upper)


def _plain(value: Length | None) -> Any:
    return {"lower": value.lower, "upper": value.upper} if isinstance(value, Bounds) else value


def _text(value: Fraction) -> str:
    """The fraction in full where Python writes out its integers, else as a float."""
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    return str(value) if bits <= 2**12 else repr(float(value))
