"""A memory model of one's own is held against what it promises before a run begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastmaze.models.own_model import check_own, load_own, short_name

Write = Callable[[str], str]

MODEL = """
from __future__ import annotations
import dataclasses
import torch
from torch import Tensor, nn

@dataclasses.dataclass
class State:
    total: Tensor
    steps: int = 0

class Mean(nn.Module):
    '''The mean of all steps so far, through a linear layer.'''

    def __init__(self, input_dim, *, width, num_layers, max_length):
        super().__init__()
        self.output_dim = width
        self.linear = nn.Linear(input_dim, width)

    def forward(self, x):
        count = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return self.linear(x.cumsum(1) / count)

    def initial_state(self, batch_size, max_length):
        return State(torch.zeros(batch_size, self.linear.in_features))

    def step(self, x, state):
        state = State(state.total + x, state.steps + 1)
        return self.linear(state.total / state.steps), state
"""
SIZES = {"width": 8, "num_layers": 1, "max_length": 20}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    def write(code: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(code)
        return f"{path}:Mean"

    return write


def test_a_model_is_measured_and_leaves_random_numbers_alone(write: Write) -> None:
    model = write(MODEL)
    before = torch.get_rng_state()
    found = check_own(model, 5, **SIZES)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.parameters == 5 * 8 + 8
    assert found.state_bytes == 4 * 5, "one float32 [E] for each episode"
    # The linear layer keeps what comes in, float32 [E], and its weights once.
    assert 4 * 5 <= found.kept_bytes <= 4 * 5 + 4 * 48
    assert short_name(model) == "Mean"


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("x.cumsum(1)", "(x.cumsum(1) + x.sum(1, keepdim=True))", "to be causal"),
        ("state.total + x,", "state.total + 2 * x,", r"Mean.step to agree with Mean.forward"),
        ("state.total + x,", "state.total * float('nan'),", r"Mean.step to agree"),
        ("x.cumsum(1) / count", "(x.cumsum(1) / count)[:, 1:]", r"float32 \[3, 12, 8\].*11, 8"),
        ("self.linear(x.cumsum(1) / count)", "None", "a tensor from Mean.forward"),
        ("self.linear(state.total / state.steps)", "x.double()", "float32.*Mean.step.*float64"),
        ("self.output_dim = width", "pass", "has no output_dim"),
        ("def step", "def walk", "has no step"),
        ("*, width,", "*, size,", r"Mean\(input_dim, width=..., num_layers"),
        ("class Mean(nn.Module)", "class Mean", "model:"),
        ("class Mean(nn.Module)", "class Other(nn.Module)", r"a class 'Mean' .*\['Other'\]"),
        ("class Mean", "1 / 0\nclass Mean", "fails .ZeroDivisionError"),
    ],
)
def test_what_is_no_memory_model_is_refused(
    write: Write, line: str, instead: str, message: str
) -> None:
    assert line in MODEL
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        check_own(write(MODEL.replace(line, instead)), 5, **SIZES)
    assert str(raised.value).startswith("model: ")


def test_a_changed_file_is_read_again(write: Write) -> None:
    first = load_own(write(MODEL))
    other = load_own(write(MODEL.replace("The mean", "A mean") + "\n"))
    assert other.__doc__ != first.__doc__


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model: expected a file .*nowhere.py"):
        load_own(str(tmp_path / "nowhere.py:GRU"))
    with pytest.raises(ValueError, match=r"cannot be imported .ModuleNotFoundError"):
        load_own("no_such_module:GRU")
    assert load_own("torch.nn:GRU") is torch.nn.GRU
