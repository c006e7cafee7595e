"""The published code of Ni et al. 2023, as a contender of `fastmaze bench update`.

Run as a script, by whichever Python has what the code needs, with the checkout's path in the
setting (github.com/twni2016/Memory-RL). Its own `Learner` is made as its main.py makes it, and then
plays and learns with its own methods: nothing of the path that is measured is replaced.

What its imports want and the path does not need is stood in for, where it is not installed:
- the source encoding "future_fstrings": read as UTF-8, which it is to this Python;
- gym: gymnasium, of which the T-Maze uses the names Env, spaces.Box and spaces.Discrete alone. The
  maze is made directly, without the wrappers of gym.make, which would only slow it down;
- optax: its linear schedule, for the rate of random actions, as two lines of Python. It is asked
  once a step, where optax's own would go through jax and be slower;
- matplotlib, tensorboard: modules without contents; nothing is drawn or logged.

Needed are torch, transformers (4.40 is known to work, 5 has dropped what the code imports),
ml_collections and python-dateutil.
"""

from __future__ import annotations

import codecs
import importlib
import importlib.util
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEEDED = {
    "torch": "torch",
    "transformers": "'transformers==4.40.2'",
    "ml_collections": "ml_collections",
    "dateutil": "python-dateutil",
}
"""Module to what pip calls it."""

_RANDOM_EPISODES = 10
"""In the replay before the first update, as published; batches are drawn with replacement."""


def set_up(setting: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """Makes a learner of the published code whose replay holds some random episodes.

    Args:
        setting: "checkout", "length" (steps of an episode), "model" (gpt or lstm), "batch",
            "threads" and "device".

    Raises:
        ImportError: something that is needed is not installed.
    """
    missing = [pip for name, pip in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{sys.executable} -m pip install {' '.join(missing)}")
    checkout = setting["checkout"]
    # In place of this script's folder, whose `envs` would hide theirs.
    sys.path[0] = checkout
    _stand_in()
    import torch

    torch.set_num_threads(setting["threads"])
    on_gpu = torch.device(setting["device"]).type == "cuda"
    importlib.import_module("torchkit.pytorch_utils").set_gpu_mode(on_gpu)
    learner = _learner(setting["length"], setting["model"], setting["batch"])
    learner._start_training()
    learner.collect_rollouts(_RANDOM_EPISODES, random_actions=True)
    memory: list[Any] = []

    def timed(work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
        start, busy = time.perf_counter(), time.process_time()
        result = work()
        if on_gpu:
            torch.cuda.synchronize()
        busy = time.process_time() - busy
        return {"seconds": time.perf_counter() - start, "cpu_seconds": busy}, result

    def update() -> dict[str, Any]:
        if not memory:
            memory.append(_turns().PeakMemory(torch if on_gpu else None))
        return timed(lambda: learner.update(1))[0]

    def rollout() -> dict[str, Any]:
        times, steps = timed(lambda: learner.collect_rollouts(1))
        return {**times, "env_steps": steps}

    parameters = sum(p.numel() for p in learner.agent.critic.parameters())
    facts = {"parameters": parameters, "torch": torch.__version__, "envs": 1}
    turns = {"update": update, "rollout": rollout, "memory": lambda: memory[0].figures()}
    return facts, turns


def _learner(length: int, model: str, batch: int) -> Any:
    """What main.py makes, for a passive T-Maze whose episodes have `length` steps."""
    env_config, rl_config, seq_config = (
        importlib.import_module(f"configs.{name}").get_config()
        for name in ("envs.tmaze_passive", "rl.dqn_default", f"seq_models.{model}_default")
    )
    corridor = length - 1
    maze = importlib.import_module("envs.tmaze").TMazeClassicPassive
    env = maze(corridor_length=corridor, penalty=-1.0 / corridor)
    env.max_episode_steps = length
    seq_config, _ = seq_config.name_fn(seq_config, length)
    episodes = 1_000
    rl_config, _ = rl_config.name_fn(rl_config, length, episodes * length)
    flags = types.SimpleNamespace(
        batch_size=batch,
        freeze_critic=False,
        shared_encoder=False,
        start_training=_RANDOM_EPISODES,
        train_episodes=episodes,
        updates_per_step=0.25,
    )
    learner = importlib.import_module("policies.learner").Learner
    return learner(env, env, flags, rl_config, seq_config, env_config)


def _stand_in() -> None:
    """Inserts the stand-ins that this file's docstring lists."""
    try:
        codecs.lookup("future_fstrings")
    except LookupError:
        codecs.register(lambda n: codecs.lookup("utf-8") if n == "future_fstrings" else None)
    if importlib.util.find_spec("gym") is None:
        gymnasium = importlib.import_module("gymnasium")
        names = ("envs", "envs.registration", "spaces", "wrappers")
        for name in names:
            sys.modules[f"gym.{name}"] = importlib.import_module(f"gymnasium.{name}")
        sys.modules["gym"] = gymnasium
    if importlib.util.find_spec("optax") is None:
        _insert("optax", linear_schedule=_linear_schedule)
    if importlib.util.find_spec("matplotlib") is None:
        _insert("matplotlib", pyplot=_insert("matplotlib.pyplot"))
    if all(importlib.util.find_spec(name) is None for name in ("tensorboardX", "tensorboard")):
        _insert("tensorboardX", SummaryWriter=None)


def _insert(name: str, **contents: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module
    return module


class _Number(float):
    """A float that is asked for its value as an array is."""

    def item(self) -> float:
        return float(self)


def _linear_schedule(
    init_value: float, end_value: float, transition_steps: int
) -> Callable[[int], _Number]:
    def at(step: int) -> _Number:
        return _Number(init_value + (end_value - init_value) * min(1, step / transition_steps))

    return at


def _turns() -> Any:
    """The module beside this file, loaded by path: the package may not be installed here."""
    if "update_turns" not in sys.modules:
        path = Path(__file__).with_name("update_turns.py")
        spec = importlib.util.spec_from_file_location("update_turns", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot load {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules["update_turns"] = module
        spec.loader.exec_module(module)
    return sys.modules["update_turns"]


if __name__ == "__main__":
    _turns().serve(set_up)
