"""A memory model of one's own, named by where its code is: "my_model.py:GRU", "package.module:GRU".

What is named is called as

    GRU(input_dim, width=..., num_layers=..., max_length=...)

and returns a `torch.nn.Module` with the members of `SequenceEncoder`: `output_dim`, `forward` over
whole episodes, `initial_state` and `step`. `max_length` is the number of steps of an episode, its
first observation included. Before a run begins, the model is held against what it promises.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from fastmaze.models.encoder import SequenceEncoder

_STEPS: Final = 12
"""Steps of the sequences that a model is tried on."""

_TOLERANCE: Final = 1e-4
"""By how much stepping may differ from `forward`, for outputs of order 1."""


def is_own(model: str) -> bool:
    """Whether a model's name says where code of one's own is."""
    return ":" in model


def absolute(model: str) -> str:
    """The name with the whole path of its file, so that it is found from another directory, too."""
    where, _, name = model.rpartition(":")
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
            module = importlib.import_module(where)
        except Exception as error:
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
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(
            f"model: the code in {path} fails ({type(error).__name__}: {error})"
        ) from error
    return module


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
    try:
        encoder = make(input_dim, width=width, num_layers=layers, max_length=max_length)
    except TypeError as error:
        raise TypeError(
            f"model: expected {name}(input_dim, width=..., num_layers=..., max_length=...) to "
            f"work, got {error}"
        ) from error
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
    """What a model takes, as it was seen on a short sequence."""

    parameters: int
    """Their number."""
    kept_bytes: int
    """What a pass keeps per step of an episode for its backward pass."""
    state_bytes: int
    """What it remembers of one episode between steps, for `max_length` of them."""


def check_own(
    model: str, input_dim: int, *, width: int, num_layers: int, max_length: int
) -> Measured:
    """Tries the model on random sequences, and measures what it takes; random numbers stay.

    Raises:
        ValueError: `forward` and `step` disagree, an output depends on later steps, or a shape or
            dtype is not what `SequenceEncoder` says.
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
        x = torch.randn(3, steps, input_dim)
        kept = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = module(x)
        _check_output(f"{name}.forward", y, (3, steps, encoder.output_dim))
        with torch.no_grad():
            _check_causal(name, module, x, y.detach())
            state = encoder.initial_state(3, max_length)
            state_bytes = sum(part.nbytes for part in _tensors(state))
            for t in range(steps):
                one, state = encoder.step(x[:, t], state)
                _check_output(f"{name}.step", one, (3, encoder.output_dim))
                error = float((one - y[:, t]).abs().max() / y.abs().max().clamp(min=1.0))
                if not error <= _TOLERANCE:
                    raise ValueError(
                        f"model: expected {name}.step to agree with {name}.forward to "
                        f"{_TOLERANCE:g}, step {t} of a random sequence differs by {error:.3g}"
                    )
    # Weights that the pass kept, too, are counted with them: rather too much than too little.
    return Measured(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        kept_bytes=kept // (3 * steps),
        state_bytes=state_bytes // 3,
    )


def _check_output(what: str, y: object, shape: tuple[int, ...]) -> None:
    if not isinstance(y, Tensor):
        raise TypeError(f"model: expected a tensor from {what}, got {type(y).__name__}")
    if tuple(y.shape) != shape or y.dtype != torch.float32:
        raise ValueError(
            f"model: expected float32 {list(shape)} from {what}, got {y.dtype} {list(y.shape)}"
        )


def _check_causal(name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
    """An output must not change when later steps do."""
    middle = x.shape[1] // 2
    changed = x.clone()
    changed[:, middle:] = torch.randn_like(changed[:, middle:])
    difference = (module(changed)[:, :middle] - y[:, :middle]).abs()
    if middle and not float(difference.max()) <= _TOLERANCE * max(1.0, float(y.abs().max())):
        raise ValueError(
            f"model: expected {name}.forward to be causal, but outputs before step {middle} change "
            "with the steps from there on"
        )


def _as_module(encoder: SequenceEncoder) -> nn.Module:
    assert isinstance(encoder, nn.Module), "checked when it was built"
    return encoder


def _tensors(state: Any) -> Iterable[Tensor]:
    """All tensors in a state, whatever it is made of."""
    if isinstance(state, Tensor):
        yield state
        return
    if isinstance(state, dict):
        state = list(state.values())
    elif not isinstance(state, list | tuple):
        state = list(getattr(state, "__dict__", {}).values())
    for part in state:
        yield from _tensors(part)
