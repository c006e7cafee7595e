"""The decoding kernels against the reference, on a GPU or under Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from fastmaze.kernels import reference
from fastmaze.kernels.decode_attention_triton import (
    CHOSEN_SPLITS,
    MIN_TILES_TO_SPLIT,
    PROGRAMS_PER_MULTIPROCESSOR,
    TILES,
    DecodeTile,
    choose_splits,
    decode,
    variants,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAN = float("nan")
# Small tiles make many of a short cache.
TILE = DecodeTile(block_t=16, num_warps=4, num_stages=1)
SPLITS = (1, 2, 3, 7, 20)

gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `torch.empty` returns is NaN, so that no entry may stay unwritten."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **kind: empty(*size, **kind).fill_(NAN))


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)


def cache(x: Tensor, lengths: list[int], T_max: int | None = None) -> Tensor:
    """A cache [N, H, T_max, D] with the first lengths[n] tokens of x [N, H, T, D], else NaN."""
    N, H, T, D = x.shape
    out = x.new_full((N, H, T_max or T, D), NAN)
    for n, length in enumerate(lengths):
        out[n, :, :length] = x[n, :, :length]
    return out


def on_device(lengths: list[int], dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor(lengths, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize(("num_splits", "D"), [*zip(SPLITS, (16, 32, 64, 128, 16), strict=True)])
def test_decoding_token_by_token_is_the_causal_forward(num_splits: int, D: int) -> None:
    """Appending at mixed lengths, over tile boundaries and with empty splits, from the first on."""
    T, T_max, steps = 48, 320, 3
    starts = [0, 14, T - steps]
    q, k, v = (normal(len(starts), 1, T, D, seed=s, dtype=torch.float64) for s in range(3))
    expected, _ = reference.causal_attention(q, k, v)
    k_cache, v_cache = cache(k, starts, T_max), cache(v, starts, T_max)
    lengths = on_device(starts)
    for step in range(steps):
        at = [start + step for start in starts]
        now = [x[range(len(at)), :, at] for x in (q, k, v)]  # [N, H, D] each
        out = decode(
            now[0], k_cache, v_cache, lengths, now[1], now[2], D**-0.5, num_splits, tile=TILE
        )
        torch.testing.assert_close(out, expected[range(len(at)), :, at], atol=1e-12, rtol=1e-12)
        assert lengths.tolist() == at, "lengths are the caller's"
        lengths += 1
    ends = [start + steps for start in starts]
    for held, x in ((k_cache, k), (v_cache, v)):
        assert torch.equal(held.nan_to_num(7), cache(x, ends, T_max).nan_to_num(7))


@pytest.mark.parametrize("num_splits", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("D", [16, 32, 64, 128])
def test_error_is_at_most_twice_that_of_plain_torch(
    D: int, dtype: torch.dtype, num_splits: int
) -> None:
    """With the tiles of the table, against float64 on the same rounded numbers."""
    tile = TILES[dtype.itemsize][D]
    T = 2 * tile.block_t + 5
    lengths = [T - 1, tile.block_t, 0, 1]
    N = len(lengths)
    q, k, v = (normal(N, 1, D, dtype=dtype, seed=s) for s in range(3))
    k_all, v_all = (normal(N, 1, T, D, dtype=dtype, seed=s) for s in (3, 4))
    outs = []
    for kind in (dtype, torch.float64):
        arguments = [cache(x.to(kind), lengths) for x in (k_all, v_all)]
        new = {"k": k.to(kind), "v": v.to(kind)}
        outs.append(reference.decode_attention(q.to(kind), *arguments, on_device(lengths), **new))
    plain, exact = outs
    out = decode(
        q, cache(k_all, lengths), cache(v_all, lengths), on_device(lengths), k, v, D**-0.5,
        num_splits,
    )  # fmt: skip
    assert out.dtype == dtype
    assert out.is_contiguous()
    error, allowed = (out - exact).abs().max(), (plain - exact).abs().max()
    assert error <= 2 * allowed + torch.finfo(dtype).eps / 8


@pytest.mark.parametrize("num_splits", [1, 3])
def test_any_strides(num_splits: int) -> None:
    """One layer of a stack of caches, a cache with tokens before heads, views of a projection."""
    N, H, D, T_max = 2, 2, 16, 40
    lengths = [39, 20]
    q, k, v = normal(N, H, 3, D).unbind(2)  # strides (3 * H * D, 3 * D, 1)
    k_cache = torch.full((3, N, H, T_max, 2 * D), NAN, device=DEVICE)[..., :D]
    v_cache = torch.full((N, T_max, H, D), NAN, device=DEVICE)
    k_all, v_all = normal(N, H, T_max, D, seed=1), normal(N, H, T_max, D, seed=2)
    k_cache[1] = cache(k_all, lengths)
    v_cache.permute(0, 2, 1, 3).copy_(cache(v_all, lengths))
    expected = reference.decode_attention(
        q, cache(k_all, lengths), cache(v_all, lengths), on_device(lengths), k=k, v=v
    )
    out = decode(
        q, k_cache[1], v_cache.permute(0, 2, 1, 3), on_device(lengths), k, v, D**-0.5,
        num_splits, tile=TILE,
    )  # fmt: skip
    torch.testing.assert_close(out, expected)
    assert k_cache[[0, 2]].isnan().all(), "other layers stay as they were"
    assert torch.equal(k_cache[1, 1, :, 20], k[1])
    assert torch.equal(v_cache[1, 20], v[1])
    assert v_cache[1, 21:].isnan().all()
    assert k_cache[1, 1, :, 21:].isnan().all()


@pytest.mark.parametrize("num_splits", SPLITS)
def test_without_a_new_token(num_splits: int) -> None:
    """No key at all is 0, a full cache is read to its end, and nothing is written."""
    T, D = 100, 16
    lengths = [0, 17, T]
    q, k_all, v_all = normal(3, 1, D), normal(3, 1, T, D, seed=1), normal(3, 1, T, D, seed=2)
    k_cache, v_cache = cache(k_all, lengths), cache(v_all, lengths)
    expected = reference.decode_attention(q, k_cache, v_cache, on_device(lengths))
    out = decode(
        q, k_cache, v_cache, on_device(lengths, torch.int32), None, None, D**-0.5, num_splits,
        tile=TILE,
    )  # fmt: skip
    torch.testing.assert_close(out, expected)
    assert not out[0].any()
    assert torch.equal(k_cache.nan_to_num(7), cache(k_all, lengths).nan_to_num(7))
    assert torch.equal(v_cache.nan_to_num(7), cache(v_all, lengths).nan_to_num(7))


@pytest.mark.parametrize("num_splits", [1, 3])
@pytest.mark.parametrize("append", [False, True])
def test_a_length_out_of_range_is_nan_and_writes_nothing(append: bool, num_splits: int) -> None:
    """Also lengths whose lower 32 bits would do; the sequences beside them are right."""
    T, D = 40, 16
    good = [3, T - 1]
    bad = [-1, T + 1 - append, 2**31, 2**32 + 3, 2**63 - 1, -(2**63)]
    lengths = on_device([good[0], *bad, good[1]])
    N = len(lengths)
    # The cache is part of a larger one: a neighbour's slots would be overwritten unseen.
    k_whole, v_whole = normal(N + 2, 1, T, D, seed=1), normal(N + 2, 1, T, D, seed=2)
    k_before, v_before = k_whole.clone(), v_whole.clone()
    k_cache, v_cache = k_whole[1:-1], v_whole[1:-1]
    q, *new = (normal(N, 1, D, seed=s) for s in (3, 4, 5))
    k, v = new if append else (None, None)
    out = decode(q, k_cache, v_cache, lengths, k, v, D**-0.5, num_splits, tile=TILE)
    assert out[1:-1].isnan().all()
    for n, length in ((0, good[0]), (N - 1, good[1])):
        if k is not None and v is not None:
            k_before[n + 1, :, length], v_before[n + 1, :, length] = k[n], v[n]
        total = length + append
        keys, values = k_before[n + 1, :, :total], v_before[n + 1, :, :total]
        weights = (keys @ q[n, :, :, None] * D**-0.5).softmax(1)
        torch.testing.assert_close(out[n], (weights * values).sum(1))
    assert torch.equal(k_whole, k_before)
    assert torch.equal(v_whole, v_before)


@pytest.mark.parametrize("num_splits", [1, 3])
def test_one_int_for_all_is_a_tensor_of_it(num_splits: int) -> None:
    N, H, T, D = 2, 2, 50, 16
    q, k, v = (normal(N, H, D, seed=s) for s in range(3))
    outs = []
    for lengths in (37, on_device([37] * N), on_device([37] * N, torch.int32)):
        k_cache, v_cache = normal(N, H, T, D, seed=3), normal(N, H, T, D, seed=4)
        outs.append(decode(q, k_cache, v_cache, lengths, k, v, 0.3, num_splits, tile=TILE))
        assert torch.equal(k_cache[:, :, 37], k)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


def test_merging_more_splits_than_are_loaded_at_once() -> None:
    """At D = 128 the merging kernel loads 64 splits at a time: here it goes round twice."""
    D, T = 128, 70 * 16 - 3
    q, k_all, v_all = normal(1, 1, D), normal(1, 1, T, D, seed=1), normal(1, 1, T, D, seed=2)
    out = decode(q, k_all, v_all, T, None, None, D**-0.5, 70, tile=TILE)
    torch.testing.assert_close(out, reference.decode_attention(q, k_all, v_all, T))


@pytest.mark.parametrize("num_splits", [1, 3])
def test_scores_far_apart(num_splits: int) -> None:
    """Scores in the thousands, all of one sign: nothing overflows, nor is 0 divided by 0."""
    T, D = 70, 16
    q, v_all = normal(1, 1, D).abs(), normal(1, 1, T, D, seed=2)
    k_all = normal(1, 1, T, D, seed=1).abs()
    for scale in (1e3, -1e3):
        expected = reference.decode_attention(q, k_all, v_all, T, scale=scale)
        out = decode(q, k_all, v_all, T, None, None, scale, num_splits, tile=TILE)
        torch.testing.assert_close(out, expected, atol=1e-3, rtol=1e-3)


def test_the_choice_of_splits_fills_a_gpu_and_no_more() -> None:
    tile, multiprocessors = TILES[2][64], 132
    room = multiprocessors * PROGRAMS_PER_MULTIPROCESSOR
    short = tile.block_t * (MIN_TILES_TO_SPLIT - 1)
    assert choose_splits(1, short, tile, multiprocessors) == 1
    assert choose_splits(1, 10_000, tile, multiprocessors) == CHOSEN_SPLITS
    assert choose_splits(room + 1, 10_000, tile, multiprocessors) == 1
    for heads in (2, 8, 64, 100, 500):
        for T_max in (1_500, 10_000):
            splits = choose_splits(heads, T_max, tile, multiprocessors)
            assert 1 <= splits <= -(-T_max // tile.block_t)
            assert heads * splits <= room
    assert choose_splits(64, 10_000, tile, multiprocessors) == room // 64


def test_nothing_to_do() -> None:
    empty = torch.zeros(0, 2, 16, device=DEVICE)
    rows = torch.zeros(0, 2, 5, 16, device=DEVICE)
    assert decode(empty, rows, rows.clone(), 0, None, None, 1.0).shape == (0, 2, 16)


def test_variants_are_named_apart_and_cover_every_width() -> None:
    names = [variant.name for variant in variants()]
    assert len(set(names)) == len(names)
    for dtype in ("bf16", "fp16", "fp32"):
        for D in (16, 32, 64, 128):
            assert f"decode-{dtype}-D{D}-append-split-int64" in names
            assert f"decode-merge-{dtype}-D{D}" in names


@gpu
def test_a_captured_graph_stays_right_as_episodes_grow() -> None:
    """Nothing on the host depends on the lengths, and nothing waits for the GPU."""
    N, H, T_max, D = 2, 2, 1000, 64
    q, k, v = (normal(N, H, D, seed=s) for s in range(3))
    k_cache, v_cache = normal(N, H, T_max, D, seed=3), normal(N, H, T_max, D, seed=4)
    expected_k, expected_v = k_cache.clone(), v_cache.clone()
    lengths = on_device([0, 500])

    def step() -> Tensor:
        out = decode(q, k_cache, v_cache, lengths, k, v, D**-0.5)
        lengths.add_(1)
        return out

    step()  # compiles
    lengths.copy_(on_device([0, 500]))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    lengths.copy_(on_device([0, 500]))
    for t in range(5):
        graph.replay()
        now = on_device([t, 500 + t])
        expected = reference.decode_attention(q, expected_k, expected_v, now, k=k, v=v)
        torch.testing.assert_close(out, expected)


@gpu
def test_the_same_input_gives_the_same_bits() -> None:
    """Threads that read what others have not written yet would show here."""
    N, H, T_max, D = 3, 2, 3000, 64
    q, k, v = (normal(N, H, D, dtype=torch.bfloat16, seed=s) for s in range(3))
    k_cache = normal(N, H, T_max, D, dtype=torch.bfloat16, seed=3)
    v_cache = normal(N, H, T_max, D, dtype=torch.bfloat16, seed=4)
    lengths = on_device([0, 1500, 2999])
    first = decode(q, k_cache, v_cache, lengths, k, v, D**-0.5)
    for _ in range(300):
        assert torch.equal(decode(q, k_cache, v_cache, lengths, k, v, D**-0.5), first)
