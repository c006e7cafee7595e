"""What is installed, what works, and what to install for what does not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np

from fastmaze.envs.backends import BACKENDS, REBUILD, make_backend
from fastmaze.envs.backends.base import Array
from fastmaze.specs import TASKS, make_spec

PACKAGES: Final = {
    "numpy": None,
    "gymnasium": None,
    "tyro": None,
    "numba": 'pip install "fastmaze[numba]"',
    "torch": 'pip install "fastmaze[train]"',
    "safetensors": 'pip install "fastmaze[train]"',
    "tensorboard": 'pip install "fastmaze[train]"',
    "tqdm": 'pip install "fastmaze[train]"',
    "triton": None,
    "matplotlib": 'pip install "fastmaze[plot]"',
}
"""Distribution to what installs it; None where it comes with fastmaze, or with torch (triton)."""

TRAINERS: Final = {
    "stable-baselines3": 'pip install "fastmaze[sb3]"',
    "torchrl": 'pip install "fastmaze[torchrl]"',
    "pufferlib-core": 'pip install "fastmaze[pufferlib]"',
    "ray": 'pip install "fastmaze[rllib]"',
}
"""Distribution of each trainer that `fastmaze.integrations` knows, to what installs it."""

_NO_GPU: Final = "none that torch can use"
_NO_CUDA: Final = "torch is built without CUDA"
_DRIVER: Final = Path("/proc/driver/nvidia")
"""There once the NVIDIA driver is loaded."""

_REPAIR: Final = {
    "native": REBUILD,
    "numba": 'pip install "fastmaze[numba]"',
    "device": 'pip install "fastmaze[train]"',
    "reference": None,
}


def examine() -> dict[str, Any]:
    """Looks at everything; takes some seconds where Numba or torch have to be loaded.

    Returns:
        "versions" (name to version, None where missing), "backends" (name to {"works", "detail"}),
        "trainers" (as "versions"), "tasks" (name to the backends that have it), "cpu", "threads",
        "gpu", and "advice", a list of what to do.
    """
    versions = _versions()
    backends = {name: _try_backend(name) for name in BACKENDS}
    gpu = _gpu(versions)
    return {
        "versions": versions,
        "backends": backends,
        "trainers": {name: _version(name) for name in TRAINERS},
        "tasks": {name: list(task.family.backends) for name, task in TASKS.items()},
        "cpu": _cpu(),
        "threads": _threads(),
        "gpu": gpu,
        "advice": _advice(versions, backends, gpu),
    }


def report(findings: dict[str, Any]) -> str:
    """The findings as text for people."""
    lines = ["versions"]
    for name, version in findings["versions"].items():
        lines.append(f"  {name:12} {version or '-'}")
    lines.append("backends")
    for name, state in findings["backends"].items():
        lines.append(f"  {name:12} {'works' if state['works'] else 'FAILS'}: {state['detail']}")
    lines.append("trainers that take the envs as they are")
    for name, version in findings["trainers"].items():
        lines.append(f"  {name:19} {version or f'not installed: {TRAINERS[name]}'}")
    lines.append("tasks")
    for name, has in findings["tasks"].items():
        lines.append(f"  {name:19} {' '.join(has)}")
    lines.append("machine")
    for name in ("cpu", "threads", "gpu"):
        for key, value in findings[name].items():
            lines.append(f"  {key:12} {value}")
    lines.append("advice")
    lines += [f"  {line}" for line in findings["advice"]] or ["  nothing to do"]
    return "\n".join(lines)


def _versions() -> dict[str, str | None]:
    versions = {name: _version(name) for name in ("fastmaze", *PACKAGES)}
    return {"python": platform.python_version(), **versions}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _try_backend(name: str) -> dict[str, Any]:
    """Plays 64 steps in 32 copies of a task of each family; compares with specification envs."""
    # One task of each family, the last in the registry.
    tasks = {task.spec.family: key for key, task in TASKS.items() if name in task.family.backends}
    for task in tasks.values():
        try:
            same = all(map(np.array_equal, _play(name, task), _play("reference", task)))
        except Exception as error:  # whatever is wrong with it is the finding
            return {"works": False, "detail": f"{type(error).__name__}: {error}"}
        if not same:
            return {
                "works": False,
                "detail": f"its steps in {task} differ from the specification's",
            }
    if name == "native":
        from fastmaze._native import isa, usable_isas

        return {"works": True, "detail": f"uses {isa()} of {', '.join(usable_isas())}"}
    what = "is the specification" if name == "reference" else "equals the specification bit for bit"
    return {"works": True, "detail": what}


def _play(name: str, task: str) -> list[Array]:
    """Observations, rewards and flags of the same random walks, with the named backend.

    Without the façade: a backend works with older versions of Gymnasium, too.
    """
    spec, num_envs, num_steps = make_spec(task), 32, 64
    backend = make_backend(name, spec, num_envs, "NextStep")
    try:
        backend.reset(
            np.empty((num_envs, *spec.obs_shape), spec.obs_dtype),
            keys=np.zeros(num_envs, np.uint64),
            indices=np.arange(num_envs, dtype=np.uint32),
        )
        shape = (num_steps, num_envs)
        actions = np.random.default_rng(0).integers(0, spec.num_actions, shape)
        obs = np.empty((*shape, *spec.obs_shape), spec.obs_dtype)
        reward = np.empty(shape, np.float32)
        terminated, truncated = np.empty((2, *shape), np.bool_)
        backend.unroll(actions, obs, reward, terminated, truncated)
    finally:
        backend.close()
    return [obs, reward, terminated, truncated]


def _cpu() -> dict[str, str]:
    """Name and vector instructions, as far as the system tells."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass  # No such file outside Linux.
    flags = fields.get("flags", "").split()
    vector = [flag for flag in ("sse4_2", "avx", "avx2", "fma", "avx512f") if flag in flags]
    name = fields.get("model name") or platform.processor() or platform.machine()
    return {"cpu": name, "instructions": " ".join(vector) or "unknown"}


def _threads() -> dict[str, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("OMP_NUM_THREADS")
    return {"cores": f"{usable} usable, OMP_NUM_THREADS={asked or 'not set'}"}


def _gpu(versions: dict[str, str | None]) -> dict[str, str]:
    if versions["torch"] is None:
        return {"gpu": "unknown without torch"}
    try:
        import torch
    except Exception as error:  # a broken installation is a finding, too
        return {"gpu": f"torch does not load: {type(error).__name__}: {error}"}
    if not torch.cuda.is_available():
        return {"gpu": _NO_GPU, "cuda": torch.version.cuda or _NO_CUDA}
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "gpu": ", ".join(f"{d.name} ({d.total_memory / 2**30:.0f} GiB)" for d in devices),
        "cuda": str(torch.version.cuda),
    }


def _advice(
    versions: dict[str, str | None], backends: dict[str, dict[str, Any]], gpu: dict[str, str]
) -> list[str]:
    advice: dict[str, list[str]] = {}
    for name, command in PACKAGES.items():
        if command is not None and versions[name] is None:
            advice.setdefault(command, []).append(name)
    lines = [f"{command}   # for {', '.join(names)}" for command, names in advice.items()]
    if tuple(int(part) for part in gymnasium.__version__.split(".")[:2]) < (1, 1):
        lines.append('pip install "gymnasium>=1.1"   # for the vector envs')
    for name, state in backends.items():
        command = _REPAIR[name]
        if not state["works"] and command is not None and command not in advice:
            lines.append(f"{command}   # the backend {name} does not work")
    if gpu["gpu"] == _NO_GPU and _DRIVER.exists():
        if gpu["cuda"] == _NO_CUDA:
            lines.append("install torch's CUDA build   # there is an NVIDIA driver")
        elif "CUDA_VISIBLE_DEVICES" in os.environ:
            lines.append("unset CUDA_VISIBLE_DEVICES   # it may hide the GPU from torch")
        else:
            lines.append(f"update the NVIDIA driver   # torch needs one for CUDA {gpu['cuda']}")
    return lines
