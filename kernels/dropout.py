"""The dropout mask inside a kernel: a pure function of (seed, batch, head, query, key).

The rule is that of `reference.dropout_keep_mask`; this is its Triton form. Sixteen random bits a
score come from Philox2x32-7 (Salmon et al. 2011), one call for the four scores at queries i, i + 8
and keys j, j + 8:

```
              key j    key j + 8
query i      x0 low     x0 high        i and j without bit 3
query i + 8  x1 low     x1 high
```

Why these four: a thread of a tensor-core accumulator holds rows r and r + 8 and columns c, c + 8,
c + 16, …, in a tile of scores and in a transposed tile alike. So the code below asks for the four
words separately, at every score, and the compiler finds them equal: a quarter of a Philox call per
score, with no exchange between threads and the same bits whatever the tile sizes.
"""

from __future__ import annotations

import triton
import triton.language as tl

MULTIPLIER = tl.constexpr(0xD256D193)
KEY_STEP = tl.constexpr(0x9E3779B9)


@triton.jit
def philox2x32(c0, c1, key, ROUNDS: tl.constexpr):
    """Both words of Philox2x32 with ROUNDS rounds, for uint32 counters (c0, c1)."""
    for _ in tl.static_range(ROUNDS):
        product = c0.to(tl.uint64) * MULTIPLIER
        c0 = (product >> 32).to(tl.uint32) ^ key ^ c1
        c1 = product.to(tl.uint32)
        key = key + KEY_STEP
    return c0, c1


@triton.jit
def mask_key(seed, i_bh):
    """The Philox key of one head of one sequence, from the seed's address and b * H + h."""
    bits = tl.load(seed).to(tl.uint64)
    key, _ = philox2x32(bits.to(tl.uint32), (bits >> 32).to(tl.uint32), i_bh.to(tl.uint32), 10)
    return key


@triton.jit
def group_index(start, o):
    """Group of each position start + o, uint32, start a multiple of 16: 8 groups for every 16."""
    # Only local offsets are taken apart, where the compiler knows each bit.
    return ((((o >> 4) << 3) | (o & 7)) + start // 2).to(tl.uint32)


@triton.jit
def keep_mask(key, row0, o_row, col0, o_col, threshold):
    """Which scores are kept, for queries row0 + o_row and keys col0 + o_col, broadcast together.

    For a tile of scores o_row is [M, 1] and o_col [1, N]; for a transposed one [1, M] and [N, 1].
    `threshold` is the keep probability in units of 2**-16, from 1 to 65535.
    """
    zero = tl.zeros_like(o_row + o_col).to(tl.uint32)
    x0, x1 = philox2x32(group_index(row0, o_row) + zero, group_index(col0, o_col) + zero, key, 7)
    x = tl.where((o_row & 8) != 0, x1, x0)
    # The high half decides below; a low half is moved there.
    x = tl.where((o_col & 8) != 0, x, x << 16)
    return x < (threshold.to(tl.uint32) << 16)
