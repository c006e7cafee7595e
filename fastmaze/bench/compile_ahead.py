"""Compiles kernels for GPUs that are not there, and remembers what came out.

Triton's compiler needs a description of the arguments and no device; its own assembler and
disassembler come with it. What a kernel's machine code showed is kept in a file each beside
Triton's cache, under a hash of all that it depends on, so that a second look takes no time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal

from fastmaze.bench import machine_code
from fastmaze.bench.gpu_check_parts import write_atomically
from fastmaze.bench.machine_code import MachineCode, read_machine_code
from fastmaze.kernels.variants import Variant

Arch = Literal["sm_80", "sm_90"]
ARCHS: Final[tuple[Arch, ...]] = ("sm_80", "sm_90")

_ATTENTION: Final = "fastmaze.kernels.causal_variants"
_OTHERS: Final = (
    "decode_attention_triton",
    "double_q_loss_triton",
    "discounted_returns_triton",
    "layer_norm_triton",
)
# Its tiles fit no smaller shared memory than Hopper's.
_HOPPER_ONLY: Final = ("mlp_triton",)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came out of compiling one variant for one architecture."""

    code: MachineCode | None
    """None if it did not compile."""
    shared: int
    """Bytes of shared memory of a program."""
    error: str = ""
    """Why it did not compile."""


@functools.cache
def variants(arch: Arch) -> dict[str, Variant]:
    """All compilations of this package's kernels that an architecture runs, by name.

    Raises:
        ImportError: Triton is missing.
        ValueError: the kernels are set to be interpreted, or two have the same name.
    """
    _check_triton()
    attention = importlib.import_module(_ATTENTION)
    found = list(attention.variants("hopper" if arch == "sm_90" else "ampere"))
    for name in _OTHERS + (_HOPPER_ONLY if arch == "sm_90" else ()):
        found += importlib.import_module(f"fastmaze.kernels.{name}").variants()
    by_name = {variant.name: variant for variant in found}
    if len(by_name) < len(found):
        twice = {v.name for v in found if by_name[v.name] is not v}
        raise ValueError(f"variants: expected different names, got twice {sorted(twice)}")
    return by_name


def compile_all(
    wanted: Iterable[tuple[Arch, str]], jobs: int
) -> Iterator[tuple[Arch, str, Compiled]]:
    """Compiles variants, or finds them in the cache; yields each as it is done.

    Args:
        wanted: architecture and name of each.
        jobs: processes that compile at the same time.
    """
    missing = []
    for arch, name in wanted:
        remembered = _recall(_cache_path(variants(arch)[name], arch))
        if remembered is None:
            missing.append((arch, name))
        else:
            yield arch, name, remembered
    if jobs == 1 or len(missing) < 2:
        for arch, name in missing:
            yield arch, name, _compile_named(arch, name)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_compile_named, *which): which for which in missing}
        try:
            for future in as_completed(futures):
                yield *futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _compile_named(arch: Arch, name: str) -> Compiled:
    variant = variants(arch)[name]
    found = compile_variant(variant, arch)
    if found.code is not None:
        path = _cache_path(variant, arch)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, asdict(found))
    return found


def compile_variant(variant: Variant, arch: Arch) -> Compiled:
    """Compiles one variant, whatever the cache holds."""
    from triton import compile as triton_compile
    from triton import knobs
    from triton.compiler import ASTSource

    places = {name: i for i, name in enumerate(variant.kernel.arg_names)}
    constants = {(places[name],): value for name, value in variant.constexprs.items()}
    source: Any = ASTSource(variant.kernel, variant.signature, constants, variant.attrs)
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    log = io.StringIO()
    # The assembler's own words of this very run: Triton adds flags to it that differ by version.
    with knobs.compilation.scope(), knobs.nvidia.scope(), contextlib.redirect_stdout(log):
        knobs.compilation.always_compile = True
        knobs.nvidia.dump_ptxas_log = True
        try:
            kernel: Any = triton_compile(source, target=_target(arch), options=options)
        except Exception as error:  # whatever the compiler raises is this variant's failure
            said = str(error).strip() or "no reason given"
            return Compiled(None, 0, f"{type(error).__name__}: {said.splitlines()[0]}")
    code = read_machine_code(log.getvalue(), _disassemble(kernel.asm["cubin"]))
    return Compiled(code, int(kernel.metadata.shared))


def _disassemble(cubin: bytes) -> str:
    from triton import knobs

    tool = knobs.nvidia.cuobjdump.path
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run([tool, "-sass", path], capture_output=True, text=True, check=True)
    return done.stdout


def _target(arch: Arch) -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)


def _cache_path(variant: Variant, arch: Arch) -> Path:
    """Where figures are kept, named by all that they depend on."""
    from triton import knobs

    # The source with that of the functions it calls; compiler and assembler; who reads the figures.
    depends = (variant.kernel.cache_key, _toolchain(arch), _source_of_parser(), *variant[2:])
    key = hashlib.sha256(repr(depends).encode()).hexdigest()
    return Path(knobs.cache.dir) / "fastmaze-machine-code" / f"{key[:32]}.json"


@functools.cache
def _toolchain(arch: Arch) -> str:
    import triton
    from triton.compiler import make_backend

    backend: Any = make_backend(_target(arch))
    return f"{triton.__version__} {backend.hash()}"


@functools.cache
def _source_of_parser() -> str:
    return Path(machine_code.__file__).read_text(encoding="utf-8")


def _recall(path: Path) -> Compiled | None:
    """What a file of the cache holds; None if there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        serialized = tuple(found["code"].pop("serialized"))
        return Compiled(MachineCode(**found["code"], serialized=serialized), found["shared"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _check_triton() -> None:
    try:
        from triton import knobs
    except ImportError as error:
        raise ImportError("compiling kernels needs Triton 3.6 or newer: pip install triton") from (
            error
        )
    if knobs.runtime.interpret:
        raise ValueError("TRITON_INTERPRET: expected it not to be set, interpreted kernels are not"
                         " compiled")  # fmt: skip
