"""One compilation of a kernel, described for a compiler that sees no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """What Triton's ahead-of-time compiler wants to know of one kernel with one set of sizes."""

    name: str
    kernel: Any
    """The function under `triton.jit`."""
    signature: dict[str, str]
    """Argument -> Triton's name of its type, in the kernel's order; "constexpr" for a constant."""
    constexprs: dict[str, Any]
    """Argument -> its value."""
    attrs: dict[tuple[int, ...], list[list[Any]]]
    """(Place of an argument,) -> divisible by 16, which the just-in-time path would see."""
    num_warps: int
    num_stages: int


def variant(
    name: str,
    kernel: Any,
    types: Mapping[str, str],
    constexprs: Mapping[str, Any],
    *,
    aligned: tuple[str, ...] = (),
    num_warps: int = 4,
    num_stages: int = 3,
) -> Variant:
    """Describes one compilation; every pointer counts as aligned to 16 bytes.

    Args:
        name: what reports call it.
        kernel: the function under `triton.jit`.
        types: argument -> Triton's name of its type, constants left out; others are "i32".
        constexprs: argument -> its value; None for a tensor that is not passed.
        aligned: further arguments, numbers, that are divisible by 16.
        num_warps: warps of a program.
        num_stages: depth of the software pipeline.
    """
    signature = {
        n: "constexpr" if n in constexprs else types.get(n, "i32") for n in kernel.arg_names
    }
    attrs: dict[tuple[int, ...], list[list[Any]]] = {
        (i,): [["tt.divisibility", 16]]
        for i, (n, kind) in enumerate(signature.items())
        if kind.startswith("*") or n in aligned
    }
    return Variant(name, kernel, signature, dict(constexprs), attrs, num_warps, num_stages)
