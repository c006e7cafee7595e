"""The tables of `fastmaze bench update`, and what doubling the length costs."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from fastmaze.bench.update_parts import ATTENTION_PARTS, ROLLOUT_PARTS, UPDATE_PARTS

Figures = dict[str, Any]

LIMITS: Final = {"tokens": 2.3, "attention": 4.3, "memory": 2.1}
"""What doubling the length may cost at most, for what grows with it and for attention."""


class Case(NamedTuple):
    """What the contenders of one table have in common."""

    length: int
    """Steps of an episode, T."""
    model: Literal["gpt", "lstm"]
    precision: str


def print_ceilings(ceilings: Figures) -> None:
    """One line."""
    rates = [f"{name} {1e3 * rate:,.4g}" for name, rate in ceilings["matmul_tflops"].items()]
    copy = ceilings["copy_gbps"]
    said = f"{copy:,.4g} GB/s" if copy else "not measured"
    print(f"ceilings: matrix product, GFLOP/s: {', '.join(rates)}; copy: {said}")


def print_case(case: Case, rows: list[Figures], ceilings: Figures, batch: int) -> None:
    """The contenders side by side, then the parts of ours."""
    print(f"\nT = {case.length:,}, {case.model}, {case.precision}, B = {batch}")
    print(f"  {'':24}{'update ms':>11}{'':7}{'CPU ms':>9}{'first':>7}{'MiB':>8}   "
          f"{'rollout: envs':>13}{'steps/s':>10}{'':7}{'first':>7}")  # fmt: skip
    for row in rows:
        if "skipped" in row:
            print(f"  {row['name']:24} skipped: {row['skipped']}")
            continue
        update, memory = row["update"], row["memory"]["peak_mib"]
        busy = 1e3 * update["cpu_seconds"]
        line = (f"  {row['name']:24}{1e3 * update['seconds']:>11,.1f}{_spread(update):>7}"
                f"{busy:>9,.0f}{_times(update):>7}{memory:>8,.0f}")  # fmt: skip
        if rollout := row.get("rollout"):
            line += (f"   {row['envs']:>13,}{1 / rollout['seconds']:>10,.0f}{_spread(rollout):>7}"
                     f"{_times(rollout):>7}")  # fmt: skip
        print(line)
    print("  CPU: time of all threads, which a busy machine prolongs less")
    print("  first: how many times the first one's time (of an env step: rollout) it takes")
    for row in rows:
        if "work" in row and "skipped" not in row:
            _print_parts(row, ceilings)


def _print_parts(row: Figures, ceilings: Figures) -> None:
    parts, work = row["update parts"], row["work"]
    total = sum(parts.values())
    print(f"\n  {row['name'] + ', parts':24}{'ms':>9}{'share':>7}{'GFLOP':>9}{'GFLOP/s':>9}"
          f"{'max':>5}{'MB':>9}{'GB/s':>7}{'max':>5}")  # fmt: skip
    matmul = ceilings["matmul_tflops"].get(row["precision"])
    copy = ceilings["copy_gbps"]
    for name in UPDATE_PARTS:
        seconds = parts.get(name, 0.0)
        if seconds <= 0:
            continue
        line = f"  {name:24}{1e3 * seconds:>9,.2f}{seconds / total:>7.1%}"
        flops, moved = work["flops"].get(name, 0), work["bytes"].get(name, 0)
        rate = flops / seconds / 1e9
        share = f"{rate / matmul / 1e3:.0%}" if matmul else ""
        line += f"{flops / 1e9:>9,.2f}{rate:>9,.0f}{share:>5}" if flops else " " * 23
        rate = moved / seconds / 1e9
        share = f"{rate / copy:.0%}" if copy else ""
        line += f"{moved / 1e6:>9,.1f}{rate:>7,.1f}{share:>5}" if moved else ""
        print(line)
    flops, moved = sum(work["flops"].values()), sum(work["bytes"].values())
    bound = flops / matmul / 1e12 if matmul else 0.0
    print(f"  {'sum':24}{1e3 * total:>9,.2f}{'':7}{flops / 1e9:>9,.2f}{flops / total / 1e9:>9,.0f}"
          f"{bound / total:>5.0%}{moved / 1e6:>9,.1f}{moved / total / 1e9:>7,.1f}")  # fmt: skip
    if rollout := row.get("rollout parts"):
        total = sum(rollout.values())
        shares = [f"{name} {rollout.get(name, 0.0) / total:.1%}" for name in ROLLOUT_PARTS]
        print(f"  rollout: {', '.join(shares)}; all environments' step"
              f" {1e3 * total / row['length']:.3f} ms")  # fmt: skip


def growth(rows: list[Figures]) -> list[Figures]:
    """What twice the length costs, for each contender measured at both."""
    found: list[Figures] = []
    measured = [row for row in rows if "work" in row and "skipped" not in row]
    for row in measured:
        for other in measured:
            same = all(row[key] == other[key] for key in ("name", "model", "precision"))
            if not same or other["length"] != 2 * row["length"]:
                continue
            small, large = _grows(row), _grows(other)
            ratios = {name: large[name] / small[name] for name in small if small[name] > 0}
            found.append(
                {key: row[key] for key in ("name", "model", "precision")}
                | {"from": row["length"], "to": other["length"], "ratios": ratios}
            )
    return found


def print_growth(found: list[Figures]) -> None:
    """A line for each pair of lengths, with what is above its limit marked."""
    if not found:
        return
    limits = ", ".join(f"{name} {limit}" for name, limit in LIMITS.items())
    print(f"\ntwice the length costs, times (limits: {limits}; ! above)")
    for row in found:
        cells = [
            f"{name} {ratio:.2f}{'!' if ratio > LIMITS[name] else ''}"
            for name, ratio in row["ratios"].items()
        ]
        print(f"  {row['name']:20} {row['model']:5}{row['precision']:5}"
              f"{row['from']:>7,} -> {row['to']:<7,} {', '.join(cells)}")  # fmt: skip


def _grows(row: Figures) -> dict[str, float]:
    parts = row["update parts"]
    attention = sum(parts.get(name, 0.0) for name in ATTENTION_PARTS)
    return {
        "tokens": sum(parts.values()) - attention,
        "attention": attention,
        "memory": row["memory"]["peak_mib"],
    }


def _spread(figures: Figures) -> str:
    return f"±{min(figures['spread'] / 2, 9.99):.0%}"


def _times(figures: Figures) -> str:
    return f"{figures['times_the_first']:,.3g}"
