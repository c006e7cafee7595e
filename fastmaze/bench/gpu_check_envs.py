"""Part "envs" of `fastmaze bench gpu-check`: mazes and rollouts on the device.

Are they right: random tasks and a long corridor bit for bit as the native backend plays them, and
rollouts by CUDA graph as the plain loop's. Are they fast: steps a second inside a captured graph,
beside a copy of as many bytes as a step touches, made the same way.
"""

from __future__ import annotations

import itertools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from fastmaze.bench.device_timing import one_line, record_event
from fastmaze.bench.gpu_check_parts import Context
from fastmaze.envs.backends.base import Backend, Mode
from fastmaze.envs.backends.device import DeviceBackend
from fastmaze.envs.backends.device_core import Impl
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.envs.device import DeviceTMaze
from fastmaze.specs import NUM_ACTIONS, TMazeSpec, make_tmaze_spec
from fastmaze.training import TrainConfig
from fastmaze.training.device_rollout import DeviceCollector
from fastmaze.training.network import build_network

IMPLS: Final[tuple[Impl, ...]] = ("triton", "torch")
MODES: Final[tuple[Mode, ...]] = ("NextStep", "SameStep", "Disabled")
STEPS: Final = 32
"""Steps of one captured graph."""
_TURNS: Final = 5
_SECONDS: Final = 0.1
"""Length of one turn of the timing."""


class Case(NamedTuple):
    """One population, played by two backends."""

    spec: TMazeSpec
    mode: Mode
    num_envs: int
    steps: int
    stagger: bool = True


def run_part(context: Context) -> None:
    """Saves "checked", "planned", "failures", and "rows" of speeds."""
    failures: list[str] = []
    checks: list[Callable[[], list[str]]] = [
        *(lambda case=case, impl=impl: check_equal(case, impl, context.device)
          for case, impl in itertools.product(cases(context.reduced), IMPLS)),
        *(lambda model=model: check_rollout(model, context.device) for model in ("gpt", "lstm")),
    ]  # fmt: skip
    context.save(checked=0, planned=len(checks), failures=failures, rows=[])
    # Half of the time is the speeds'.
    end = time.time() + context.left / 2
    for done, check in enumerate(checks):
        if time.time() > end:
            context.save(stopped=f"out of time: {len(checks) - done} of {len(checks)} not checked")
            break
        try:
            failures += check()
        except Exception as error:  # the next check may run
            failures.append(one_line(error))
        context.save(checked=done + 1, failures=failures)
    print(f"  {context.results['checked']} checks, {len(failures)} failures", flush=True)
    rows: list[dict[str, Any]] = []
    for num_envs, impl in itertools.product(sizes(context.reduced), IMPLS):
        if context.left <= 0:
            context.save(stopped=f"out of time after {len(rows)} speeds")
            break
        try:
            row = time_steps(num_envs, impl, context.device)
        except Exception as error:  # the next one may run
            row = {"num_envs": num_envs, "impl": impl, "skipped": one_line(error)}
        rows.append(row)
        print(f"  {row}", flush=True)
        context.save(rows=rows)


def cases(reduced: bool) -> Iterator[Case]:
    """Every mode with tasks that have every option between them, then a long corridor."""
    many = 7 if reduced else 5000
    options: tuple[dict[str, Any], ...] = (
        {"oracle_length": 1, "penalty": -0.1, "ambiguous_position": True},
        {"penalty": -0.3, "distract_reward": 0.7, "expose_goal": True, "add_timestep": True},
        {"oracle_length": 2, "penalty": -0.2, "penalty_rule": "action", "goal_reward": 2.5},
    )
    for mode, more in itertools.product(MODES, options):
        spec = make_tmaze_spec("gpu-check", "TMaze", corridor_length=4, episode_length=11, **more)
        yield Case(spec, mode, many, 4 if reduced else 60)
    length = 20 if reduced else 10_000
    spec = make_tmaze_spec("gpu-check", "ActiveTMaze", length=length)
    yield Case(spec, "Disabled", 3 if reduced else 64, spec.episode_length, stagger=False)


def sizes(reduced: bool) -> tuple[int, ...]:
    """Populations whose speed is measured."""
    return (2**6,) if reduced else (2**16, 2**20)


def check_equal(case: Case, impl: Impl, device: torch.device) -> list[str]:
    """Plays the same random walks on the device and natively; what differs, in one line each."""
    spec, N = case.spec, case.num_envs
    native = NativeBackend(spec, N, case.mode)
    ours = DeviceBackend(spec, N, case.mode, device=device, impl=impl)
    rng = np.random.default_rng(0)
    keys, indices = rng.integers(0, 2**64, N, dtype=np.uint64), np.arange(N, dtype=np.uint32)
    # Nearly always right, so that a long corridor is left at its end.
    astray = min(0.4, 2 / spec.corridor_length)
    chances = [1 - astray, astray / 2, astray / 4, astray / 4]
    sides: tuple[Backend, ...] = (native, ours)
    outputs: list[list[Any]] = []
    for backend in sides:
        obs = np.zeros((N, spec.obs_dim), np.float32)
        flags = np.zeros((2, N), np.bool_)
        outputs.append([obs, np.zeros(N, np.float32), *flags, np.zeros_like(obs)])
        backend.reset(obs, None, None, case.stagger, keys, indices)
    what = f"{impl} {case.mode} {spec.corridor_length} cells, {N} envs"
    for t in range(case.steps):
        actions = rng.choice(NUM_ACTIONS, N, p=chances)
        for backend, (obs, reward, ended, cut, final) in zip(sides, outputs, strict=True):
            if case.mode == "Disabled" and ended.any():
                backend.reset(obs, ended.copy())
            backend.step(actions, obs, reward, ended, cut, final)
        names = ("observation", "reward", "end", "truncation", "final observation")
        for name, theirs, mine in zip(names, *outputs, strict=True):
            if mine.tobytes() != theirs.tobytes():
                return [f"{what}: another {name} at step {t}"]
    for name, theirs, mine in zip(
        native.statistics._fields, native.statistics, ours.statistics, strict=True
    ):
        if mine.tobytes() != theirs.tobytes():
            return [f"{what}: another {name}"]
    same = ours.get_state().tobytes() == native.get_state().tobytes()
    return [] if same else [f"{what}: another state"]


def check_rollout(model: str, device: torch.device) -> list[str]:
    """Plays episodes by CUDA graph and without; on a CPU both are the plain loop."""
    config = TrainConfig(length=40, model=model, device=str(device))
    torch.manual_seed(0)
    network = build_network(config)
    epsilon = np.full((config.spec.episode_length, 16), 0.3)
    played, said = [], ""
    for chunk in (16, 0):
        spec = make_tmaze_spec("gpu-check", config.task, **config.env_options)
        envs = DeviceTMaze(spec, num_envs=16, device=device, autoreset_mode="Disabled")
        envs.reset(seed=1)
        collector = DeviceCollector(envs, chunk=chunk)
        rng = np.random.default_rng(2)
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            for _ in range(2):
                episodes = collector.collect(network, epsilon=epsilon, rng=rng)
        envs.check()
        if chunk and device.type == "cuda" and not collector.captured:
            said = "; ".join(one_line(Warning(note.message)) for note in notes)
        played.append(episodes)
    failures = [f"rollout of {model} without CUDA graphs: {said}"] if said else []
    for name in ("obs", "actions", "rewards", "returns", "success", "cue_seen"):
        graphed, plain = (getattr(episodes, name) for episodes in played)
        if not np.array_equal(graphed, plain):
            failures.append(f"rollout of {model}: other {name} by CUDA graph than without")
    return failures


def time_steps(num_envs: int, impl: Impl, device: torch.device) -> dict[str, Any]:
    """Steps a second of the paper's task, episodes ending and beginning all the time."""
    spec = make_tmaze_spec("gpu-check", "PassiveTMaze", length=1000)
    envs = DeviceTMaze(spec, num_envs=num_envs, device=device, stagger=True, impl=impl)
    envs.reset(seed=0)
    generator = torch.Generator(device).manual_seed(0)
    shape = (STEPS, num_envs)
    actions = torch.randint(
        0, NUM_ACTIONS, shape, generator=generator, dtype=torch.uint8, device=device
    )
    touched = step_bytes(spec)
    source = torch.zeros(num_envs * touched // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def steps() -> None:
        for row in actions:
            envs.core.step(row)

    def copies() -> None:
        for _ in range(STEPS):
            target.copy_(source)

    times = {}
    for name, work in (("steps", steps), ("copies", copies)):
        replay = _captured(work, device)
        replay()
        once = _seconds(replay, 1, device)
        calls = max(1, min(1000, round(_SECONDS / once)))
        times[name] = statistics.median(_seconds(replay, calls, device) for _ in range(_TURNS))
    envs.check()
    rate = num_envs * STEPS / times["steps"]
    return {
        "num_envs": num_envs,
        "impl": impl,
        "microseconds": 1e6 * times["steps"] / STEPS,
        "steps_per_second": rate,
        "bytes_per_step": touched,
        "gbps": rate * touched / 1e9,
        "copy_gbps": num_envs * STEPS * touched / times["copies"] / 1e9,
        "share_of_copy": times["copies"] / times["steps"],
    }


def step_bytes(spec: TMazeSpec) -> int:
    """Bytes that one env's step reads and writes at least, in an episode that goes on.

    Its action (uint8); x, t, flags and the two counts, read and written; observation, reward, end.
    """
    return 1 + 2 * 5 * 4 + 4 * spec.obs_dim + 4 + 1


def _captured(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The work as a CUDA graph's replay; on a CPU the work itself."""
    if device.type != "cuda":
        return work
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        work()
    return graph.replay


def _seconds(work: Callable[[], None], calls: int, device: torch.device) -> float:
    """Seconds a call, of so many one after the other."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls
    begin = record_event()
    for _ in range(calls):
        work()
    end = record_event()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / calls
