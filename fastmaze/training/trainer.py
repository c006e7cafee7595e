"""One run from beginning to end: collect, learn, evaluate, log, checkpoint, and again."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Final

import torch

from fastmaze.models.own_model import short_name
from fastmaze.training.checkpoint import Checkpoint, join_parts, save_checkpoint
from fastmaze.training.checkpoint_series import CheckpointPace, CheckpointSeries
from fastmaze.training.config import TrainConfig
from fastmaze.training.data_parallel import Processes, meet, name_of
from fastmaze.training.divergence import check_finite
from fastmaze.training.evaluation import EVAL_SEED, SOLVED, EvalResult, Evaluator
from fastmaze.training.free_memory import free_memory
from fastmaze.training.interruption import Interruption, interruption
from fastmaze.training.learner import Learner
from fastmaze.training.logging import Line, RunLog, rates, read_log
from fastmaze.training.memory import plan_memory
from fastmaze.training.outcomes import Outcomes
from fastmaze.training.progress import Progress
from fastmaze.training.result import TrainResult
from fastmaze.training.resuming import Start, Tally, find_start, versions, with_budget
from fastmaze.training.run_directory import (
    BEST_FILE,
    check_free,
    locked,
    new_directory,
    read_config,
    write_config,
)
from fastmaze.training.torch_settings import (
    check_attention,
    check_compute_dtype,
    check_device,
    generator_state,
    set_generator_state,
    torch_settings,
)

ECHO_SECONDS: Final = 5.0
"""A signal may come twice, from the terminal and from torchrun, this far apart."""


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    progress: bool = True,
    allow_other_version: bool = False,
) -> TrainResult:
    """Trains an agent.

    The first Ctrl-C or SIGTERM ends the run after the round under way, with a checkpoint.

    Args:
        config: the run.
        resume: go on from the last checkpoint in `config.directory` instead of starting there;
            the budget may be another (`num_episodes`, `stop_after_solved`, `max_minutes`).
        progress: show how it goes: a bar on a terminal, lines elsewhere.
        allow_other_version: resume what another version of FastMaze wrote; results may differ.

    Returns:
        What came of it; the rest is in the run's directory.

    Where torchrun started several processes, each calls this; see `data_parallel`.

    Raises:
        ValueError: there is no such device; the run does not fit the memory; the directory is in
            use or cannot be written; or (resuming) the checkpoint belongs to another configuration
            or version, or is damaged. Nothing has been written over.
        FileNotFoundError: resuming, but there is nothing to resume.
        DivergedError: the loss or the weights are not finite any more.
        OSError: the disk is full. This and the one above leave the last checkpoint as it was.
    """
    began = time.perf_counter()
    check_device(config.device)
    check_compute_dtype(config)
    check_attention(config)
    with meet(config) as processes:
        # A function of its own, so that nothing here holds the processes' group when they part.
        return _train(config, processes, resume, progress, allow_other_version, began)


def _train(
    config: TrainConfig,
    processes: Processes,
    resume: bool,
    progress: bool,
    allow_other_version: bool,
    began: float,
) -> TrainResult:
    """`train`, in one of the processes that met."""
    device = torch.device(config.device)
    with contextlib.ExitStack() as stack:
        progress = progress and processes.first
        stack.enter_context(torch_settings(config))
        torch.manual_seed(config.seed)
        start = None
        if resume:
            run_dir = config.directory
            before = read_config(run_dir)
            if processes.first:
                stack.enter_context(locked(run_dir))
            series = CheckpointSeries(run_dir, config.keep_checkpoints)
            start = find_start(config, run_dir, series, allow_other_version=allow_other_version)
        elif processes.first:
            check_free(config)
        memory = plan_memory(config, processes.size)
        memory.check(
            {name: free_memory(name) // _sharing(name, processes) for name in memory.devices}
        )
        if progress:
            print(memory.describe(), flush=True)
        learner = Learner(config, processes, memory)
        stack.callback(learner.close)
        evaluator = Evaluator(config, config.eval_episodes, processes)
        stack.callback(evaluator.close)
        if start is not None:
            learner.set_state(start.checkpoint)
            generator = start.checkpoint.part(name_of("generator", processes.rank))
            set_generator_state(device, generator)
            start.checkpoint = Checkpoint({}, {})  # lets go of the file
        if not resume:
            # Last: whatever fails before this leaves nothing behind.
            run_dir = config.directory
            if processes.first:
                run_dir = stack.enter_context(new_directory(config))
            run_dir = processes.from_first(run_dir)
            series = CheckpointSeries(run_dir, config.keep_checkpoints)
        if processes.first and (not resume or before.hyper != config.hyper):
            write_config(run_dir, config)
        run = _Run(config, run_dir, series, learner, evaluator, start, progress, began)
        stack.callback(run.close)
        return run.go()


def _sharing(device: str, processes: Processes) -> int:
    """How many processes share a device's memory: each has its own GPU."""
    return processes.on_host if device == "cpu" else 1


def resume_training(
    run_dir: Path | str,
    *,
    num_episodes: int | None = None,
    stop_after_solved: int | None = None,
    max_minutes: float | None = None,
    progress: bool = True,
    allow_other_version: bool = False,
) -> TrainResult:
    """Goes on with a run from its last checkpoint, bit for bit on a CPU.

    Args:
        run_dir: the run's directory.
        num_episodes: another budget, e.g. to train a finished run on.
        stop_after_solved: as in `TrainConfig`, instead of the run's; 0 for never.
        max_minutes: as in `TrainConfig`, for this process.
        progress: as in `train`.
        allow_other_version: as in `train`.

    Raises:
        FileNotFoundError: there is nothing to resume.
        ValueError: the checkpoint is damaged, or its configuration or version is another; or the
            budget is less than what has been played.
    """
    run_dir = Path(run_dir)
    config = with_budget(
        dataclasses.replace(read_config(run_dir), run_dir=run_dir),
        num_episodes=num_episodes,
        stop_after_solved=stop_after_solved,
        max_minutes=max_minutes,
    )
    return train(config, resume=True, progress=progress, allow_other_version=allow_other_version)


class _Run:
    """A run in its directory; `go` does it."""

    def __init__(
        self,
        config: TrainConfig,
        run_dir: Path,
        series: CheckpointSeries,
        learner: Learner,
        evaluator: Evaluator,
        start: Start | None,
        progress: bool,
        began: float,
    ) -> None:
        self.config, self.run_dir, self.series = config, run_dir, series
        self.learner, self.evaluator = learner, evaluator
        self.processes = learner.processes
        self.tally = Tally() if start is None else start.tally
        self.notes = [] if start is None else start.notes
        self.first_round = learner.round
        self.saved_round: int | None = None if start is None else learner.round
        """Round of the last checkpoint."""
        self.pace = CheckpointPace(config.checkpoint_seconds, config.checkpoint_every)
        self.log: RunLog | None = None
        if self.processes.first:
            self.log = RunLog(run_dir, self.tally.log_position, learner.round + 1)
        self.progress = Progress(config.num_rounds, learner.round, progress)
        self.began = began
        self.started = time.perf_counter() - self.tally.seconds

    def go(self) -> TrainResult:
        """All rounds that are left, and the end."""
        self._say_hello()
        with interruption(ECHO_SECONDS if self.processes.several else 0.0) as asked:
            try:
                if self.saved_round is None or self.notes:
                    self._save()
                while not (self._done or self._leaving(asked)):
                    line = self._round()
                    if self.log is not None:
                        self.log.write(line)
                    self.progress.update(line)
                    if self.processes.from_first(self.pace.due(self.learner.round)):
                        self._save()
                if self.saved_round != self.learner.round:
                    self._save()
            except OSError as error:
                raise self._advise(error) from error
        self.progress.close()
        if self._agree(asked):  # also waits for the first to have written the checkpoint
            if self.processes.first:
                say = f"interrupted; go on with: fastmaze train --resume {self.run_dir}"
                print(say, flush=True)
            asked.leave()
        if not self._done:
            self.progress.note(f"stopped after max_minutes, {self.config.max_minutes:g}")
        return self._result()

    @property
    def _solved(self) -> bool:
        """Whether the task was solved often enough in a row to end the run."""
        return 0 < self.config.hyper.stop_after_solved <= self.tally.solved_in_a_row

    @property
    def _done(self) -> bool:
        """Whether the budget is spent, or the task solved often enough in a row."""
        return self._solved or self.learner.round >= self.config.num_rounds

    @property
    def _late(self) -> bool:
        """Whether this process has had its minutes, and has done a round at least."""
        minutes = self.config.max_minutes
        if minutes is None or self.learner.round == self.first_round:
            return False
        return time.perf_counter() - self.began >= 60.0 * minutes

    def _leaving(self, asked: Interruption) -> bool:
        """Whether to end early: all processes do if one is late, or was asked to."""
        late = any(self.processes.gather(self._late))
        return self._agree(asked) or late

    def _agree(self, asked: Interruption) -> bool:
        """Whether any process was asked to end before this; waits for all."""
        signals = [number for number in self.processes.gather(asked.signal) if number is not None]
        if signals:
            asked.signal = signals[0]
        return bool(signals)

    def _round(self) -> Line:
        """Collects, learns, and evaluates when it is time."""
        learner = self.learner
        updates = learner.updates
        epsilon = learner.epsilon  # of this round: `collect` goes on to the next
        # Both wait for the device at their end: what they bring along is on the CPU.
        clock = [time.perf_counter()]
        episodes = learner.collect()
        clock.append(time.perf_counter())
        stats = learner.learn().told()
        clock.append(time.perf_counter())
        check_finite(
            stats,
            {"online": learner.online, "target": learner.target},
            round_=learner.round,
            updates=(updates, learner.updates),
            advice=f"The last good checkpoint, of round {self.saved_round}, is untouched in "
            f"{self.run_dir}; the same steps from there lead here again",
        )
        line = self._line(episodes, epsilon) | stats
        line |= rates(
            self.config, clock[1] - clock[0], clock[2] - clock[1], learner.updates - updates
        )
        last = learner.round == self.config.num_rounds
        if last or learner.round % self.config.eval_rounds == 0:
            result = self._evaluate()
            line |= {
                "eval_episodes": result.num_episodes,
                "eval_success": result.success,
                "eval_return": result.mean_return,
                **{f"eval_{name}": share for name, share in result.shares.items()},
            }
            if result.recall is not None:
                line["eval_recall"] = result.recall
        line["seconds"] = round(self._seconds, 3)
        return line

    def _line(self, episodes: Outcomes, epsilon: float) -> Line:
        hyper, learner = self.config.hyper, self.learner
        played = learner.round * hyper.num_envs
        return {
            "round": learner.round,
            "episodes": played,
            "env_steps": played * self.config.spec.episode_length,
            "updates": learner.updates,
            "train_success": float(episodes.success.mean()),
            "train_return": float(episodes.returns.mean()),
            **{f"train_{name}": share for name, share in episodes.shares().items()},
            "epsilon": epsilon,
        }

    def _evaluate(self) -> EvalResult:
        """Fresh mazes each time, drawn apart from the run's own random numbers."""
        config, tally = self.config, self.tally
        seed = EVAL_SEED // 2 + (config.seed << 31) + self.learner.round
        result = self.evaluator.evaluate(self.learner.acting, seed, until_failed=True)
        tally.final_success = result.success
        tally.solved_in_a_row = tally.solved_in_a_row + 1 if result.solved else 0
        self.learner.settle(tally.solved_in_a_row)
        if result.solved and tally.solved_after is None:
            tally.solved_after = self._seconds
            self.progress.note(f"solved after {tally.solved_after:.0f} s")
        # Of equals the latest, which has been held on to for longer.
        if (result.success, result.mean_return) >= (tally.best_success, tally.best_return):
            tally.best_success, tally.best_return = result.success, result.mean_return
            self._save_best()
        return result

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    def _save(self) -> None:
        """The checkpoint; the log is on the disk before it, for the checkpoint counts on it."""
        began = time.perf_counter()
        tensors, values = self.learner.get_state()
        generator = generator_state(torch.device(self.config.device))
        generators = self.processes.gather_first(generator)
        self.tally.seconds = self._seconds
        if self.log is None:
            self.saved_round = self.learner.round
            return
        self.log.sync()
        self.tally.log_position = self.log.position
        tensors |= join_parts(
            **{name_of("generator", rank): state for rank, state in enumerate(generators)}
        )
        metadata = {
            "config": self.config.to_json(),
            "versions": versions(),
            "learner": values,
            "tally": dataclasses.asdict(self.tally),
        }
        self.series.save(Checkpoint(tensors, metadata))
        self.saved_round = self.learner.round
        self.pace.saved(time.perf_counter() - began)

    def _save_best(self) -> None:
        if not self.processes.first:
            return
        name = "target" if self.config.hyper.act_with_target else "online"
        tensors = join_parts(**{name: self.learner.acting.state_dict()})
        metadata = {
            "config": self.config.to_json(),
            "success": self.tally.best_success,
            "return": self.tally.best_return,
        }
        save_checkpoint(self.run_dir / BEST_FILE, Checkpoint(tensors, metadata))

    def _advise(self, error: OSError) -> OSError:
        """What a full disk means for the run, beside the path and the system's own words."""
        if error.filename is None:
            return error
        kept = (
            "nothing is lost"
            if self.saved_round is None
            else f"the last checkpoint, of round {self.saved_round}, is whole"
        )
        return OSError(
            error.errno,
            f"{error.strerror}; {kept}: when this is mended, go on with "
            f"`fastmaze train --resume {self.run_dir}`",
            error.filename,
        )

    @property
    def _by_many(self) -> str:
        size = self.processes.size
        return f"by {size} processes, " if size > 1 else ""

    def _say_hello(self) -> None:
        config, hyper = self.config, self.config.hyper
        self.progress.note(
            f"{config.task} of length {config.length}, {config.algorithm} with "
            f"{short_name(config.model)}, "
            f"{hyper.num_episodes:,} episodes in {config.num_rounds:,} rounds, "
            f"{self._by_many}in {self.run_dir}"
        )
        for note in self.notes:
            self.progress.note(note)
        if self._solved:
            self.progress.note(
                f"finished already: the last {self.tally.solved_in_a_row} evaluations found it "
                f"solved; to train on: fastmaze train --resume {self.run_dir} "
                "--stop-after-solved 0"
            )
        if self.learner.round >= config.num_rounds:
            self.progress.note(
                f"finished already: all {hyper.num_episodes:,} episodes are played; to train on: "
                f"fastmaze train --resume {self.run_dir} --num-episodes "
                f"{2 * config.num_rounds * hyper.num_envs}"
            )

    def _result(self) -> TrainResult:
        tally, learner = self.tally, self.learner
        steps = learner.round * self.config.hyper.num_envs * self.config.spec.episode_length
        return TrainResult(
            run_dir=self.run_dir,
            finished=self._done,
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
        """Closes the files."""
        self.progress.close()
        if self.log is not None:
            self.log.close()
