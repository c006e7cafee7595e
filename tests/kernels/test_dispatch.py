"""Which implementation is chosen, with and without Triton, and what importing the package does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from fastmaze.kernels import (
    causal_attention,
    decode_attention,
    dispatch,
    resolve_decode_impl,
    resolve_impl,
)


def test_auto_without_a_gpu() -> None:
    x = torch.zeros(1, 1, 4, 16)
    assert resolve_impl(x) == "sdpa"
    assert resolve_impl(x, dropout_p=0.1) == "blockwise"
    assert resolve_impl(x, return_lse=True) == "blockwise"
    assert resolve_impl(x, impl="reference", dropout_p=0.1) == "reference"
    assert resolve_decode_impl(x[:, :, 0]) == "sdpa"


class OnGPU:
    """As much of a CUDA tensor as the choice looks at."""

    device = torch.device("cuda", 0)

    def __init__(self, dim: int, dtype: torch.dtype) -> None:
        self.shape, self.dtype = (1, 1, 4, dim), dtype


@pytest.mark.parametrize(
    ("dim", "dtype", "obstacle", "plain", "dropout", "decoding"),
    [
        (64, torch.bfloat16, "", "triton", "triton", "triton"),
        (128, torch.float32, "", "triton", "triton", "triton"),
        (48, torch.bfloat16, "", "sdpa", "blockwise", "sdpa"),
        (64, torch.float64, "", "blockwise", "blockwise", "sdpa"),
        (64, torch.float16, "triton: missing", "sdpa", "blockwise", "sdpa"),
    ],
)
def test_auto_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    dim: int,
    dtype: torch.dtype,
    obstacle: str,
    plain: str,
    dropout: str,
    decoding: str,
) -> None:
    monkeypatch.setattr(dispatch, "_obstacle", lambda *_: obstacle)
    q: Any = OnGPU(dim, dtype)
    assert resolve_impl(q, precision="tf32") == plain
    assert resolve_impl(q, dropout_p=0.1, precision="tf32") == dropout
    assert resolve_decode_impl(q) == decoding


def test_auto_leaves_exact_products_of_float32_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_obstacle", lambda *_: "")
    single: Any = OnGPU(64, torch.float32)
    half: Any = OnGPU(64, torch.float16)
    before = torch.get_float32_matmul_precision()
    try:
        for setting, single_impl in (("highest", "sdpa"), ("high", "triton")):
            torch.set_float32_matmul_precision(setting)
            assert resolve_impl(single) == single_impl
            assert resolve_impl(half) == "triton"
    finally:
        torch.set_float32_matmul_precision(before)
    assert resolve_impl(single, dropout_p=0.1, precision="ieee") == "blockwise"
    assert resolve_impl(single, precision="ieee", impl="triton") == "triton"


@pytest.mark.skipif(bool(dispatch.triton_missing()), reason="triton is not installed")
def test_triton_names_what_it_does_not_support() -> None:
    x = torch.zeros(1, 1, 4, 48)
    with pytest.raises(ValueError, match=r"q: expected a last dimension in .* got 48"):
        causal_attention(x, x, x, impl="triton")
    x = torch.zeros(1, 1, 4, 16, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"q: expected one of .* got torch.float64"):
        decode_attention(x[:, :, 0], x, x, 1, impl="triton")


PROGRAM = """
import sys, torch
{before}
from fastmaze.kernels import causal_attention, decode_attention
q = torch.ones(1, 1, 4, 16)
{after}
"""


def program(before: str, after: str, **environment: str) -> str:
    """Runs a fresh interpreter, without Triton's unless asked for, and returns what it prints."""
    variables = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before, after=after)],
        env=variables | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


CALLS = """
for call in (
    lambda: causal_attention(q, q, q, impl='triton'),
    lambda: decode_attention(q[:, :, 0], q, q, 1, impl='triton'),
):
    try:
        call()
    except {error} as problem:
        print(problem)
"""


def test_triton_on_a_cpu_says_what_it_needs() -> None:
    if dispatch.triton_missing():
        pytest.skip("triton is not installed")
    lines = program("", CALLS.format(error="ValueError")).splitlines()
    assert len(lines) == 2
    assert all("impl: 'triton' expected CUDA tensors" in line for line in lines)


OLD = "import triton; triton.__version__ = '3.5.1'"


@pytest.mark.parametrize(
    ("before", "found"),
    [("sys.modules['triton'] = None", "it is not installed"), (OLD, "found 3.5.1")],
)
def test_without_triton_all_else_works(before: str, found: str) -> None:
    if before is OLD and dispatch.triton_missing():
        pytest.skip("triton is not installed")
    works = "print(causal_attention(q, q, q, dropout_p=0.5).shape == q.shape)\n"
    lines = program("", before + CALLS.format(error="ImportError") + works).splitlines()
    assert len(lines) == 3
    for line in lines[:2]:
        assert line.startswith("triton: expected version 3.6 or newer")
        assert found in line
        assert "pip install" in line
    assert lines[2] == "True"


def test_importing_the_package_does_not_import_triton() -> None:
    assert program("", "print('triton' in sys.modules)") == "False\n"
