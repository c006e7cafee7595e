"""summary.md of `fastmaze bench gpu-check`: one page, fit to be committed beside the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastmaze.bench.attention_contenders import OURS
from fastmaze.bench.gpu_check_parts import PARTS, read_results

Results = dict[str, Any]


def summarize(out: Path, command: str) -> str:
    """The page, from whatever parts have left results in `out`."""
    found = {part.name: read_results(out, part.name) for part in PARTS}
    there = {name: results for name, results in found.items() if results is not None}
    writers = {
        "machine": _machine,
        "correctness": _correctness,
        "sanitizer": _sanitizer,
        "envs": _envs,
        "tuning": _tuning,
        "attention": _attention,
        "update": _update,
        "fusions": _fusions,
    }
    lines = ["# gpu-check", "", f"`{command}`", ""]
    if any(results.get("reduced") for results in there.values()):
        lines += ["**Reduced form on a CPU: shows that the parts work; figures mean nothing.**", ""]
    for name, results in there.items():
        lines += [f"## {name.capitalize()}", ""]
        for problem in results.get("failures", []):
            lines.append(f"- **FAILED** {problem}")
        if "error" in results:
            lines.append(f"- **ERROR** `{results['error'].strip().splitlines()[-1]}`")
        for key in ("stopped", "skipped"):
            if key in results:
                lines.append(f"- {results[key]}")
        try:
            lines += writers[name](results)
        except (KeyError, TypeError) as error:  # a part that was killed may have left half
            lines.append(f"- not complete ({type(error).__name__}: {error})")
        lines.append("")
    return "\n".join(lines)


def _machine(results: Results) -> list[str]:
    machine, ceilings = results["machine"], results["ceilings"]
    device = machine["device"]
    versions = {name: version for name, version in machine["versions"].items() if version}
    rates = ", ".join(f"{k} {v:,.3g}" for k, v in ceilings["matmul_tflops"].items())
    return [
        f"- {device['name']}; {machine['cpu']}, {machine['cores']} cores; {machine['date']}",
        f"- commit {machine['commit']}; " + ", ".join(f"{k} {v}" for k, v in versions.items()),
        "- " + ", ".join(f"{k} {v}" for k, v in device.items() if k not in ("name", "device")),
        f"- ceilings: matrix product, TFLOP/s: {rates}; copy {ceilings['copy_gbps']:,.4g} GB/s",
    ]


def _correctness(results: Results) -> list[str]:
    passed = "no failures" if not results["failures"] else f"{len(results['failures'])} failures"
    lines = [
        f"- {results['note']}: {results['checked']} of {results['planned']} cases, {passed}",
        "- largest error as a share of what is allowed (twice that of plain torch in the same "
        "precision, plus two roundings):",
        "",
    ]
    names = sorted({key.split(" ")[1] for key in results["worst"]})
    rows = []
    for precision in dict.fromkeys(key.split(" ")[0] for key in results["worst"]):
        values = [results["worst"].get(f"{precision} {name}") for name in names]
        rows.append([precision, *("-" if v is None else f"{v:.2f}" for v in values)])
    return lines + _table(["", *names], rows)


def _sanitizer(results: Results) -> list[str]:
    return [f"- {tool}: {said}" for tool, said in results["tools"].items()]


def _envs(results: Results) -> list[str]:
    lines = [
        f"- bit for bit as native, and rollouts by CUDA graph as without: {results['checked']} of "
        f"{results['planned']} checks, {len(results['failures'])} failures",
        "- steps inside a captured graph; a copy of as many bytes, made the same way, beside them",
        "",
    ]
    rows = [
        [f"{row['num_envs']:,}", row["impl"],
         *([row["skipped"], "", "", ""] if "skipped" in row else
           [f"{row['microseconds']:.3g}", f"{row['steps_per_second'] / 1e6:,.4g}",
            f"{row['gbps']:,.3g} of {row['copy_gbps']:,.3g}", f"{row['share_of_copy']:.2f}"])]
        for row in results["rows"]
    ]  # fmt: skip
    heads = ["envs", "form", "µs a step of all", "M env steps/s", "GB/s of a copy's", "share"]
    return lines + _table(heads, rows)


def _tuning(results: Results) -> list[str]:
    rows = [
        [g["kernel"], g["precision"], str(g["head_dim"]), "0.1" if g["dropout"] else "0",
         str(g["best"]), str(g["default"]), f"{g['gain']:.2f}" if g["gain"] else "-"]
        for g in results["groups"] if g["best"]
    ]  # fmt: skip
    heads = ["kernel", "precision", "D", "dropout", "best (M, N, warps, stages)", "default", "gain"]
    return _table(heads, rows) if rows else []


def _attention(results: Results) -> list[str]:
    lines = [f"- tiles tuned beforehand: {results['tuned']}"]
    for row in results.get("drop_rates", []):
        if "rate" in row:
            lines.append(
                f"- dropout {row['asked']} in {row['precision']} with {row['name']} is "
                f"{row['rate']:.4f}, scale {row['scale']:.4f}"
            )
    rows = [row for row in results["rows"] if "skipped" not in row]
    names = list(dict.fromkeys(row["name"] for row in rows))
    kinds = dict.fromkeys((r["pass"], r["precision"], r["head_dim"], r["dropout"], r["length"],
                           r["batch"]) for r in rows)  # fmt: skip
    table = []
    for kind in kinds:
        cells: dict[str, Results] = {}
        for row in rows:
            fields = ("pass", "precision", "head_dim", "dropout", "length", "batch")
            if tuple(row[field] for field in fields) == kind:
                cells[row["name"]] = row
        others = [r["milliseconds"] for name, r in cells.items() if not name.startswith(OURS)]
        ours = cells[OURS]["milliseconds"] if OURS in cells else None
        ratio = f"{min(others) / ours:.2f}" if others and ours else "-"
        values = [_rate(cells.get(name)) for name in names]
        table.append([*(f"{value:,}" if isinstance(value, int) else str(value) for value in kind),
                      *values, ratio])  # fmt: skip
    heads = ["pass", "precision", "D", "dropout", "T", "B", *names, "× fastest other"]
    lines += ["- milliseconds (TFLOP/s, or GB/s for decoding); last column: how many times as fast "
              "as the fastest other", ""]  # fmt: skip
    return lines + _table(heads, table) + ["", "![attention](attention.png)"]


def _rate(row: Results | None) -> str:
    if row is None:
        return "-"
    return f"{row['milliseconds']:.3g} ({row.get('tflops', row.get('gbps')):.3g})"


def _update(results: Results) -> list[str]:
    rows = []
    for row in results["rows"]:
        kind = [f"{row['length']:,}", row["precision"], str(row["dropout"]), row["impl"]]
        if "skipped" in row:
            rows.append([*kind, "-", row["skipped"], "", "", "", ""])
            continue
        over = row["over_lower_bound"]
        rows.append([*kind, str(row["batch"]), f"{row['milliseconds']:.2f}",
                     *(f"{ms:.2f}" for ms in row["stages"].values()),
                     f"{row['tokens_per_second'] / 1e6:.3g}"
                     + (f", {over:.1f} × bound" if over else "")])  # fmt: skip
    heads = ["T", "precision", "dropout", "attention", "B", "ms", "forward", "backward",
             "optimizer", "M tokens/s"]  # fmt: skip
    return _table(heads, rows)


def _fusions(results: Results) -> list[str]:
    rows = [
        [row["name"], row["size"], *(_fusion_cell(row, which) for which in _WAYS),
         f"{row['speedup']:.2f}" if row.get("speedup") else "-"]
        for row in results["rows"]
    ]  # fmt: skip
    return _table(["forward + backward", "size", *_WAYS, "× fastest other"], rows)


_WAYS = ("fused", "eager", "compiled")


def _fusion_cell(row: Results, which: str) -> str:
    if which in row["milliseconds"]:
        return f"{row['milliseconds'][which]:.4g} ms"
    return str(row["skipped"].get(which, "-"))


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
