"""`fastmaze bench gpu-check`: every part works, and what goes wrong in one stays there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.bench import (
    fusion_timing,
    gpu_check,
    gpu_check_attention,
    gpu_check_correctness,
    gpu_check_machine,
    gpu_check_sanitizer,
    gpu_tuning,
    update_timing,
)
from fastmaze.bench.device_timing import Stopwatch
from fastmaze.bench.gpu_check import BenchConfig
from fastmaze.bench.gpu_check_correctness import Attention
from fastmaze.bench.gpu_check_parts import PARTS, Context, Part, read_results, result_path
from fastmaze.bench.gpu_check_sanitizer import verdict
from fastmaze.bench.gpu_check_summary import summarize
from fastmaze.cli import main

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def context(tmp_path: Path, name: str = "part", seconds: float = 60.0) -> Context:
    return Context(name, tmp_path, CPU, time.time() + seconds)


def misbehaving(name: str, checks: bool = False) -> Part:
    return Part(name, "tests.bench.parts", 1.0, checks=checks)


@pytest.fixture
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of parts find `tests.bench.parts`."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(gpu_check, "_GRACE_SECONDS", 0.0)


@pytest.mark.usefixtures("in_checkout")
def test_a_part_that_goes_wrong_leaves_its_results_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Raising, killed, out of time, failing: each is told; checks decide the exit status."""
    parts = (
        misbehaving("raises"),
        misbehaving("dies"),
        misbehaving("fails", checks=True),
    )
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    stale = result_path(tmp_path, "dies")
    stale.write_text('{"rows": "old"}')
    assert main(["bench", "gpu-check", "--out", str(tmp_path), "--device", "cpu"]) == 1
    left = {part.name: read_results(tmp_path, part.name) or {} for part in parts}
    assert all(results["rows"] == [1] for results in left.values())
    assert "RuntimeError: out of luck" in left["raises"]["error"]
    assert "status -9" in left["dies"]["error"]
    assert not any(results["complete"] for results in left.values())
    said = capfd.readouterr().out
    assert "ERROR: RuntimeError: out of luck" in said
    assert "out of time after 1 row" in said
    assert "FAILED: fails" in said
    assert "FAILED: a wrong result" in said
    monkeypatch.setattr(gpu_check, "PARTS", (misbehaving("works", checks=True),))
    assert main(["bench", "gpu-check", "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert (read_results(tmp_path, "works") or {})["complete"] is True


@pytest.mark.usefixtures("in_checkout")
def test_a_part_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its results kept. Its time is over once it has hung, however long it took to start."""
    wait = subprocess.Popen.wait

    def until_it_hangs(self: Any, timeout: float | None = None) -> int:
        if timeout is None:
            return wait(self)
        while "pid" not in (read_results(tmp_path, "hangs") or {}):
            time.sleep(0.1)
        raise subprocess.TimeoutExpired("hangs", timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", until_it_hangs)
    results = gpu_check._run_apart(misbehaving("hangs"), tmp_path, "cpu", 60.0)
    assert "killed" in results["error"]
    assert results["rows"] == [1]
    assert not Path(f"/proc/{results['pid']}").exists()
    assert json.loads(result_path(tmp_path, "hangs").read_text()) == results


@pytest.mark.usefixtures("in_checkout")
def test_killed_as_a_whole_it_leaves_what_was_done_and_no_process(tmp_path: Path) -> None:
    """No chance to clean up: finished parts are whole, the running one is valid JSON and ends."""
    code = (
        "from pathlib import Path; import sys; from fastmaze.bench import gpu_check as g;"
        "g.PARTS = [g.Part(name, 'tests.bench.parts', 1.0) for name in ('works', 'hangs')];"
        "g.run(g.BenchConfig(out=Path(sys.argv[1]), device='cpu'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.time() + 60
    hanging: dict[str, Any] | None = None
    while time.time() < deadline and "pid" not in (hanging or {}):
        time.sleep(0.1)
        hanging = read_results(tmp_path, "hangs")
    process.kill()
    process.wait()
    assert hanging is not None
    assert (read_results(tmp_path, "works") or {})["complete"] is True
    assert "## " not in summarize(tmp_path, "x")  # it knows the real parts alone
    while Path(f"/proc/{hanging['pid']}").exists() and time.time() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{hanging['pid']}").exists()


def test_the_time_is_shared_among_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that use all of theirs end in time; what one leaves, the later ones get."""
    now, use = [1000.0], [1.0]
    given: dict[str, float] = {}

    def run_apart(part: Part, out: Path, device: str, seconds: float) -> dict[str, Any]:
        given[part.name] = seconds
        now[0] += seconds * use[0]
        return {}

    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(gpu_check, "_run_apart", run_apart)
    for use[0] in (1.0, 0.1):
        start = now[0]
        gpu_check.run(BenchConfig(out=tmp_path, minutes=8.0, device="cpu"))
        assert now[0] - start <= 480 + 1e-6
    assert sum(part.share for part in PARTS) == pytest.approx(1)
    assert given["fusions"] > 0.5 * 480


def test_machine(tmp_path: Path) -> None:
    here = context(tmp_path)
    gpu_check_machine.run_part(here)
    assert here.results["machine"]["device"]["name"] == "CPU"
    assert set(here.results["ceilings"]["matmul_tflops"]) == {"fp32", "bf16"}
    assert read_results(tmp_path, "part") is not None


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(("precision", "dropout"), [("fp32", 0.1), ("bf16", 0.0), ("fp16", 0.5)])
def test_correct_attention_passes(precision: str, dropout: float, mixed: bool) -> None:
    found = gpu_check_correctness.check_attention(
        Attention(precision, 16, 33, dropout, mixed), "auto", CPU
    )
    assert found["failures"] == []
    assert set(found["worst"]) == {f"{precision} {name}" for name in ("out", "dq", "dk", "dv")}


@pytest.mark.parametrize("wrong", ["scale", "mask", "nan", "gradient"])
def test_wrong_attention_is_found_out(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that found nothing wrong in these would be none."""
    right = gpu_check_correctness.causal_attention

    def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        if wrong == "mask":
            options["seed"] = options["seed"] + 1
        if wrong == "gradient":
            k = k * 1.001 - k.detach() * 0.001
        if wrong == "nan":
            options["seqlens"] = None
        out: Tensor = right(q, k, v, **options)
        return out * 1.001 if wrong == "scale" else out

    monkeypatch.setattr(gpu_check_correctness, "causal_attention", attend)
    found = gpu_check_correctness.check_attention(Attention("fp32", 16, 33, 0.1, True), "auto", CPU)
    assert found["failures"]


def test_decoding_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    check = gpu_check_correctness.check_decoding
    assert check("fp32", 16, (None,), "auto", CPU)["failures"] == []
    right = gpu_check_correctness.decode_attention

    def does_not_append(q: Tensor, k_cache: Tensor, *rest: Any, **options: Any) -> Tensor:
        return right(q, k_cache.clone(), *rest, **options)

    monkeypatch.setattr(gpu_check_correctness, "decode_attention", does_not_append)
    (failure,) = check("fp32", 16, (None,), "auto", CPU)["failures"]
    assert "cache" in failure


def test_repeats_and_bad_lengths_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_check_correctness.check_repeats(("fp32", 16), 2, "auto", CPU)["failures"] == []
    assert gpu_check_correctness.check_bad_length(41, "auto", CPU)["failures"] == []
    right = gpu_check_correctness.causal_attention
    monkeypatch.setattr(
        gpu_check_correctness,
        "causal_attention",
        lambda q, k, v, **o: right(q, k, v) * (1 + 1e-3 * torch.rand(())),
    )
    assert gpu_check_correctness.check_repeats(("fp32", 16), 2, "auto", CPU)["failures"]
    assert gpu_check_correctness.check_bad_length(41, "auto", CPU)["failures"]


def test_correctness_counts_and_says_what_it_had_no_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check_correctness, "triton_missing", lambda: "triton: not here")
    monkeypatch.setattr(
        gpu_check_correctness, "_shards", lambda reduced: iter([("fp32", 16, True)])
    )
    here = context(tmp_path)
    gpu_check_correctness.run_part(here)
    assert here.results["failures"] == []
    assert here.results["checked"] == here.results["planned"] == 4
    assert "stopped" not in here.results
    late = context(tmp_path, seconds=-1.0)
    gpu_check_correctness.run_part(late)
    assert "4 of 4 not checked" in late.results["stopped"]


def test_every_awkward_case_is_planned_on_a_gpu() -> None:
    cases = [
        case
        for shard in gpu_check_correctness._shards(reduced=False)
        for case in gpu_check_correctness.attention_cases(*shard)
    ]
    assert {c.length for c in cases} >= {1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 200, 257, 1000}
    assert {(c.precision, c.head_dim) for c in cases} == {
        (p, d) for p in ("bf16", "fp16", "tf32", "fp32") for d in (16, 32, 64, 128)
    }
    assert {(c.dropout, c.mixed) for c in cases} == {
        (p, mixed) for p in (0.0, 0.1, 0.5) for mixed in (True, False)
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("small shapes done\n========= ERROR SUMMARY: 0 errors\n", "clean"),
        ("small shapes done\n==== RACECHECK SUMMARY: 0 hazards displayed (0 errors)\n", "clean"),
        ("small shapes done\n==== RACECHECK SUMMARY: 2 hazards displayed\n", "2 errors"),
        ("small shapes done\n========= ERROR SUMMARY: 3 errors\n", "3 errors"),
        ("Traceback\n========= ERROR SUMMARY: 1 error\n", "1 errors, and"),
        ("========= Error: Device not supported\n", "did not run: ========= Error: Device"),
        ("Device not supported\n========= ERROR SUMMARY: 1 error\n", "did not run"),
        ("small shapes done\n", "did not run"),
        ("", "did not run: no output"),
    ],
)
def test_verdict_of_the_sanitizer(text: str, words: str) -> None:
    """Only what ran to its end and reports no error is clean."""
    assert verdict(text).startswith(words)
    assert bool(gpu_check_sanitizer._failures({"memcheck": verdict(text)})) == ("errors" in words)


def test_sanitizer_says_why_it_did_not_run(tmp_path: Path) -> None:
    here = context(tmp_path)
    gpu_check_sanitizer.run_part(here)
    assert here.results["skipped"] == "needs a GPU"


def test_attention_part_saves_as_it_goes_and_stops_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastmaze.bench.attention import BenchConfig as AttentionConfig

    tiny = AttentionConfig(
        lengths=(16, 32), head_dims=(64,), precisions=("fp32",), dropouts=(0.0,),
        passes=("both",), contenders=("fastmaze", "sdpa math"), rounds=1, seconds=1e-4,
    )  # fmt: skip
    monkeypatch.setattr(gpu_check_attention, "configs", lambda device: [tiny, tiny])
    here = context(tmp_path)
    gpu_check_attention.run_part(here)
    assert len(here.results["rows"]) == 2 * 2 * 2
    assert here.results["tuned"] == 0
    assert (tmp_path / "attention.png").exists()
    assert "stopped" not in here.results
    late = context(tmp_path, seconds=0.01)  # over after the first case
    gpu_check_attention.run_part(late)
    assert len(late.results["rows"]) == 2
    assert "out of time" in late.results["stopped"]
    for config in gpu_check_attention.configs(torch.device("cuda")):
        assert isinstance(config, AttentionConfig)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_update_is_timed_in_its_stages(precision: str) -> None:
    setting = update_timing.Setting(8, precision, 0.1, "auto")
    row = update_timing.time_update(setting, 2, CPU, calls=3)
    assert set(row["stages"]) == {"forward", "backward", "optimizer"}
    assert all(ms > 0 for ms in row["stages"].values())
    assert row["tokens_per_second"] == pytest.approx(1e3 * 2 * 8 / row["milliseconds"])
    assert row["over_lower_bound"] is None  # known for one GPU alone


def test_update_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is an update: it moves the online network, and the target a little."""
    from fastmaze.training import TrainConfig

    networks: list[Any] = []
    build = update_timing.build_network
    monkeypatch.setattr(
        update_timing, "build_network", lambda config: networks.append(build(config)) or networks[0]
    )
    run, batch = update_timing._update(TrainConfig(length=7), 2)
    before = [p.clone() for p in networks[0].parameters()]
    assert len(run(batch)()) == 3
    assert any(not torch.equal(a, b) for a, b in zip(before, networks[0].parameters(), strict=True))
    assert batch.obs.shape == (2, 9, 2)
    assert bool(batch.terminated[:, -1].all())


def test_update_falls_back_to_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def time_update(setting: Any, batch: int, *_: Any, **__: Any) -> dict[str, Any]:
        tried.append(batch)
        if batch > 1 or setting.dropout:
            raise torch.cuda.OutOfMemoryError("too much")
        return {**setting._asdict(), "skipped": "stand-in"}

    monkeypatch.setattr(update_timing, "time_update", time_update)
    here = context(tmp_path)
    update_timing.run_part(here)
    assert tried[:2] == [2, 1]
    reasons = [row["skipped"] for row in here.results["rows"]]
    assert reasons.count("stand-in") == 2
    assert set(reasons) == {"stand-in", "out of memory with one sequence"}


@pytest.mark.parametrize("fusion", fusion_timing.FUSIONS, ids=lambda fusion: fusion.name)
def test_both_sides_of_a_fusion_compute_the_same(fusion: fusion_timing.Fusion) -> None:
    """A comparison with something else would be none; gradients as well."""
    problem = fusion.make(2, 9, torch.float32, CPU)
    results = []
    for way in (problem.ours, problem.eager):
        found = way(*problem.inputs)
        outputs = [found] if isinstance(found, Tensor) else list(found)
        leaves = [x for x in problem.inputs if x.requires_grad]
        sums = sum(x.square().sum() for x in outputs)
        grads = torch.autograd.grad(sums, leaves) if leaves else ()
        results.append([x.detach() for x in (*outputs, *grads)])
    assert len(results[0]) == len(results[1])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_fusions_are_timed_and_one_that_is_missing_is_said_to_be() -> None:
    stopwatch = Stopwatch(CPU, rounds=1, seconds=1e-4)
    fusion = fusion_timing.FUSIONS[0]
    row = fusion_timing.time_fusion(fusion, 2, 8, torch.float32, stopwatch, compiles=False)
    assert set(row["milliseconds"]) == {"fused", "eager"}
    ratio = row["milliseconds"]["eager"] / row["milliseconds"]["fused"]
    assert row["speedup"] == pytest.approx(ratio)
    assert "compiled" in row["skipped"]

    def missing(*_: Any) -> Any:
        raise ImportError("no such kernel")

    gone = fusion_timing.Fusion("gone", missing)
    row = fusion_timing.time_fusion(gone, 2, 8, torch.float32, stopwatch, compiles=False)
    assert row["skipped"] == {"fused": "no such kernel"}


def test_tuning_needs_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tuning, "triton_missing", lambda: "triton: not here")
    here = context(tmp_path)
    gpu_tuning.run_part(here)
    assert here.results["skipped"] == "triton: not here"
    assert gpu_tuning.tuned_tiles(tmp_path) == {}


def test_every_group_of_tiles_is_tuned_the_most_telling_first() -> None:
    groups = list(gpu_tuning.groups(reduced=False))
    assert len(set(groups)) == len(groups) == 3 * 3 * 3 * 2
    assert {g.kernel for g in groups} == {"forward", "backward_dkv", "backward_dq"}
    assert {(g.precision, g.head_dim) for g in groups[:12]} == {("bf16", 64), ("bf16", 128)}


@pytest.mark.slow
def test_the_whole_of_it_on_a_cpu(tmp_path: Path) -> None:
    """As a user runs it, in its reduced form; kernels are interpreted."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-m", "fastmaze", "bench", "gpu-check", "--out", str(tmp_path),
         "--device", "cpu"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for part in PARTS:
        results = read_results(tmp_path, part.name)
        assert results is not None, part.name
        assert "error" not in results, results["error"]
    page = (tmp_path / "summary.md").read_text()
    assert "figures mean nothing" in page
    assert "not complete" not in page
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--minutes", "0"], "minutes: expected"),
        (["--minutes", "nan"], "minutes: expected"),
        (["--parts", "tunning"], "parts: expected"),
        (["--device", "tpu"], "device: expected"),
    ],
)
def test_mistakes_are_told(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["bench", "gpu-check", "--out", str(tmp_path / "new"), *options])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_out_must_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^out: expected"):
        BenchConfig(out=tmp_path / "file")


def test_ctrl_c_ends_the_running_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part's process has a session of its own, which the terminal's signal does not reach."""
    monkeypatch.chdir(ROOT)
    wait = subprocess.Popen.wait
    pids: list[int] = []

    def interrupted(self: Any, timeout: float | None = None) -> int:
        if not pids:
            pids.append(self.pid)
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu_check._run_apart(misbehaving("hangs"), tmp_path, "cpu", 60.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], signal.SIGCONT)
