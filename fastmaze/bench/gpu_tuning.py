"""Part "tuning" of `fastmaze bench gpu-check`: the fastest tile of each kernel on this GPU.

Every candidate is compiled first, by several processes into Triton's cache on disk, then all
candidates of a group take turns. A backward kernel is timed within the whole backward, whose other
kernel keeps its default tile: gains are gains of the whole.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from fastmaze.bench.ceilings import PRECISIONS
from fastmaze.bench.device_timing import Operation, Stopwatch, one_line
from fastmaze.bench.gpu_check_parts import Context, write_atomically
from fastmaze.kernels.dispatch import triton_missing, triton_module
from fastmaze.kernels.tiles import (
    KERNELS,
    Kernel,
    Key,
    Tile,
    candidates,
    override,
    tile_for,
)

_LENGTH, _SHORT_LENGTH, _BATCH, _WIDTH = 4096, 256, 32, 128
_WORKERS: Final = 16
_COMPILE_SHARE: Final = 0.65
"""Of the time, what compiling may take."""


class Group(NamedTuple):
    """Candidates compete within one of these; in float32, with tf32."""

    kernel: Kernel
    precision: str
    head_dim: int
    dropout: bool

    @property
    def key(self) -> Key:
        """What `tiles` calls it."""
        return self.kernel, PRECISIONS[self.precision].dtype, self.head_dim, self.dropout


def groups(reduced: bool) -> Iterator[Group]:
    """The most telling first."""
    if reduced:
        yield Group("forward", "fp16", 64, True)
        return
    for precision, head_dims in (("bf16", (64, 128)), ("tf32", (64, 128)), ("fp16", (64, 128)),
                                 ("bf16", (32,)), ("tf32", (32,)), ("fp16", (32,))):  # fmt: skip
        for head_dim in head_dims:
            for dropout in (False, True):
                for kernel in KERNELS:
                    yield Group(kernel, precision, head_dim, dropout)


def run_part(context: Context) -> None:
    """Saves "groups", each with the times of its candidates, and tiles.json."""
    missing = triton_missing()
    if missing:
        print(f"  not run: {missing}")
        context.save(skipped=missing, groups=[])
        return
    wanted = list(groups(context.reduced))
    plans = [(group, candidates(*group.key)) for group in wanted]
    start = time.time()
    compiled = _compile_all(plans, context)
    context.save(compile_seconds=round(time.time() - start, 1), groups=[])
    stopwatch = Stopwatch(context.device, rounds=1 if context.reduced else 5, seconds=0.01)
    found: list[dict[str, Any]] = []
    for group, tiles in plans:
        if context.left <= 0:
            context.save(stopped=f"out of time: {len(wanted) - len(found)} groups not tuned")
            break
        ready = [tile for tile in tiles if compiled.get((group, tile)) == ""]
        result = time_group(group, ready, stopwatch, context.reduced)
        result["skipped"] |= {
            _name(tile): compiled.get((group, tile), "not compiled in time")
            for tile in tiles
            if tile not in ready
        }
        found.append(result)
        print(f"  {_line(result)}", flush=True)
        context.save(groups=found)
        name = torch.cuda.get_device_name() if context.device.type == "cuda" else "CPU"
        best = [{k: r[k] for k in ("kernel", "precision", "head_dim", "dropout", "best", "gain")}
                for r in found if r["best"]]  # fmt: skip
        write_atomically(context.out / "tiles.json", {"device": name, "tiles": best})


def _compile_all(
    plans: list[tuple[Group, list[Tile]]], context: Context
) -> dict[tuple[Group, Tile], str]:
    """(Group, tile) to "" where it compiles and runs, or to why not; others were not reached."""
    if context.reduced:
        return {(group, tile): "" for group, tiles in plans for tile in tiles}
    done: dict[tuple[Group, Tile], str] = {}
    deadline = time.time() + _COMPILE_SHARE * context.left
    spawn = multiprocessing.get_context("spawn")
    workers = min(_WORKERS, len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = {
            pool.submit(compile_tile, group, tile, deadline, "cuda"): (group, tile)
            for group, tiles in plans
            for tile in tiles
        }
        for future, what in futures.items():
            try:
                said = future.result()
            except Exception as error:
                said = one_line(error)
            if said is not None:
                done[what] = said
    return done


def compile_tile(group: Group, tile: Tile, deadline: float, device: str) -> str | None:
    """Runs a kernel with a tile on short sequences: "", why not, or None past the deadline.

    All sizes but the length are those that will be timed, so that what is compiled is what is
    needed: Triton compiles anew for sizes that are 1 or multiples of 16.
    """
    if time.time() > deadline:
        return None
    where = torch.device(device)
    try:
        call = _call(group, _SHORT_LENGTH, _BATCH, where)
        with override({group.key: tile}):
            call()
        if where.type == "cuda":
            torch.cuda.synchronize()
    except Exception as error:  # too much shared memory, for one
        return one_line(error)
    return ""


def time_group(
    group: Group, tried: list[Tile], stopwatch: Stopwatch, reduced: bool
) -> dict[str, Any]:
    """Times the tiles of one group and its default; "best" is None where none ran.

    Returns:
        The group's fields, "default" and "best" (tiles as lists), "gain" (time of the default over
        that of the best), "milliseconds" (tile to time), and "skipped" (tile to why).
    """
    length, batch = (64, 1) if reduced else (_LENGTH, _BATCH)
    call = _call(group, length, batch, stopwatch.device)
    default = tile_for(*group.key)

    def with_tile(tile: Tile) -> Operation:
        def run(_: Any) -> None:
            with override({group.key: tile}):
                call()

        return Operation(run)

    names = {_name(tile): tile for tile in (default, *tried)}
    times, skipped = stopwatch.measure({name: with_tile(tile) for name, tile in names.items()})
    result = {**group._asdict(), "default": sizes(default), "length": length, "batch": batch,
              "best": None, "gain": None, "skipped": skipped,
              "milliseconds": {name: 1e3 * t.median for name, t in times.items()}}  # fmt: skip
    if times:
        best = min(times, key=lambda name: times[name].median)
        own = times.get(_name(default))
        result["best"] = sizes(names[best])
        result["gain"] = own.median / times[best].median if own else None
    return result


def _call(group: Group, length: int, batch: int, device: torch.device) -> Any:
    """A call of the launcher that runs the group's kernel, over random inputs."""
    launchers = triton_module("causal_attention_triton")

    dtype, float32 = PRECISIONS[group.precision]
    heads = _WIDTH // group.head_dim
    generator = torch.Generator(device).manual_seed(0)
    shape = (batch, length, 3, heads, group.head_dim)
    qkv = torch.randn(shape, generator=generator, device=device).to(dtype)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, H, T, D] each
    grad = torch.randn(batch, length, heads, group.head_dim, generator=generator, device=device)
    grad = grad.to(dtype).transpose(1, 2)
    seed = torch.tensor([1], device=device) if group.dropout else None
    rest = (None, seed, 0.1 if group.dropout else 0.0, group.head_dim**-0.5, float32)

    def forward() -> tuple[Tensor, Tensor]:
        made: tuple[Tensor, Tensor] = launchers.forward(q, k, v, *rest)
        return made

    if group.kernel == "forward":
        return forward
    out, lse = forward()
    return lambda: launchers.backward(grad, q, k, v, out, lse, *rest)


def sizes(tile: Tile) -> list[int]:
    """Queries, keys, warps, stages."""
    return list(dataclasses.astuple(tile))


def _name(tile: Tile) -> str:
    return str(dataclasses.astuple(tile))


def _line(result: dict[str, Any]) -> str:
    kind = "dropout" if result["dropout"] else "no dropout"
    head = f"{result['kernel']:12} {result['precision']} D = {result['head_dim']}, {kind}:"
    if result["best"] is None:
        reason = next(iter(result["skipped"].values()), "no candidates")
        return f"{head} nothing ran ({reason})"
    gain = f"{result['gain']:.2f} × the default's speed" if result["gain"] else "the default failed"
    return f"{head} {result['best']}, {gain}"


def tuned_tiles(out: Path) -> dict[Key, Tile]:
    """What tiles.json in `out` says, for `tiles.override`; empty where there is none."""
    try:
        found = json.loads((out / "tiles.json").read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {
        Group(t["kernel"], t["precision"], t["head_dim"], t["dropout"]).key: Tile(*t["best"])
        for t in found["tiles"]
    }
