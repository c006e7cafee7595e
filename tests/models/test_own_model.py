"""A memory model of one's own is held against what it promises before a run begins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastmaze.models.own_model import absolute, check_own, load_own, short_name

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
    # The linear layer keeps what comes in; the mean, what it divides by.
    assert 4 * 5 <= found.kept_bytes <= 4 * 5 + 4
    assert short_name(model) == "Mean"


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("x.cumsum(1)", "(x.cumsum(1) + x.sum(1, keepdim=True))", "to be causal"),
        ("state.total + x,", "state.total + 2 * x,", r"Mean.step to agree with Mean.forward"),
        ("state.total + x,", "state.total * float('nan'),", r"Mean.step to agree"),
        ("x.cumsum(1) / count", "(x.cumsum(1) / count)[:, 1:]", r"float32 \[2, 20, 8\].*19, 8"),
        ("self.linear(x.cumsum(1) / count)", "None", "a tensor from Mean.forward"),
        ("self.linear(state.total / state.steps)", "x.double()", "float32.*Mean.step.*float64"),
        ("self.output_dim = width", "pass", "has no output_dim"),
        ("def step", "def walk", "has no step"),
        ("*, width,", "*, size,", r"Mean\(input_dim, width=..., num_layers"),
        ("class Mean(nn.Module)", "class Mean", "model:"),
        ("class Mean(nn.Module)", "class Other(nn.Module)", r"a class 'Mean' .*\['Other'\]"),
        ("class Mean", "1 / 0\nclass Mean", "fails .ZeroDivisionError"),
        ("class Mean", "raise SystemExit(2)\nclass Mean", "fails .SystemExit"),
        ("count = ", "x = x[:, :, 1:]; count = ", r"Mean.forward on float32 \[2, 20, 5\] fails"),
        ("state = State(", "state = Status(", r"Mean.step on float32 \[2, 5\] fails .NameError"),
        ("nn.Linear(input_dim, width)", "len(width)", r"Mean.input_dim=5, .* fails .TypeError"),
    ],
)
def test_what_is_no_memory_model_is_refused(
    write: Write, line: str, instead: str, message: str
) -> None:
    assert line in MODEL
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        check_own(write(MODEL.replace(line, instead)), 5, **SIZES)
    assert str(raised.value).startswith("model: ")


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        # A window that is longer than most tests; a look ahead in long episodes alone.
        ("state.total + x,", "state.total * (state.steps != 200) + x,", "step 200 of a random"),
        ("x.cumsum(1)", "(x.cumsum(1) + (x.shape[1] > 250) * x[:, -1:])", "before step 150 change"),
    ],
)
def test_what_goes_wrong_late_is_seen(write: Write, line: str, instead: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_own(write(MODEL.replace(line, instead)), 5, **{**SIZES, "max_length": 400})


def test_memory_that_grows_is_foreseen(write: Write) -> None:
    """A list of all steps as state; T x T numbers for the backward pass."""
    code = MODEL.replace("torch.zeros(batch_size, self.linear.in_features)", "[]")
    code = code.replace("State(state.total + x,", "State([*state.total, x],")
    code = code.replace("state.total / state.steps", "sum(state.total) / state.steps")
    found = check_own(write(code), 5, **{**SIZES, "max_length": 5000})
    assert found.state_bytes == 4 * 5 * 5000


def test_what_a_pass_keeps_is_foreseen(write: Write) -> None:
    """Linear attention the T x T way keeps T numbers a step, beside some that do not grow."""
    path = Path(__file__).parents[2] / "examples" / "linear_attention.py"
    short, long = (
        check_own(f"{path}:LinearAttention", 5, width=8, num_layers=1, max_length=T).kept_bytes
        for T in (300, 3000)
    )
    assert 2.0 * 4 * 2700 > long - short >= 1.0 * 4 * 2700


def test_a_file_imports_its_neighbours_and_is_a_module_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("SIZE = 3\n")
    code = MODEL.replace("from __future__ import annotations\n", "import neighbour_of_mine\n")
    model = write(f"{code}\ndef typed(x: int): ...\n")
    assert check_own(model, 5, **SIZES).parameters == 48
    assert str(tmp_path) not in sys.path
    typed = load_own(model.replace("Mean", "typed"))
    assert typed.__annotations__ == {"x": int}, "not a string, as under our own annotations"
    monkeypatch.chdir(tmp_path)
    assert absolute("mine:Mean") == model
    assert absolute("torch.nn:GRU") == "torch.nn:GRU"


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
