"""Part "envs" of gpu-check: it runs anywhere in its reduced form, and finds what is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from fastmaze.bench import gpu_check_envs
from fastmaze.bench.gpu_check_parts import Context
from fastmaze.envs.backends.device_core import DeviceCore
from fastmaze.models.q_network import QNetwork
from fastmaze.specs import make_spec

CPU = torch.device("cpu")
PASSIVE = gpu_check_envs.Case(make_spec("PassiveTMaze", length=3), "SameStep", 9, 8)


def test_the_reduced_form_checks_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU's machine too: the CPU's part of it interprets the kernel elsewhere alone."""
    if torch.cuda.is_available():
        monkeypatch.setattr(gpu_check_envs, "IMPLS", ("torch",))
    monkeypatch.setattr(gpu_check_envs, "_SECONDS", 0.0)
    monkeypatch.setattr(gpu_check_envs, "STEPS", 2)
    context = Context("envs", tmp_path, CPU, time.time() + 600)
    gpu_check_envs.run_part(context)
    found = context.results
    assert found["failures"] == []
    assert found["checked"] == found["planned"] == 10 * len(gpu_check_envs.IMPLS) + 2
    assert "stopped" not in found
    for row in found["rows"]:
        assert row["share_of_copy"] == pytest.approx(row["gbps"] / row["copy_gbps"])
        assert row["steps_per_second"] == pytest.approx(1e6 * 64 / row["microseconds"])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("reward", "another reward at step 0"),
        ("terminated", "another end at step 0"),
        ("obs", "another observation at step 0"),
        ("penalties", "another episode_return"),
        ("last_length", "another length"),
    ],
)
def test_wrong_envs_are_found_out(
    tensor: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that found nothing wrong in these would be none."""
    step = DeviceCore.step

    def wrong(self: DeviceCore, actions: Any) -> None:
        step(self, actions)
        value = getattr(self, tensor)
        value.copy_(~value if value.dtype == torch.bool else value + 1)

    assert gpu_check_envs.check_equal(PASSIVE, "torch", CPU) == []
    monkeypatch.setattr(DeviceCore, "step", wrong)
    (failure,) = gpu_check_envs.check_equal(PASSIVE, "torch", CPU)
    assert message in failure


def test_another_rollout_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_check_envs.check_rollout("lstm", CPU) == []
    right, count = QNetwork.step, [0]

    def drifts(self: QNetwork, *args: Any) -> Any:
        q, state = right(self, *args)
        count[0] += 1
        return (-q if count[0] > 82 else q), state  # from the second collector's episodes on

    monkeypatch.setattr(QNetwork, "step", drifts)
    failures = gpu_check_envs.check_rollout("lstm", CPU)
    assert "rollout of lstm: other actions by CUDA graph than without" in failures


def test_an_error_in_one_check_is_a_failure_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> list[str]:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu_check_envs, "check_equal", breaks)
    monkeypatch.setattr(gpu_check_envs, "check_rollout", lambda *_: [])
    monkeypatch.setattr(gpu_check_envs, "time_steps", breaks)
    context = Context("envs", tmp_path, CPU, time.time() + 600)
    gpu_check_envs.run_part(context)
    assert context.results["failures"] == ["no such kernel"] * 20
    assert context.results["checked"] == 22
    assert all(row["skipped"] == "no such kernel" for row in context.results["rows"])
