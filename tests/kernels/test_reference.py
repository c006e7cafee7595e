"""The oracle itself: against published random words, Python's integers, torch's own attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fastmaze.kernels import reference

# Random123's known answers: rounds, counter, key, words.
KNOWN_ANSWERS = [
    (7, (0x00000000, 0x00000000), 0x00000000, (0x257A3673, 0xCD26BE2A)),
    (7, (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0xAB302C4D, 0x3DC9D239)),
    (7, (0x243F6A88, 0x85A308D3), 0x13198A2E, (0xBEDBBE6B, 0xE4C770B3)),
    (10, (0x00000000, 0x00000000), 0x00000000, (0xFF1DAE59, 0x6CD10DF2)),
    (10, (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
    (10, (0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
]
WORDS = st.integers(0, 2**32 - 1)


def philox(c0: int, c1: int, key: int, rounds: int) -> tuple[int, int]:
    """Philox2x32 over Python's integers, which have no width."""
    for _ in range(rounds):
        product = 0xD256D193 * c0
        c0, c1 = product >> 32 ^ key ^ c1, product % 2**32
        key = (key + 0x9E3779B9) % 2**32
    return c0, c1


def keeps(seed: int, head: int, i: int, j: int, dropout_p: float) -> bool:
    """The rule of the dropout mask over Python's integers; head is b * H + h."""
    bits = seed % 2**64
    key = philox(bits % 2**32, bits >> 32, head, 10)[0]
    words = philox(8 * (i // 16) + i % 8, 8 * (j // 16) + j % 8, key, 7)
    value = words[i // 8 % 2] >> 16 * (j // 8 % 2) & 0xFFFF
    return value < reference.keep_threshold(dropout_p)


def random_inputs(*shape: int, seed: int = 0, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    return [x.requires_grad_() for x in draws]


@pytest.mark.parametrize(("rounds", "counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_words(
    rounds: int, counter: tuple[int, int], key: int, words: tuple[int, int]
) -> None:
    c0, c1, k = (torch.tensor(x) for x in (*counter, key))
    got = reference.philox2x32(c0, c1, k, rounds=rounds)
    assert tuple(map(int, got)) == words
    assert philox(*counter, key, rounds) == words


@given(c0=WORDS, c1=WORDS, key=WORDS, rounds=st.integers(0, 12))
def test_philox_equals_pythons_integers(c0: int, c1: int, key: int, rounds: int) -> None:
    tensors = (torch.tensor([x]) for x in (c0, c1, key))
    got = reference.philox2x32(*tensors, rounds=rounds)
    assert tuple(map(int, got)) == philox(c0, c1, key, rounds)


@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63 - 1, 0x0123456789ABCDEF])
def test_the_mask_follows_its_rule_entry_by_entry(seed: int) -> None:
    B, H, T = 2, 3, 40
    mask = reference.dropout_keep_mask(torch.tensor([seed]), B, H, T, 0.4)
    assert mask.shape == (B, H, T, T)
    for b, h, i, j in [(0, 0, 0, 0), (0, 1, 7, 8), (1, 0, 8, 7), (1, 2, 15, 16), (1, 1, 39, 24)]:
        for di in range(-1, 2):
            for dj in range(-1, 2):
                i_, j_ = (i + di) % T, (j + dj) % T
                assert bool(mask[b, h, i_, j_]) == keeps(seed, b * H + h, i_, j_, 0.4)


def test_a_longer_mask_begins_with_the_shorter_one() -> None:
    seed = torch.tensor(5)
    long = reference.dropout_keep_mask(seed, 2, 2, 70, 0.3)
    assert torch.equal(long[:, :, :33, :33], reference.dropout_keep_mask(seed, 2, 2, 33, 0.3))


@pytest.mark.parametrize(
    ("dropout_p", "threshold"), [(0.5, 32768), (0.1, 58982), (1e-9, 65535), (1 - 1e-9, 1)]
)
def test_the_threshold_is_rounded_and_never_all_or_nothing(
    dropout_p: float, threshold: int
) -> None:
    assert reference.keep_threshold(dropout_p) == threshold


@pytest.fixture(scope="module")
def draws() -> tuple[Tensor, float]:
    """Standardised masks of 300 seeds, [S, B, H, T, T], and the chance of staying."""
    p = reference.keep_threshold(0.1) / 65536
    masks = [reference.dropout_keep_mask(s, 2, 2, 33, 0.1) for s in range(-150, 150)]
    return (torch.stack(masks).double() - p) / (p * (1 - p)) ** 0.5, p


def test_the_keep_rate_is_right_overall_and_at_each_position(draws: tuple[Tensor, float]) -> None:
    x, _ = draws
    assert abs(x.mean() * x.numel() ** 0.5) < 4.5  # deviations of a binomial
    # Squared deviations of the positions, each over all seeds, follow chi-squared.
    square = (x.mean(0) ** 2 * x.shape[0]).sum()
    positions = x[0].numel()
    assert abs(square - positions) / (2 * positions) ** 0.5 < 4.5


@pytest.mark.parametrize(
    ("dim", "lag"),
    [(0, 1), (0, 150), (1, 1), (2, 1)] + [(d, n) for d in (3, 4) for n in (1, 8, 16)],
)
def test_neighbouring_seeds_batches_heads_rows_and_columns_are_independent(
    draws: tuple[Tensor, float], dim: int, lag: int
) -> None:
    x, _ = draws
    n = x.shape[dim]
    product = x.narrow(dim, 0, n - lag) * x.narrow(dim, lag, n - lag)
    assert abs(product.mean()) * product.numel() ** 0.5 < 4.5


@pytest.mark.parametrize(("di", "dj"), [(1, 1), (8, 8), (8, 16), (16, 16), (1, 8)])
def test_diagonal_neighbours_are_independent(draws: tuple[Tensor, float], di: int, dj: int) -> None:
    x, _ = draws
    for first, second in [
        (x[..., :-di, :-dj], x[..., di:, dj:]),
        (x[..., di:, :-dj], x[..., :-di, dj:]),
    ]:
        assert abs((first * second).mean()) * first.numel() ** 0.5 < 4.5


def test_without_dropout_it_is_torchs_attention() -> None:
    q, k, v = random_inputs(2, 3, 19, 5)
    out, lse = reference.causal_attention(q, k, v, scale=0.7)
    torch.testing.assert_close(
        out, scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.7)
    )
    weights = torch.exp(q @ k.mT * 0.7).tril()
    torch.testing.assert_close(lse, weights.sum(-1).log().detach())


def test_dropped_weights_are_those_of_the_mask_and_the_rest_is_rescaled() -> None:
    B, H, T = 2, 2, 37
    q, k = random_inputs(B, H, T, T, count=2)
    v = torch.eye(T, dtype=torch.float64).expand(B, H, T, T)  # out is the matrix of weights
    seed = torch.tensor([-7])
    plain, lse = reference.causal_attention(q, k, v)
    dropped, same_lse = reference.causal_attention(q, k, v, dropout_p=0.3, seed=seed)
    keep = reference.dropout_keep_mask(seed, B, H, T, 0.3)
    torch.testing.assert_close(dropped, plain * keep * 65536 / round(0.7 * 65536))
    torch.testing.assert_close(lse, same_lse)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradcheck(dropout_p: float) -> None:
    lengths, seed = torch.tensor([9, 0, 4]), torch.tensor([3])

    def out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return reference.causal_attention(q, k, v, seqlens=lengths, dropout_p=dropout_p, seed=seed)[
            0
        ]

    assert torch.autograd.gradcheck(out, random_inputs(3, 2, 9, 3), fast_mode=True)


def test_nothing_past_the_length_is_used_forward_or_backward() -> None:
    lengths = torch.tensor([5, 11, 0], dtype=torch.int32)
    q, k, v, grad = (x.detach() for x in random_inputs(3, 2, 11, 4, count=4))
    past = torch.arange(11)[:, None] >= lengths[:, None, None, None]
    results = []
    for fill in (0.0, torch.nan):
        inputs = [x.masked_fill(past, fill).requires_grad_() for x in (q, k, v)]
        out, lse = reference.causal_attention(*inputs, seqlens=lengths)
        out.backward(grad.masked_fill(past, fill))
        results.append([out.detach(), lse, *(x.grad for x in inputs)])
    for zeros, nans in zip(*results, strict=True):
        assert torch.equal(zeros, nans)  # NaN equals nothing
    out, lse, *gradients = results[0]
    assert all((x * past == 0).all() for x in (out, *gradients))
    assert (lse.isinf() == past[..., 0]).all()


@pytest.mark.parametrize("wrong", [-1, 12])
def test_a_length_out_of_range_is_nan_in_that_sequence_alone(wrong: int) -> None:
    inputs = random_inputs(2, 1, 11, 4)
    out, lse = reference.causal_attention(*inputs, seqlens=torch.tensor([wrong, 6]))
    out.sum().backward()
    for x in (out, lse, *(x.grad for x in inputs)):
        assert x is not None
        assert x[0].isnan().all()
        assert not x[1].isnan().any()


def test_decoding_token_by_token_is_the_causal_forward() -> None:
    N, H, T, D = 3, 2, 7, 4
    q, k, v = (x.detach() for x in random_inputs(N, H, T, D))
    expected, _ = reference.causal_attention(q, k, v)
    k_cache, v_cache = (torch.full((N, H, T, D), torch.nan).double() for _ in range(2))
    for t in range(T):
        step = {"k": k[:, :, t], "v": v[:, :, t]}
        out = reference.decode_attention(q[:, :, t], k_cache, v_cache, t, **step)
        torch.testing.assert_close(out, expected[:, :, t])
    assert torch.equal(k_cache, k)
    assert torch.equal(v_cache, v)


def test_decoding_takes_each_sequences_own_length() -> None:
    q, k, v = (x.detach() for x in random_inputs(4, 2, 6, 3))
    lengths = torch.tensor([6, 0, 2, 5], dtype=torch.int32)
    past = torch.arange(6)[:, None] >= lengths[:, None, None, None]
    caches = [x.masked_fill(past, torch.nan) for x in (k, v)]
    out = reference.decode_attention(q[:, :, 0], *caches, lengths)
    assert (out[1] == 0).all()
    for n in (0, 2, 3):
        used = slice(int(lengths[n]))
        alone = scaled_dot_product_attention(q[n, :, :1], k[n, :, used], v[n, :, used])
        torch.testing.assert_close(out[n], alone[:, 0])


@pytest.mark.parametrize("wrong", [-1, 6])
def test_a_cache_without_room_is_nan_and_not_written(wrong: int) -> None:
    q, k, v = (x.detach() for x in random_inputs(2, 2, 6, 3))
    k_cache, v_cache = k.clone(), v.clone()
    step = {"k": q[:, :, 1], "v": q[:, :, 2]}
    out = reference.decode_attention(q[:, :, 0], k_cache, v_cache, torch.tensor([wrong, 2]), **step)
    assert out[0].isnan().all()
    assert not out[1].isnan().any()
    k[1, :, 2], v[1, :, 2] = step["k"][1], step["v"][1]
    assert torch.equal(k_cache, k)
    assert torch.equal(v_cache, v)
