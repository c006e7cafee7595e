"""The benchmark of attention: all contenders solve the same problem, and the figures are theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.bench import attention_contenders as contenders
from fastmaze.bench.attention import BenchConfig, cases, run
from fastmaze.bench.attention_contenders import CONTENDERS, Cache, Case, Contender
from fastmaze.bench.attention_measure import measure_case, measure_drop_rates
from fastmaze.bench.attention_plot import check_plot_path, plot_attention
from fastmaze.bench.contenders import Unavailable
from fastmaze.bench.device_timing import Stopwatch
from fastmaze.cli import main
from fastmaze.kernels import reference

CPU = torch.device("cpu")
CEILINGS = {"matmul_tflops": {"fp32": 0.05, "bf16": 0.02}, "copy_gbps": 5.0}
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def case(**changes: Any) -> Case:
    sizes = {"batch": 2, "heads": 2, "length": 32, "head_dim": 16, "precision": "fp32"}
    return Case(**{**sizes, "dropout": 0.0, "device": CPU, **changes})


def rows_of(name: str, passes: list[str], **changes: Any) -> list[dict[str, Any]]:
    stopwatch = Stopwatch(CPU, rounds=2, seconds=1e-4)
    return measure_case(case(**changes), [BY_NAME[name]], passes, stopwatch, CEILINGS)


@pytest.mark.parametrize(
    ("what", "expected"),
    # Under the diagonal T² / 2 pairs of D products and D sums, for scores and for outputs.
    [("forward", 2 * 2 * (4 * 4 / 2) * (2 * 8) * 2), ("backward", 2560), ("both", 3584)],
)
def test_flops_are_the_usual_causal_count(what: str, expected: float) -> None:
    assert case(length=4, head_dim=8).flops(what) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_decode_bytes_are_those_of_the_tensors(precision: str) -> None:
    """The cache is read, the new token written, the query read and the output written."""
    c = case(length=10, precision=precision)
    token = torch.empty(2, 2, 16, dtype=c.dtype)
    cache = torch.empty(2, 2, 10, 16, dtype=c.dtype)
    assert c.decode_bytes() == 2 * cache.nbytes + 4 * token.nbytes


@pytest.mark.parametrize("name", BY_NAME)
def test_every_contender_that_runs_here_computes_causal_attention(name: str) -> None:
    """A contender that computed something else would be none."""
    make = BY_NAME[name].attend
    assert make is not None
    try:
        attend = make(case())
    except Unavailable as reason:
        pytest.skip(str(reason))
    q, k, v = torch.randn(3, 2, 2, 32, 16)
    expected, _ = reference.causal_attention(q, k, v)
    torch.testing.assert_close(attend(q, k, v), expected)


@pytest.mark.parametrize("name", [c.name for c in CONTENDERS if c.decode])
def test_every_contender_that_runs_here_decodes(name: str) -> None:
    make = BY_NAME[name].decode
    assert make is not None
    try:
        decode = make(case())
    except Unavailable as reason:
        pytest.skip(str(reason))
    q, k, v = torch.randn(3, 2, 2, 16)
    caches = torch.randn(2, 2, 2, 32, 16)
    ours, theirs = caches.clone(), caches.clone()
    out = decode(Cache(q, k, v, ours[0], ours[1]))
    expected = reference.decode_attention(q, theirs[0], theirs[1], 31, k=k, v=v)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(ours, theirs)  # the new token is in the cache


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sdpa cudnn", {}, "GPUs only"),
        ("flex", {}, "GPUs only"),
        ("flash-attn 2", {}, "GPUs only"),
        ("sdpa flash", {"dropout": 0.1}, "dropout"),
        ("sdpa math", {"batch": 1000, "length": 100_000}, "T × T"),
    ],
)
def test_who_cannot_run_says_why(name: str, changes: dict[str, Any], words: str) -> None:
    if "length" in changes:  # inputs of such a length would not fit either
        make = BY_NAME[name].attend
        assert make is not None
        with pytest.raises(Unavailable, match=words):
            make(case(**changes))
        return
    (row,) = rows_of(name, ["forward"], **changes)
    assert words in row["skipped"]
    assert "\n" not in row["skipped"]
    assert "milliseconds" not in row


def test_a_contender_that_breaks_takes_no_other_with_it() -> None:
    """Whether it breaks when made, in its forward, or only in its backward."""

    class BreaksInBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor) -> Tensor:
            return q.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            raise RuntimeError("no backward")

    def not_made(case: Case) -> Any:
        raise OSError("no library")

    def no_forward(case: Case) -> Any:
        return lambda q, k, v: q @ k

    odd = [
        Contender("not made", not_made),
        Contender("no forward", no_forward),
        Contender("no backward", lambda case: lambda q, k, v: BreaksInBackward.apply(q)),
    ]
    stopwatch = Stopwatch(CPU, rounds=1, seconds=1e-4)
    rows = measure_case(case(), [*odd, BY_NAME["sdpa math"]], ["both"], stopwatch, CEILINGS)
    reasons = {row["name"]: row.get("skipped") for row in rows}
    assert reasons["not made"] == "no library"
    assert "must match" in reasons["no forward"] or "size" in reasons["no forward"]
    assert reasons["no backward"] == "no backward"
    assert reasons["sdpa math"] is None


def test_figures_follow_from_the_times() -> None:
    row = rows_of("fastmaze", ["both"])[0]
    seconds = row["milliseconds"] / 1e3
    assert row["tflops"] == pytest.approx(case().flops("both") / seconds / 1e12)
    assert row["of_ceiling"] == pytest.approx(row["tflops"] / 0.05)
    assert row["fastmaze_faster"] == 1
    assert len(row["rounds"]) == 2
    row = rows_of("fastmaze", ["decode"])[0]
    assert row["gbps"] == pytest.approx(case().decode_bytes() / row["milliseconds"] / 1e6)
    assert row["of_ceiling"] == pytest.approx(row["gbps"] / 5.0)


@pytest.mark.parametrize("layout", ["fused", "separate"])
def test_inputs_lie_in_memory_as_asked(layout: str) -> None:
    seen: list[tuple[int, ...]] = []

    def make(case: Case) -> Any:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            seen.extend(x.stride() for x in (q, k, v))
            return q * k * v

        return attend

    stopwatch = Stopwatch(CPU, rounds=1, seconds=1e-4)
    measure_case(case(), [Contender("x", make)], ["both"], stopwatch, CEILINGS, layout)
    B, H, T, D = 2, 2, 32, 16
    expected = {"fused": (T * 3 * H * D, D, 3 * H * D, 1), "separate": (H * T * D, T * D, D, 1)}
    assert len(expected) == B
    assert set(seen) == {expected[layout]}


def test_drop_rate_is_what_is_applied() -> None:
    """Found out from the outputs alone, whatever a contender says of itself."""

    def make(case: Case) -> Any:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            T = q.shape[2]
            weights = torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None]
            keep = torch.rand(*q.shape[:2], T, T) < 0.75  # though 0.1 was asked for
            return (weights * keep / 0.9) @ v

        return attend

    torch.manual_seed(0)
    asked = case(length=256, dropout=0.1)
    names = ("fastmaze", "sdpa math", "sdpa flash")
    rows = measure_drop_rates(asked, [Contender("odd", make), *(BY_NAME[n] for n in names)])
    found = {row["name"]: row for row in rows}
    weights = 2 * 2 * 240 * 16
    assert found["odd"]["weights"] == weights
    # Five standard errors.
    assert found["odd"]["rate"] == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / weights) ** 0.5)
    assert found["odd"]["scale"] == pytest.approx(1 / 0.9, rel=1e-4)
    for name in ("fastmaze", "sdpa math"):
        assert found[name]["rate"] == pytest.approx(0.1, abs=5 * (0.1 * 0.9 / weights) ** 0.5)
        assert found[name]["scale"] == pytest.approx(1 / 0.9, rel=1e-3)
    assert "skipped" in found["sdpa flash"]


def test_defaults_by_device() -> None:
    """Nothing is measured here: what would be, on either device."""
    config = BenchConfig()
    on_cpu = [c for c, _ in cases(config, CPU)]
    assert {c.length for c in on_cpu} == {128, 256, 512, 1024}
    assert {c.precision for c in on_cpu} == {"fp32", "bf16"}
    on_gpu = list(cases(config, torch.device("cuda")))
    assert {c.length for c, _ in on_gpu} == {2**n for n in range(7, 15)}
    assert {c.precision for c, _ in on_gpu} == {"bf16", "fp16", "tf32", "fp32"}
    assert all(c.heads * c.head_dim == 128 for c, _ in on_gpu)
    assert {c.dropout for c, passes in on_gpu if passes == ["decode"]} == {0.0}
    assert {c.batch for c, passes in on_gpu if passes != ["decode"]} == {64}


def test_it_stops_in_time_and_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    config = BenchConfig(
        lengths=(16,), head_dims=(64,), precisions=("fp32",), dropouts=(0.0,), device="cpu",
        minutes=1e-9,
    )  # fmt: skip
    assert run(config)["stopped"] == "2 of 2 cases not measured"
    assert "2 of 2 cases not measured" in capsys.readouterr().out


def test_command_writes_table_figures_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "attention.json", tmp_path / "attention.png"
    options = ["--device", "cpu", "--lengths", "16", "32", "--head-dims", "64"]
    options += ["--precisions", "fp32", "--rounds", "1", "--seconds", "0.0001"]
    options += ["--json", str(out), "--plot", str(plot)]
    assert main(["bench", "attention", *options]) == 0
    said = capsys.readouterr().out
    assert "on a CPU" in said
    assert "forward + backward" in said
    assert "decoding step" in said
    assert "dropout 0.1 really is" in said
    assert said.count("sdpa cudnn: skipped") == 1  # told once
    figures = json.loads(out.read_text())
    assert figures["config"]["lengths"] == [16, 32]
    assert figures["machine"]["device"]["name"] == "CPU"
    assert figures["machine"]["versions"]["torch"] == torch.__version__
    assert figures["command"].startswith("fastmaze")
    kinds = {
        (r["pass"], r["length"], r["dropout"]) for r in figures["rows"] if r["name"] == "fastmaze"
    }
    attending = {
        (p, T, d) for p in ("forward", "backward", "both") for T in (16, 32) for d in (0, 0.1)
    }
    assert kinds == attending | {("decode", T, 0) for T in (16, 32)}
    for row in figures["rows"]:
        assert ("skipped" in row) != ("milliseconds" in row)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_picture_has_a_panel_for_each_kind_and_a_name_at_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    rows = [
        {"pass": "both", "name": name, "precision": "bf16", "dropout": dropout, "batch": 64,
         "length": length, "head_dim": head_dim, "tflops": rate}
        for name, rate in (("fastmaze", 300.0), ("sdpa flash", 299.0), ("sdpa math", 20.0))
        for dropout in (0.0, 0.1) for head_dim in (64, 128) for length in (512, 1024)
    ]  # fmt: skip
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))
    )
    ceilings = {"matmul_tflops": {"bf16": 790.0}}
    plot_attention(rows, tmp_path / "a.png", ceilings)
    panels = drawn[0].axes
    assert [p.get_title(loc="left") for p in panels] == [
        "D = 64, no dropout", "D = 64, dropout 0.1", "D = 128, no dropout", "D = 128, dropout 0.1",
    ]  # fmt: skip
    for panel in panels:
        boxes = {
            t.get_text(): t.get_window_extent() for t in panel.texts if "matrix" not in t.get_text()
        }
        assert set(boxes) == {"fastmaze", "sdpa flash", "sdpa math"}
        low, high = sorted((boxes["fastmaze"], boxes["sdpa flash"]), key=lambda box: box.y0)
        assert low.y1 <= high.y0 + 1  # names of lines that end together do not overlap
    with pytest.raises(ValueError, match="rows"):
        plot_attention([], tmp_path / "b.png", ceilings)


@pytest.mark.parametrize("bad", [".", "none/x.png"])
def test_a_picture_that_cannot_be_written_is_refused_at_once(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--plot"):
        check_plot_path(tmp_path / bad)
    with pytest.raises(ValueError, match=r"^--plot"):
        run(BenchConfig(plot=tmp_path / bad, device="cpu"))


def test_memory_of_the_math_backend_is_estimated_before_it_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = 5 * 4 * 2 * 2 * 32**2
    make = BY_NAME["sdpa math"].attend
    assert make is not None
    monkeypatch.setattr(contenders, "_free_bytes", lambda device: 2 * wanted)
    make(case())
    monkeypatch.setattr(contenders, "_free_bytes", lambda device: wanted)
    with pytest.raises(Unavailable, match="GiB"):
        make(case())


@pytest.mark.parametrize(
    ("field", "bad", "error"),
    [
        ("lengths", (), ValueError),
        ("lengths", 128, ValueError),
        ("lengths", (0,), ValueError),
        ("lengths", (1.5,), TypeError),
        ("head_dims", (48,), ValueError),
        ("head_dims", (True,), TypeError),
        ("width", 0, ValueError),
        ("batch", 0, ValueError),
        ("decode_batch", -1, ValueError),
        ("precisions", ("fp8",), ValueError),
        ("dropouts", (1.0,), ValueError),
        ("dropouts", (-0.1,), ValueError),
        ("dropouts", ("0.1",), TypeError),
        ("passes", ("sideways",), ValueError),
        ("contenders", ("xformers",), ValueError),
        ("layout", "diagonal", ValueError),
        ("rounds", 0, ValueError),
        ("seconds", 0.0, ValueError),
        ("minutes", 0.0, ValueError),
    ],
)
def test_config_refuses(field: str, bad: Any, error: type[Exception]) -> None:
    """Before anything is measured, by name."""
    with pytest.raises(error, match=f"^{field}: expected"):
        BenchConfig(**{field: bad})
