"""A memory model of one's own, named by where its code is: "my_model.py:GRU", "package.module:GRU".

What is named is called as

    GRU(input_dim, width=..., num_layers=..., max_length=...)

and returns a `torch.nn.Module` with the members of `SequenceEncoder`: `output_dim`, `forward` over
whole episodes, `initial_state` and `step`. `max_length` is the number of steps of an episode, its
first observation included. Before a run begins, the model is held against what it promises.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from fastmaze.models.encoder import SequenceEncoder

_STEPS: Final = 300
"""Steps of the longest sequence that a model is tried on."""

_TOLERANCE: Final = 1e-4
"""By how much stepping may differ from `forward`, for outputs of order 1."""


def is_own(model: str) -> bool:
    """Whether a model's name says where code of one's own is."""
    return ":" in model


def absolute(model: str) -> str:
    """The name with the whole path of its file, so that it is found from another directory, too.

    A module that is a file of the current directory is named by that file.
    """
    where, _, name = model.rpartition(":")
    if where.isidentifier() and Path(f"{where}.py").is_file():
        where = f"{where}.py"
    return f"{Path(where).expanduser().resolve()}:{name}" if where.endswith(".py") else model


def short_name(model: str) -> str:
    """What a run's directory is named after: "gpt", "lstm", or what stands behind the colon."""
    return model.rpartition(":")[2]


def load_own(model: str) -> Callable[..., Any]:
    """What makes the model. Runs the file or imports the module, like any import.

    Raises:
        ValueError: there is no such file, module or name in it, or its code fails.
    """
    where, _, name = model.rpartition(":")
    path = Path(where)
    if where.endswith(".py"):
        if not path.is_file():
            raise ValueError(f"model: expected a file for {model!r}, found none at {where}")
        module = _run_file(path, path.stat().st_mtime_ns)
    else:
        try:
            with _importing_from(Path.cwd()):
                module = importlib.import_module(where)
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"model: expected gpt, lstm, FILE.py:NAME or MODULE:NAME, got {model!r}, whose "
                f"module cannot be imported ({type(error).__name__}: {error})"
            ) from error
    make = getattr(module, name, None)
    if not callable(make):
        kinds = [n for n, value in vars(module).items() if _is_model(value, module.__name__)]
        found = f"; there are {kinds}" if kinds else ""
        raise ValueError(f"model: expected a class {name!r} in {where}{found}")
    return make  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=32)
def _run_file(path: Path, changed: int) -> Any:
    """The module in a file; once for each time that it was changed."""
    # Under a name of its own, for classes are looked up by their module's; not the file's, which
    # an installed package may have.
    name = f"fastmaze_own_{path.stem}_{abs(hash((path, changed))):x}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        with _importing_from(path.parent):
            exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(
            f"model: the code in {path} fails ({type(error).__name__}: {error})"
        ) from error
    return module


@contextlib.contextmanager
def _importing_from(directory: Path) -> Iterator[None]:
    """Lets imports find what is in a directory, as for a script that is started in it."""
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))


def _is_model(value: Any, module: str) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module


def build_own(
    model: str, input_dim: int, *, width: int, num_layers: int, max_length: int
) -> SequenceEncoder:
    """The model, with initial weights from PyTorch's global random numbers.

    Raises:
        ValueError: it cannot be loaded; see `load_own`.
        TypeError: it is no module with the members of `SequenceEncoder`.
    """
    return _build(load_own(model), short_name(model), input_dim, width, num_layers, max_length)


def _build(
    make: Callable[..., Any], name: str, input_dim: int, width: int, layers: int, max_length: int
) -> SequenceEncoder:
    sizes = {"width": width, "num_layers": layers, "max_length": max_length}
    try:
        inspect.signature(make).bind(input_dim, **sizes)
    except TypeError as error:
        raise TypeError(
            f"model: expected {name}(input_dim, width=..., num_layers=..., max_length=...) to be "
            f"a call it takes; {error}"
        ) from error
    with _told(f"{name}(input_dim={input_dim}, width={width}, num_layers={layers}, …)"):
        encoder = make(input_dim, **sizes)
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, {name} is {type(encoder).__name__}")
    for member in ("output_dim", "initial_state", "step"):
        if not hasattr(encoder, member):
            raise TypeError(
                f"model: expected {name} to have output_dim, forward, initial_state and step, as "
                f"fastmaze.models.encoder.SequenceEncoder describes them; it has no {member}"
            )
    return encoder  # type: ignore[return-value]


class Measured(NamedTuple):
    """What a model takes at `max_length`, as two short sequences tell."""

    parameters: int
    """Their number."""
    kept_bytes: int
    """What a pass keeps per step of an episode for its backward pass."""
    state_bytes: int
    """What it remembers of one episode between steps, in the end."""


def check_own(
    model: str, input_dim: int, *, width: int, num_layers: int, max_length: int
) -> Measured:
    """Tries the model on random sequences, and measures what it takes; random numbers stay.

    The sequences have up to 300 steps: what goes wrong only later is not seen.

    Raises:
        ValueError: `forward` and `step` disagree, an output depends on later steps, a shape or
            dtype is not what `SequenceEncoder` says, or the code fails.
        TypeError: as `build_own`.
    """
    return _try(load_own(model), short_name(model), input_dim, width, num_layers, max_length)


@functools.lru_cache(maxsize=32)
def _try(
    make: Callable[..., Any], name: str, input_dim: int, width: int, layers: int, max_length: int
) -> Measured:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = _build(make, name, input_dim, width, layers, max_length)
        module = _as_module(encoder).eval()
        steps = min(_STEPS, max_length)
        half = (steps + 1) // 2
        x = torch.randn(2, steps, input_dim)
        y, kept = _forward(name, encoder, x)
        kept_half = _forward(name, encoder, x[:, :half])[1]
        with torch.no_grad():
            _check_causal(name, module, x, y)
            states = _check_steps(name, encoder, x, y, max_length)
    # What grows with the number of steps is taken to grow in a straight line from half on; what a
    # pass keeps, per step.
    beyond = (max_length - steps) / max(1, steps - half)
    a_step = kept / steps + beyond * max(0.0, kept / steps - kept_half / half)
    state = states[-1] + beyond * (states[-1] - states[half - 1])
    return Measured(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        kept_bytes=math.ceil(a_step / len(x)),
        state_bytes=math.ceil(max(state, 0.0) / len(x)),
    )


def _forward(name: str, encoder: SequenceEncoder, x: Tensor) -> tuple[Tensor, int]:
    """What `forward` gives, and the bytes beside weights that it keeps for a backward pass."""
    module, kept = _as_module(encoder), 0
    weights = {parameter.data_ptr() for parameter in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        if tensor.data_ptr() not in weights:
            kept += tensor.nbytes
        return tensor

    with (
        _told(f"{name}.forward on float32 {list(x.shape)}"),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        y = module(x)
    _check_output(f"{name}.forward", y, (*x.shape[:2], encoder.output_dim))
    return y.detach(), kept


def _check_steps(
    name: str, encoder: SequenceEncoder, x: Tensor, y: Tensor, max_length: int
) -> list[int]:
    """Steps through sequences; returns the bytes of the state after each step."""
    with _told(f"{name}.initial_state({len(x)}, {max_length})"):
        state = encoder.initial_state(len(x), max_length)
    scale, sizes = y.abs().max().clamp(min=1.0), []
    for t in range(x.shape[1]):
        with _told(f"{name}.step on float32 {list(x[:, t].shape)}"):
            one, state = encoder.step(x[:, t], state)
        _check_output(f"{name}.step", one, (len(x), encoder.output_dim))
        error = float((one - y[:, t]).abs().max() / scale)
        if not error <= _TOLERANCE:
            raise ValueError(
                f"model: expected {name}.step to agree with {name}.forward to {_TOLERANCE:g}, "
                f"step {t} of a random sequence differs by {error:.3g}"
            )
        sizes.append(sum(part.nbytes for part in _tensors(state)))
    return sizes


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Says whose code it is that fails."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"model: {what} fails ({type(error).__name__}: {error})") from error


def _check_output(what: str, y: object, shape: tuple[int, ...]) -> None:
    if not isinstance(y, Tensor):
        raise TypeError(f"model: expected a tensor from {what}, got {type(y).__name__}")
    if tuple(y.shape) != shape or y.dtype != torch.float32:
        raise ValueError(
            f"model: expected float32 {list(shape)} from {what}, got {y.dtype} {list(y.shape)}"
        )


def _check_causal(name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
    """An output must not change when later steps do."""
    steps = x.shape[1]
    for cut in sorted({steps // 2, steps - 1} - {0}):
        changed = x.clone()
        changed[:, cut:] = torch.randn_like(changed[:, cut:])
        difference = (module(changed)[:, :cut] - y[:, :cut]).abs()
        if not float(difference.max()) <= _TOLERANCE * max(1.0, float(y.abs().max())):
            raise ValueError(
                f"model: expected {name}.forward to be causal, but outputs before step {cut} "
                "change with the steps from there on"
            )


def _as_module(encoder: SequenceEncoder) -> nn.Module:
    assert isinstance(encoder, nn.Module), "checked when it was built"
    return encoder


def _tensors(state: Any) -> Iterable[Tensor]:
    """All tensors in a state, whatever it is made of."""
    if isinstance(state, Tensor):
        yield state
        return
    if isinstance(state, nn.Module):  # a part of the model, no memory
        return
    if isinstance(state, dict):
        state = list(state.values())
    elif not isinstance(state, list | tuple):
        state = list(getattr(state, "__dict__", {}).values())
    for part in state:
        yield from _tensors(part)
