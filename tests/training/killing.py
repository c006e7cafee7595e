"""Training processes that are born, killed, and born again; test_survival_kills.py runs this.

A process of its own, so that PyTorch is imported once, and each life is a fork of a process without
threads. Usage: killing.py HOW CONFIG_AS_JSON DIRECTORY COUNT. Prints what happened, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastmaze.training import TrainConfig, resume_training, train
from fastmaze.training.logging import read_log

DISK_CALLS = ("chmod", "fsync", "mkdir", "replace", "rmdir", "unlink")
"""Functions of `os` between which a process is killed on purpose."""


def live(config: TrainConfig) -> None:
    """What a person would do: begin, or go on where there is something to go on with."""
    if (config.directory / "config.json").exists():
        resume_training(config.directory, progress=False)
    else:
        train(config, progress=False)


def born(life: Callable[[], None]) -> int:
    """Forks a process that ends with status 0 after its life, or 1 with a traceback."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            life()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def lived_to_the_end(pid: int) -> bool:
    """Waits; False if it was killed."""
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        raise SystemExit("a life ended with an error")
    return True


def kill_at_random(config: TrainConfig, where: Path, count: int) -> dict[str, Any]:
    """SIGKILL after a random time, again and again, then a life that may finish.

    How long each may live is reckoned from an uninterrupted run, so that the run seldom finishes
    before the last kill; where it does, another one is begun.
    """
    whole = dataclasses.replace(config, run_dir=where / "whole")
    began = time.monotonic()
    lived_to_the_end(born(lambda: live(whole)))
    seconds = time.monotonic() - began
    rounds = [line["seconds"] for line in read_log(whole.directory)]
    birth, a_round = seconds - rounds[-1] + rounds[0], (rounds[-1] - rounds[0]) / len(rounds)

    # Which moments they are differs from test to test; a failure says with which number.
    seed = int.from_bytes(os.urandom(4))
    rng = random.Random(seed)
    runs: list[str] = []
    ages: list[int] = []
    killed = config
    while len(ages) < count:
        name = f"killed-{len(runs)}"
        killed = dataclasses.replace(config, run_dir=where / name)
        runs.append(name)
        while len(ages) < count:
            left = config.num_rounds - len(read_log(killed.directory))
            longest = birth + 0.9 * a_round * left / (count - len(ages))
            pid = born(lambda config=killed: live(config))  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, longest))
            os.kill(pid, signal.SIGKILL)
            if lived_to_the_end(pid):
                break
            age = len(read_log(killed.directory))
            # Other work on the machine may have made births longer than they were, or shorter.
            birth *= 0.95 if age > config.num_rounds - left else 1.1
            ages.append(age)
    lived_to_the_end(born(lambda: live(killed)))
    return {"runs": runs, "rounds_when_killed": ages, "seed": seed}


def kill_at_every_call(config: TrainConfig, where: Path, count: int) -> dict[str, Any]:
    """The n-th life dies before its n-th call to the file system; odd ones begin a new run.

    The new ones are finished at once; the others are one run that goes on from life to life.
    """
    lived_to_the_end(born(lambda: live(dataclasses.replace(config, run_dir=where / "whole"))))
    runs, died = ["going-on"], 0
    for number in range(1, count + 1):
        names = ["going-on"]
        if number % 2:
            names.append(f"new-{number}")
            runs.append(names[-1])
        for name in names:
            run = dataclasses.replace(config, run_dir=where / name)

            def short_life(run: TrainConfig = run, number: int = number) -> None:
                die_before_call(number)
                live(run)

            died += not lived_to_the_end(born(short_life))
            if name != "going-on":
                lived_to_the_end(born(lambda run=run: live(run)))  # type: ignore[misc]
    run = dataclasses.replace(config, run_dir=where / "going-on")
    lived_to_the_end(born(lambda: live(run)))
    return {"runs": runs, "died": died}


def die_before_call(number: int) -> None:
    """Kills this process before its call number `number` to one of DISK_CALLS."""
    calls = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in DISK_CALLS:
        setattr(os, name, counting(getattr(os, name)))


def main(how: str, config: str, directory: str, count: str) -> None:
    """Runs one of the two, and prints its report."""
    torch.set_num_threads(1)
    asked, where = TrainConfig.from_json(json.loads(config)), Path(directory)
    # A first run, so that what PyTorch imports late is there before the forks.
    one_round = dataclasses.replace(
        asked,
        run_dir=where / "first",
        num_episodes=max(asked.hyper.num_envs, asked.hyper.batch_size),
    )
    train(one_round, progress=False)
    kill = {"random": kill_at_random, "every-call": kill_at_every_call}[how]
    print(json.dumps(kill(asked, where, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
