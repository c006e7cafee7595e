"""What a run sets in PyTorch while it lasts: device, threads, random numbers, precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from fastmaze.models.attention import check_attention_impl
from fastmaze.training.config import TrainConfig


def check_device(name: str) -> torch.device:
    """The device of that name, if this machine has it.

    Raises:
        ValueError: it has not, or there is no such name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: expected e.g. cpu, cuda or cuda:1, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu, cuda or e.g. cuda:1, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            why = (
                "PyTorch sees none (nvidia-smi shows whether the driver does)"
                if torch.version.cuda
                else f"PyTorch {torch.__version__} was built without CUDA"
            )
            raise ValueError(f"device: expected a GPU for {name!r}, but {why}; cpu always works")
        count = torch.cuda.device_count()
        if device.index is not None and device.index >= count:
            raise ValueError(f"device: expected one of {count} GPUs, cuda:0 on, got {name!r}")
    return device


def check_compute_dtype(config: TrainConfig) -> None:
    """Refuses bfloat16 where it is no faster than float32, or not there at all.

    Raises:
        ValueError: so it is.
    """
    if config.compute_dtype != "bfloat16":
        return
    device = torch.device(config.device)
    if device.type != "cuda":
        raise ValueError(
            f"compute_dtype: bfloat16 expected a GPU, got device {config.device!r}: most CPUs have "
            "no products of it and would only round more, at more cost; use float32"
        )
    capability = torch.cuda.get_device_capability(device)
    if torch.version.cuda is None or capability < (8, 0):
        raise ValueError(
            "compute_dtype: bfloat16 expected an NVIDIA GPU of compute capability 8.0 or newer, "
            f"got {torch.cuda.get_device_name(device)} ({'.'.join(map(str, capability))}); use "
            "float32"
        )


def check_attention(config: TrainConfig) -> None:
    """Refuses an attention that cannot run here, before anything is made.

    Raises:
        ValueError, TypeError, ImportError: so it is.
    """
    if config.model == "gpt":
        hyper = config.hyper
        check_attention_impl(
            config.attention_impl, hyper.width // hyper.num_heads, config.device, hyper.dropout
        )


@contextlib.contextmanager
def torch_settings(config: TrainConfig) -> Iterator[None]:
    """Threads, random numbers and precision of PyTorch; the caller gets its own back."""
    threads = torch.get_num_threads()
    device = torch.device(config.device)
    gpus = [_index(device)] if device.type == "cuda" and torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus), float32_precision(config):
        try:
            torch.set_num_threads(config.num_threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


def generator_state(device: torch.device) -> dict[str, Tensor]:
    """State of a GPU's own random numbers, uint8, on the CPU; of a CPU's, nothing.

    The CPU's are part of every learner's state, whatever its device.
    """
    return {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}


def set_generator_state(device: torch.device, state: dict[str, Tensor]) -> None:
    """Goes on from what `generator_state` returned."""
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@contextlib.contextmanager
def float32_precision(config: TrainConfig) -> Iterator[None]:
    """What `float32_precision` asks for, on a GPU alone."""
    if torch.device(config.device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if config.float32_precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
