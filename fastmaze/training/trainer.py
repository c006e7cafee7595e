"""One run from beginning to end: collect, learn, evaluate, log, checkpoint, and again."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastmaze.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    join_parts,
    load_checkpoint,
    save_checkpoint,
)
from fastmaze.training.config import TrainConfig
from fastmaze.training.evaluation import EVAL_SEED, SOLVED, EvalResult, Evaluator
from fastmaze.training.learner import Learner
from fastmaze.training.logging import Line, Progress, RunLog, read_log
from fastmaze.training.replay import replay_bytes
from fastmaze.training.rollout import Episodes

CONFIG_FILE = "config.json"
CHECKPOINT_FILE = "checkpoint.safetensors"
BEST_FILE = "best.safetensors"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of a run."""

    run_dir: Path
    """Where it is kept."""
    solved: bool
    """Whether an evaluation reached a success of 0.99."""
    solved_after: float | None
    """Seconds of training until it did, or None."""
    final_success: float
    """Success of the last evaluation."""
    best_success: float
    """Best success of all; its weights are in best.safetensors."""
    env_steps: int
    """Environment steps taken."""
    updates: int
    """Gradient updates done."""
    seconds: float
    """Wall-clock time, over all resumptions; evaluation and files included."""
    history: list[Line]
    """The lines of log.jsonl."""


@dataclass(slots=True)
class _Tally:
    """What a run remembers beside its learner."""

    seconds: float = 0.0
    solved_after: float | None = None
    final_success: float = 0.0
    solved_in_a_row: int = 0
    best_success: float = -1.0
    best_return: float = -float("inf")
    log_position: int = 0


def train(config: TrainConfig, *, resume: bool = False, progress: bool = True) -> TrainResult:
    """Trains an agent.

    Args:
        config: the run.
        resume: go on from the checkpoint in `config.directory` instead of starting there.
        progress: show how it goes: a bar on a terminal, a line per evaluation elsewhere.

    Returns:
        What came of it; the rest is in the run's directory.

    Raises:
        ValueError: the directory is in use or cannot be written, or (resuming) its checkpoint
            belongs to another configuration or is damaged. Nothing has been written over.
        FileNotFoundError: resuming, but there is nothing to resume.
    """
    run_dir = config.directory
    if resume:
        _read_config(run_dir)
    else:
        if config.run_dir is None:
            run_dir = _free_directory(run_dir)
        _make_directory(run_dir)
    with _locked(run_dir), _torch_settings(config):
        run = _Run(config, run_dir, resume, progress)
        try:
            return run.go()
        finally:
            run.close()


def resume_training(run_dir: Path | str, *, progress: bool = True) -> TrainResult:
    """Goes on with a run from its last checkpoint, bit for bit on a CPU.

    Args:
        run_dir: the run's directory.
        progress: as in `train`.

    Raises:
        FileNotFoundError: there is nothing to resume.
        ValueError: the checkpoint is damaged, or its configuration is another than config.json's.
    """
    run_dir = Path(run_dir)
    config = dataclasses.replace(_read_config(run_dir), run_dir=run_dir)
    return train(config, resume=True, progress=progress)


class _Run:
    """A run in its directory; `go` does it."""

    def __init__(self, config: TrainConfig, run_dir: Path, resume: bool, progress: bool) -> None:
        self.config, self.run_dir = config, run_dir
        self.tally = _Tally()
        torch.manual_seed(config.seed)
        # Read and compared before anything is made or written.
        checkpoint = self._load_checkpoint() if resume else None
        self.learner = Learner(config)
        self.evaluator = Evaluator(config, config.eval_episodes)
        if checkpoint is not None:
            self.learner.set_state(checkpoint)
        self.log = RunLog(run_dir, self.tally.log_position, self.learner.round + 1)
        self.progress = Progress(config.num_rounds, self.learner.round, progress)
        self.started = time.perf_counter() - self.tally.seconds
        if not resume:
            text = json.dumps(config.to_json(), indent=2) + "\n"
            (run_dir / CONFIG_FILE).write_text(text, encoding="utf-8")
            self._save()

    def _load_checkpoint(self) -> Checkpoint:
        path = self.run_dir / CHECKPOINT_FILE
        checkpoint = load_checkpoint(path)
        saved = TrainConfig.from_json(checkpoint.metadata["config"])
        different = self.config.differences(saved)
        if different:
            raise CheckpointError(
                f"{path}: belongs to another configuration; expected, got: " + "; ".join(different)
            )
        if "tally" not in checkpoint.metadata:
            raise CheckpointError(
                f"{path}: expected a checkpoint to resume from, got weights alone"
            )
        self.tally = _Tally(**checkpoint.metadata["tally"])
        return checkpoint

    def go(self) -> TrainResult:
        """All rounds that are left, and the end."""
        config = self.config
        self._say_hello()
        saved = time.perf_counter()
        with _interruption() as interrupted:
            while not self._done and not interrupted.is_set():
                line = self._round()
                self.log.write(line)
                self.progress.update(line)
                if time.perf_counter() - saved > config.checkpoint_seconds:
                    self._save()
                    saved = time.perf_counter()
        self._save()
        self.progress.close()
        if interrupted.is_set():
            print(f"interrupted; go on with: fastmaze train --resume {self.run_dir}", flush=True)
            raise KeyboardInterrupt
        return self._result()

    @property
    def _done(self) -> bool:
        """Whether the budget is spent, or the task solved often enough in a row."""
        enough = self.config.hyper.stop_after_solved
        solved = 0 < enough <= self.tally.solved_in_a_row
        return solved or self.learner.round >= self.config.num_rounds

    def _round(self) -> Line:
        """Collects, learns, and evaluates when it is time."""
        episodes = self.learner.collect()
        stats = self.learner.learn()
        line = self._line(episodes) | stats._asdict()
        last = self.learner.round == self.config.num_rounds
        if last or self.learner.round % self.config.eval_rounds == 0:
            result = self._evaluate()
            line |= {
                "eval_success": result.success,
                "eval_return": result.mean_return,
                "eval_cue_seen": result.cue_seen,
            }
        line["seconds"] = round(self._seconds, 3)
        return line

    def _line(self, episodes: Episodes) -> Line:
        hyper, learner = self.config.hyper, self.learner
        played = learner.round * hyper.num_envs
        return {
            "round": learner.round,
            "episodes": played,
            "env_steps": played * self.config.spec.episode_length,
            "updates": learner.updates,
            "train_success": float(episodes.success.mean()),
            "train_return": float(episodes.returns.mean()),
            "train_cue_seen": float(episodes.cue_seen.mean()),
        }

    def _evaluate(self) -> EvalResult:
        """Fresh mazes each time, drawn apart from the run's own random numbers."""
        config, tally = self.config, self.tally
        seed = EVAL_SEED // 2 + (config.seed << 31) + self.learner.round
        result = self.evaluator.evaluate(self.learner.acting, seed)
        tally.final_success = result.success
        tally.solved_in_a_row = tally.solved_in_a_row + 1 if result.solved else 0
        self.learner.settle(tally.solved_in_a_row)
        if result.solved and tally.solved_after is None:
            tally.solved_after = self._seconds
            self.progress.note(f"solved after {tally.solved_after:.0f} s")
        if (result.success, result.mean_return) > (tally.best_success, tally.best_return):
            tally.best_success, tally.best_return = result.success, result.mean_return
            self._save_best()
        return result

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def _save(self) -> None:
        """The checkpoint; the log is on the disk before it, for the checkpoint counts on it."""
        self.log.sync()
        self.tally.seconds = self._seconds
        self.tally.log_position = self.log.position
        tensors, values = self.learner.get_state()
        metadata = {
            "config": self.config.to_json(),
            "learner": values,
            "tally": dataclasses.asdict(self.tally),
        }
        save_checkpoint(self.run_dir / CHECKPOINT_FILE, Checkpoint(tensors, metadata))

    def _save_best(self) -> None:
        name = "target" if self.config.hyper.act_with_target else "online"
        tensors = join_parts(**{name: self.learner.acting.state_dict()})
        metadata = {"config": self.config.to_json(), "success": self.tally.best_success}
        save_checkpoint(self.run_dir / BEST_FILE, Checkpoint(tensors, metadata))

    def _say_hello(self) -> None:
        config, hyper = self.config, self.config.hyper
        size = replay_bytes(config.spec, config.replay_episodes) / 2**20
        self.progress.note(
            f"{config.task} of length {config.length}, {config.model}, {hyper.num_episodes:,} "
            f"episodes in {config.num_rounds:,} rounds, replay of {size:,.1f} MiB, "
            f"in {self.run_dir}"
        )

    def _result(self) -> TrainResult:
        tally, learner = self.tally, self.learner
        steps = learner.round * self.config.hyper.num_envs * self.config.spec.episode_length
        return TrainResult(
            run_dir=self.run_dir,
            solved=tally.best_success >= SOLVED,
            solved_after=tally.solved_after,
            final_success=tally.final_success,
            best_success=tally.best_success,
            env_steps=steps,
            updates=learner.updates,
            seconds=tally.seconds,
            history=read_log(self.run_dir),
        )

    def close(self) -> None:
        """Closes files and environments."""
        self.log.close()
        self.learner.close()
        self.evaluator.close()


def closing_words(result: TrainResult) -> str:
    """What to tell a person at a run's end: how it went, and how to watch and use it."""
    how = (
        f"solved after {result.solved_after:.0f} s"
        if result.solved_after is not None
        else f"not solved: best success {result.best_success:.3f}"
    )
    run = result.run_dir
    return (
        f"{how}; success at the end {result.final_success:.3f}; "
        f"{result.env_steps:,} steps, {result.updates:,} updates, {result.seconds:.0f} s\n"
        f"run:       {run}\n"
        f"watch:     tensorboard --logdir {run / 'tensorboard'}\n"
        f"evaluate:  fastmaze evaluate {run}\n"
        f"resume:    fastmaze train --resume {run}"
    )


def _read_config(run_dir: Path) -> TrainConfig:
    path = run_dir / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"run_dir: expected a run with a {CONFIG_FILE}, found none in {run_dir}"
        )
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return TrainConfig.from_json(values)


def _free_directory(run_dir: Path) -> Path:
    """The directory, or if it is taken the first of DIRECTORY-2, DIRECTORY-3 … that is not."""
    free, number = run_dir, 1
    while free.exists():
        number += 1
        free = run_dir.with_name(f"{run_dir.name}-{number}")
    return free


def _make_directory(run_dir: Path) -> None:
    """Makes an empty directory that can be written to."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if any(run_dir.iterdir()):
            raise ValueError(
                f"run_dir: expected a new or empty directory, {run_dir} holds files; go on with "
                f"`fastmaze train --resume {run_dir}`, or choose another"
            )
        probe = run_dir / ".lock"
        probe.touch()
    except OSError as error:
        raise ValueError(f"run_dir: cannot write to {run_dir}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Keeps a second process from training in the same directory."""
    try:
        file = open(run_dir / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"run_dir: cannot write to {run_dir}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"run_dir: another process is training in {run_dir}") from error
        except OSError:
            pass  # A file system without locks: nothing to hold on to.
        yield


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into an event, so that a round is never cut in half.

    The second one interrupts at once. Only the main thread can be asked for this.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, first)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _torch_settings(config: TrainConfig) -> Iterator[None]:
    """Threads, random numbers and precision of PyTorch; the caller gets its own back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), _float32_precision(config):
        try:
            torch.set_num_threads(config.num_threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _float32_precision(config: TrainConfig) -> Iterator[None]:
    """What `float32_precision` asks for, on a GPU alone."""
    if torch.device(config.device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if config.float32_precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
