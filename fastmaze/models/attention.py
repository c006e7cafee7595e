"""Causal attention, the one place where the model meets an attention kernel.

```
query    key 0 1 2 3
    0        1 . . .      a query sees the keys up to and including its own step
    1        1 1 . .
    2        1 1 1 .
    3        1 1 1 1
```
"""

from __future__ import annotations

from typing import Final, Literal

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

AttentionImpl = Literal["auto", "torch"]
"""Which kernel computes attention: "torch" is PyTorch's own, "auto" the fastest there is."""

ATTENTION_IMPLS: Final = ("auto", "torch")


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, impl: AttentionImpl = "auto", dropout_p: float = 0.0
) -> Tensor:
    """Attention of whole sequences (S = T) or of the newest step over a cache (T = 1).

    Args:
        q: float [B, H, T, D].
        k: float [B, H, S, D], S = T, or any S where T = 1: the last key is the query's own.
        v: float [B, H, S, D].
        impl: which kernel to use.
        dropout_p: chance of dropping an attention weight.

    Returns:
        float [B, H, T, D].

    Raises:
        ValueError: no such `impl`.
    """
    if impl not in ATTENTION_IMPLS:
        raise ValueError(f"attention_impl: expected one of {ATTENTION_IMPLS}, got {impl!r}")
    return scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=q.shape[2] > 1)
