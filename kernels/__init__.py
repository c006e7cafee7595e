"""GPU kernels of the models, and the same operations in plain torch for every other device.

`import fastmaze.kernels` needs torch; Triton is imported when a kernel is first used.
"""

from fastmaze.kernels.decode_ops import decode_attention
from fastmaze.kernels.dispatch import (
    AttentionImpl,
    Precision,
    resolve_decode_impl,
    resolve_impl,
    resolve_precision,
)
from fastmaze.kernels.ops import causal_attention

__all__ = [
    "AttentionImpl",
    "Precision",
    "causal_attention",
    "decode_attention",
    "resolve_decode_impl",
    "resolve_impl",
    "resolve_precision",
]
