"""FastMaze's learner as a contender of `fastmaze bench update`, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from fastmaze.bench.ceilings import PRECISIONS, float32_precision
from fastmaze.bench.update_parts import Recorder, Work, taken_apart
from fastmaze.bench.update_turns import Figures, PeakMemory, Turns, serve
from fastmaze.envs.vector import make_vec
from fastmaze.specs import NUM_ACTIONS
from fastmaze.training.config import TrainConfig
from fastmaze.training.learner import Learner
from fastmaze.training.rollout import exploration

_RIGHT = 0
"""The action along the corridor."""
_BATCHES = 16
"""Batches of episodes in the replay, as far as it has room for them."""
_GPU_UPDATES = 10
"""Updates of one turn on a GPU, which is waited for after the last of them."""


def set_up(setting: Figures) -> tuple[Figures, Turns]:
    """Makes a learner whose replay holds a batch of episodes.

    Args:
        setting: "config" (fields of `TrainConfig`), "precision" (of `PRECISIONS`), "threads" and
            "practised" (see `fill_replay`).
    """
    torch.set_num_threads(setting["threads"])
    torch.manual_seed(0)
    precision = setting["precision"]
    device = torch.device(setting["config"]["device"])
    on_gpu = device.type == "cuda"
    config = TrainConfig(
        updates_per_round=_GPU_UPDATES if on_gpu else 1,
        compute_dtype="bfloat16" if precision == "bf16" else "float32",
        **setting["config"],
    )
    learner = Learner(config)
    fill_replay(learner, practised=setting["practised"])
    updates = config.hyper.updates_per_round
    memory: list[PeakMemory] = []

    def timed(work: Callable[[], object], calls: int = 1) -> Figures:
        with float32_precision(PRECISIONS[precision].float32):
            start, busy = time.perf_counter(), time.process_time()
            work()
            if on_gpu:
                torch.cuda.synchronize()
            busy = (time.process_time() - busy) / calls
            return {"seconds": (time.perf_counter() - start) / calls, "cpu_seconds": busy}

    def update() -> Figures:
        if not memory:
            memory.append(PeakMemory(torch if on_gpu else None))
        return timed(learner.learn, updates)

    def rollout() -> Figures:
        steps = config.hyper.num_envs * config.spec.episode_length
        return {**timed(learner.collect), "env_steps": steps}

    def parts(work: Callable[[], object], calls: int) -> Figures:
        recorder = Recorder(device)
        with taken_apart(learner, recorder):
            recorder.begin("rest")
            timed(work)
            seconds = recorder.seconds()
        return {"parts": {name: value / calls for name, value in seconds.items()}}

    def count() -> Figures:
        """Floating-point operations and bytes of an update, by part."""
        recorder = Recorder(device)
        with taken_apart(learner, recorder), Work(recorder) as work:
            recorder.begin("rest")
            learner.learn()
        return {
            "flops": {name: count // updates for name, count in recorder.flops.items()},
            "bytes": {name: count // updates for name, count in work.bytes.items()},
        }

    facts = {
        "parameters": sum(p.numel() for p in learner.online.parameters()),
        "torch": torch.__version__,
        "envs": config.hyper.num_envs,
    }
    turns: Turns = {
        "update": update,
        "update parts": lambda: parts(learner.learn, updates),
        "rollout": rollout,
        "rollout parts": lambda: parts(learner.collect, 1),
        "work": count,
        "memory": lambda: memory[0].figures(),
    }
    return facts, turns


def fill_replay(learner: Learner, *, practised: bool = False) -> None:
    """Keeps so many episodes that a batch seldom holds one of them twice.

    Args:
        learner: of a run in a passive maze.
        practised: walk right, with random actions at the run's own chances, as an agent does that
            knows the corridor; else walk at random throughout.
    """
    hyper, spec, size = learner.hyper, learner.spec, learner.hyper.batch_size
    rng = np.random.default_rng(0)
    chance = exploration(
        spec,
        size,
        epsilon=hyper.epsilon,
        spread=hyper.epsilon_spread,
        first_step=hyper.first_step_epsilon,
        last_step=hyper.last_step_epsilon,
    )
    options = learner.config.env_options
    envs = make_vec(learner.config.task, num_envs=size, autoreset_mode="Disabled", **options)
    for number in range(_BATCHES):
        first, _ = envs.reset(seed=None if number else 0)
        actions = rng.integers(0, NUM_ACTIONS, chance.shape).astype(np.uint8)
        if practised:
            explore = rng.random(chance.shape) < chance
            actions = np.where(explore, actions, _RIGHT).astype(np.uint8)
        played = envs.unroll(actions)
        learner.replay.add(np.concatenate([first[None], played.obs]), actions, played.reward)
    envs.close()


if __name__ == "__main__":
    serve(set_up)
