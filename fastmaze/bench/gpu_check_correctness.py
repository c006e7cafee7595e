"""Part "correctness" of `fastmaze bench gpu-check`: the kernels on the device against float64.

The rule throughout: the error, against the reference in float64, is at most twice that of the
reference run in the same precision, plus two roundings of the largest number there is (tf32 rounds
both factors of a product). Forward and backward, awkward lengths, every
head width, mixed sequence lengths, dropout with the identical mask, the strides of a fused
projection, and NaN wherever nothing may be read.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from fastmaze.bench.ceilings import PRECISIONS, float32_precision
from fastmaze.bench.device_timing import one_line
from fastmaze.bench.gpu_check_parts import Context
from fastmaze.kernels import AttentionImpl, causal_attention, decode_attention
from fastmaze.kernels import reference as plain
from fastmaze.kernels.dispatch import triton_missing

_LENGTHS: Final = (1, 2, 15, 16, 17, 63, 64, 65, 127, 129, 200, 257, 1000)
_HEAD_DIMS: Final = (16, 32, 64, 128)
_DROPOUTS: Final = (0.0, 0.1, 0.5)
_BATCH, _HEADS = 3, 2
_REPEATS: Final = 500
"""How often the same input must give the same bits."""
_WORKERS: Final = 16
"""Processes that share the GPU, at most: compiling takes most of the time."""

_UNIT: Final = {"bf16": 2.0**-8, "fp16": 2.0**-11, "tf32": 2.0**-11, "fp32": 2.0**-24}
"""Largest relative error of one rounding, by precision."""

Finding = dict[str, Any]
"""What was checked, "error" over what is allowed in "worst", and "failures" in words."""


class Attention(NamedTuple):
    """One problem of forward and backward."""

    precision: str
    head_dim: int
    length: int
    dropout: float
    mixed: bool
    """Whether the sequences have lengths of their own."""


def run_part(context: Context) -> None:
    """Saves "checked", "planned", "worst" and "failures"."""
    impl: AttentionImpl = "auto" if triton_missing() else "triton"
    note = "kernels in Triton" if impl == "triton" else f"without Triton ({triton_missing()})"
    note += ", interpreted" if context.reduced and impl == "triton" else ""
    print(f"  {note}")
    shards = list(_shards(context.reduced))
    context.save(impl=impl, note=note, failures=[], checked=0, worst={},
                 planned=sum(len(attention_cases(*shard)) for shard in shards))  # fmt: skip
    for found in _run_shards(shards, impl, context):
        _add(context, found)
    kinds = (("fp32", 16),) if context.reduced else (("bf16", 64), ("bf16", 128), ("tf32", 64))
    repeats = 1 if context.reduced else _REPEATS
    for kind in kinds:
        _add(context, [_guarded(check_repeats, kind, repeats, impl, context.device)])
    for length in (-1, 41):
        _add(context, [_guarded(check_bad_length, length, impl, context.device)])
    missing = context.results["planned"] - context.results["checked"]
    if missing > 0:
        context.save(stopped=f"out of time: {missing} of {context.results['planned']} not checked")
    worst = {name: round(value, 3) for name, value in context.results["worst"].items()}
    print(f"  {context.results['checked']} cases; error as a share of what is allowed: {worst}")


def _shards(reduced: bool) -> Iterator[tuple[str, int, bool]]:
    """Precision and head width of what one process checks; the cheapest to compile first."""
    if reduced:
        # The interpreter's products in bf16 are wrong, and it knows no tf32.
        yield from (("fp32", 16, True), ("fp16", 64, True))
    else:
        yield from ((precision, D, False) for D in _HEAD_DIMS for precision in PRECISIONS)


def attention_cases(precision: str, head_dim: int, reduced: bool) -> list[Attention]:
    """What is checked in one precision with one head width."""
    lengths = (1, 65) if reduced else _LENGTHS
    dropouts = (0.0, 0.1) if reduced else _DROPOUTS
    # With and without lengths are two compilations: both only where it is trained with.
    lengths_given = (True, False) if head_dim >= 64 and not reduced else (True,)
    return [
        Attention(precision, head_dim, length, dropout, mixed)
        for dropout, mixed, length in itertools.product(dropouts, lengths_given, lengths)
    ]


def _run_shards(
    shards: list[tuple[str, int, bool]], impl: AttentionImpl, context: Context
) -> Iterator[list[Finding]]:
    """Findings of each shard as it is done, on a GPU from several processes at once."""
    device = str(context.device)
    if context.reduced:
        for shard in shards:
            yield check_shard(*shard, impl, device, context.deadline)
        return
    spawn = multiprocessing.get_context("spawn")
    workers = min(_WORKERS, len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        futures: dict[Future[list[Finding]], tuple[str, int, bool]] = {
            pool.submit(check_shard, *shard, impl, device, context.deadline): shard
            for shard in shards
        }
        for future in as_completed(futures):
            precision, head_dim, _ = futures[future]
            try:
                yield future.result()
            except Exception as error:  # a process that died is a finding, too
                what = f"{precision}, D = {head_dim}: {one_line(error)}"
                yield [{"what": what, "worst": {}, "failures": [what]}]


def _add(context: Context, findings: list[Finding]) -> None:
    results = context.results
    worst = dict(results["worst"])
    for finding in findings:
        for name, value in finding["worst"].items():
            worst[name] = max(worst.get(name, 0.0), value)
    context.save(
        checked=results["checked"] + sum(1 for finding in findings if "case" in finding),
        failures=results["failures"] + [line for f in findings for line in f["failures"]],
        worst=worst,
    )


def check_shard(
    precision: str, head_dim: int, reduced: bool, impl: AttentionImpl, device: str, deadline: float
) -> list[Finding]:
    """Every case of one precision and head width, and decoding; ends at the deadline."""
    where = torch.device(device)
    findings: list[Finding] = []
    with float32_precision(PRECISIONS[precision].float32):
        for case in attention_cases(precision, head_dim, reduced):
            if time.time() > deadline:
                return findings
            findings.append(_guarded(check_attention, case, impl, where))
        splits = (None, 2) if reduced else (None, 1, 2, 7)
        findings.append(_guarded(check_decoding, precision, head_dim, splits, impl, where))
    return findings


def _guarded(check: Any, what: Any, *arguments: Any) -> Finding:
    """A check whose own error is a failure."""
    try:
        found: Finding = check(what, *arguments)
    except Exception as error:
        return {"case": str(what), "worst": {}, "failures": [f"{what}: {one_line(error)}"]}
    return found


def check_attention(case: Attention, impl: AttentionImpl, device: torch.device) -> Finding:
    """Output and gradients of one case."""
    precision, D, T, dropout, mixed = case
    dtype, float32 = PRECISIONS[precision]
    generator = torch.Generator(device).manual_seed(T)
    qkv = torch.randn(_BATCH, T, 3, _HEADS, D, generator=generator, device=device).to(dtype)
    grad = torch.randn(_BATCH, _HEADS, T, D, generator=generator, device=device).to(dtype)
    seqlens = torch.tensor([T, T // 2, T - T // 3], device=device) if mixed else None
    seed = torch.tensor([T + 2**40], device=device) if dropout else None
    options: dict[str, Any] = {"seqlens": seqlens, "dropout_p": dropout, "seed": seed}
    if seqlens is not None:
        past = torch.arange(T, device=device) >= seqlens[:, None]
        qkv[past] = torch.nan  # what is past the length must not be read

    def in_plain_torch(*x: Tensor) -> Tensor:
        return plain.causal_attention(*x, **options)[0]

    exact = _gradients(qkv.double(), grad.double(), in_plain_torch)
    same = _gradients(qkv, grad, in_plain_torch)
    ours = _gradients(
        qkv, grad, lambda *x: causal_attention(*x, **options, precision=float32, impl=impl)
    )
    names = ("out", "dq", "dk", "dv")
    return _compare(f"{precision} D={D} T={T} dropout={dropout} mixed={mixed}", precision,
                    dict(zip(names, zip(ours, same, exact, strict=True), strict=True)))  # fmt: skip


def _gradients(qkv: Tensor, grad: Tensor, attend: Any) -> list[Tensor]:
    """Output and gradients of q, k, v, which are views of one tensor [B, T, 3, H, D]."""
    parts = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, H, T, D] each
    q, k, v = (x.detach().requires_grad_() for x in parts)
    out = attend(q, k, v)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), grad)]


def check_decoding(
    precision: str,
    head_dim: int,
    splits: tuple[int | None, ...],
    impl: AttentionImpl,
    device: torch.device,
) -> Finding:
    """Appending to caches of mixed lengths and attending, split in different ways."""
    dtype = PRECISIONS[precision].dtype
    T = 300
    lengths = torch.tensor([0, 1, 17, 150, T - 1], device=device)
    N = len(lengths)
    generator = torch.Generator(device).manual_seed(0)
    caches = torch.randn(2, N, _HEADS, T, head_dim, generator=generator, device=device).to(dtype)
    q, k, v = torch.randn(3, N, _HEADS, head_dim, generator=generator, device=device).to(dtype)
    held = torch.arange(T, device=device) < lengths[:, None]  # [N, T]
    caches.masked_fill_(~held[:, None, :, None], torch.nan)
    results: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    failures: list[str] = []
    what = f"decode {precision} D={head_dim}"
    wide = caches.double()
    exact = plain.decode_attention(
        q.double(), wide[0], wide[1], lengths, k=k.double(), v=v.double()
    )
    expected = caches.clone()
    same = plain.decode_attention(q, expected[0], expected[1], lengths, k=k, v=v)
    for num_splits in splits:
        given = caches.clone()
        ours = decode_attention(
            q, given[0], given[1], lengths, k=k, v=v, num_splits=num_splits, impl=impl
        )
        results[f"decode splits={num_splits}"] = (ours, same, exact)
        if not torch.equal(given.nan_to_num(9.0), expected.nan_to_num(9.0)):
            failures.append(f"{what} splits={num_splits}: the cache is not what was appended to it")
    found = _compare(what, precision, results, "decode")
    found["failures"] += failures
    del found["case"]  # counted are those of the forward and backward
    return found


def _compare(
    what: str,
    precision: str,
    results: dict[str, tuple[Tensor, Tensor, Tensor]],
    group: str | None = None,
) -> Finding:
    """Errors of ours against what plain torch's error allows."""
    failures: list[str] = []
    worst: dict[str, float] = {}
    # Over all results: the gradients of one token's query and key are nothing but rounding.
    largest = max(exact.abs().max().item() for _, _, exact in results.values())
    for name, (ours, same, exact) in results.items():
        allowed = 2 * _error(same, exact) + 2 * _UNIT[precision] * largest
        error = _error(ours, exact)
        share = error / allowed if allowed > 0 else float(error > 0)
        key = f"{precision} {group or name}"
        worst[key] = max(worst.get(key, 0.0), share)
        if not share <= 1:  # NaN fails
            failures.append(f"{what}: {name} is off by {error:.3g}, allowed is {allowed:.3g}")
    return {"case": what, "worst": worst, "failures": failures}


def _error(found: Tensor, exact: Tensor) -> float:
    return (found.double() - exact).abs().max().item()


def check_repeats(
    kind: tuple[str, int], repeats: int, impl: AttentionImpl, device: torch.device
) -> Finding:
    """The same input, again and again, gives the same bits: a race would show.

    Args:
        kind: precision and D.
        repeats: how often.
        impl: whose.
        device: where.
    """
    precision, D = kind
    dtype, float32 = PRECISIONS[precision]
    T, H = (33, 1) if device.type == "cpu" else (1000, 2)
    generator = torch.Generator(device).manual_seed(0)
    qkv = torch.randn(4, T, 3, H, D, generator=generator, device=device).to(dtype)
    grad = torch.randn(4, H, T, D, generator=generator, device=device).to(dtype)
    seed = torch.tensor([1], device=device)
    seqlens = torch.tensor([T, T // 2, 1, T - 1], device=device)

    def attend(*x: Tensor) -> Tensor:
        return causal_attention(
            *x, seqlens=seqlens, dropout_p=0.1, seed=seed, precision=float32, impl=impl
        )

    first = _gradients(qkv, grad, attend)
    # Counted on the device: waiting each time would hide what only shows under load.
    different = torch.zeros((), dtype=torch.int64, device=device)
    for _ in range(repeats):
        for x, y in zip(_gradients(qkv, grad, attend), first, strict=True):
            different += (x != y).any()
    count = int(different)
    failures = [f"{precision} D={D}: {count} results of {repeats} runs differ"] if count else []
    return {"what": f"repeats {precision} D={D}", "worst": {}, "failures": failures}


def check_bad_length(length: int, impl: AttentionImpl, device: torch.device) -> Finding:
    """A length out of range gives NaN on a GPU, an error on a CPU, and harms no neighbour."""
    T, D = 40, 64
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = torch.randn(3, 3, 1, T, D, generator=generator, device=device)
    seqlens = torch.tensor([T, length, 3], device=device)
    what = f"a length of {length} for T = {T}"
    try:
        out = causal_attention(q, k, v, seqlens=seqlens, impl=impl)
    except ValueError:
        wrong = "" if device.type == "cpu" else "refused on a GPU, which must not wait to look"
    else:
        nan = out.isnan().flatten(1)
        right = bool(nan[1].all()) and not bool(nan[0].any()) and not bool(nan[2].any())
        wrong = "" if right else "not NaN there alone"
    return {"what": what, "worst": {}, "failures": [f"{what}: {wrong}"] if wrong else []}


def run_small(device_name: str = "cuda") -> None:
    """The kernels alone on small shapes, for a sanitizer to watch: results are not compared."""
    device = torch.device(device_name)
    seqlens, seed = torch.tensor([3, 0, 2], device=device), torch.tensor([1], device=device)
    for precision, D, T in (("bf16", 64, 65), ("fp32", 128, 33), ("fp16", 32, 17)):
        qkv = torch.randn(_BATCH, T, 3, _HEADS, D, device=device).to(PRECISIONS[precision].dtype)
        grad = qkv[:, :, 0].transpose(1, 2)  # [B, H, T, D]
        lengths = T - seqlens

        def attend(*x: Tensor, lengths: Tensor = lengths) -> Tensor:
            return causal_attention(
                *x, seqlens=lengths, dropout_p=0.1, seed=seed, precision="ieee", impl="triton"
            )

        _gradients(qkv, grad, attend)
        cache, token = qkv[:, :, 1].transpose(1, 2), grad[:, :, 0]
        for num_splits in (None, 2):
            decode_attention(
                token, cache.clone(), cache.clone(), lengths - 4, k=token, v=token,
                num_splits=num_splits, impl="triton",
            )  # fmt: skip
    if device.type == "cuda":
        torch.cuda.synchronize()
    print("small shapes done")
