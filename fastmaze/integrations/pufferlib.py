"""A population of mazes as a PufferLib `PufferEnv`: the native step writes into PufferLib's arrays.

PufferLib owns observations, rewards, terminals and truncations, often as slices of memory that its
processes share; a step computes straight into them, and copies nothing.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmaze.envs.backends import make_backend
from fastmaze.envs.backends.errors import Closed, NotReady
from fastmaze.envs.backends.validation import MAX_ENVS, check_actions, check_count
from fastmaze.envs.refusals import raise_refused
from fastmaze.envs.seeding import MAX_SEED, check_seed, population_indices, population_streams
from fastmaze.envs.spaces import action_space, observation_space
from fastmaze.requirements import require_trainer
from fastmaze.specs import TaskSpec, check_boolean, check_integer, make_spec


def _require_pufferlib() -> None:
    """Raises ImportError unless there is a PufferLib 3, as `pufferlib` or as `pufferlib-core`."""
    module = "fastmaze.integrations.pufferlib"
    # Older wheels of pufferlib-core miss a module or their kernels, and cannot be imported.
    package, at_least = "pufferlib-core", "3.0.18"
    with suppress(metadata.PackageNotFoundError):
        metadata.version("pufferlib")
        package, at_least = "pufferlib", "3.0"
    require_trainer(module, extra="pufferlib", at_least=at_least, package=package)
    found = metadata.version(package)
    if int(found.split(".")[0]) > 3:
        raise ImportError(
            f"{module} needs a PufferLib 3 (pufferlib-core 3.0.19 is known to work); found "
            f'{package} {found}: pip install "pufferlib-core>=3.0.18,<4"'
        )


_require_pufferlib()

import pufferlib  # noqa: E402
import pufferlib.vector  # noqa: E402

Array = npt.NDArray[Any]

StepResult = tuple[Array, Array, Array, Array, list[dict[str, float]]]

# What PufferLib's `set_buffers` gives an env.
_ARRAYS = (
    "observations", "rewards", "terminals", "truncations", "masks", "actions", "teacher_actions",
)  # fmt: skip

# What `pufferlib.vector.make` takes, but `make_puffer_vec` decides, and by which argument.
_TAKEN = {
    "num_envs": "use the argument num_envs, the copies in all",
    "num_workers": "use the argument num_workers",
    "backend": "use the argument vectorisation",
    "env_kwargs": "give the options to make_puffer_vec itself",
    "env_args": "give the options to make_puffer_vec itself",
    "env_creator_or_creators": "it is FastMazePufferEnv",
    "seed": "give it to async_reset or reset of what make_puffer_vec returns",
    "buf": "make a FastMazePufferEnv for arrays of your own",
}


class FastMazePufferEnv(pufferlib.PufferEnv):  # type: ignore[misc]
    """`num_envs` copies of one task as one `PufferEnv`, each copy an agent of it.

    A finished copy starts its next episode in the same step: with `terminals` comes the first
    observation of the next episode. `truncations` are always False.

    Several of these make one population: the one with number k in a vectorisation holds num_envs
    copies from `env_offset` + k * num_envs on, and `reset(seed)` of the vectorisation starts what
    `fastmaze.make_vec(..., autoreset_mode="SameStep").reset(seed=seed)` with that `env_offset`
    starts, for any number of them, as long as each worker has one and the vectorisation's own seed
    is 0 (`make_puffer_vec` sees to both, `pufferlib.vector.make` to the second).

    Pickles and deep copies go on bit for bit in arrays of their own.

    Args:
        task: its name, e.g. "PassiveTMaze" (see `fastmaze.TASKS`), or a spec, e.g. a
            `fastmaze.TMazeSpec`.
        num_envs: N, number of copies, PufferLib's `num_agents`.
        report_interval: steps between two reports of finished episodes in `infos`.
        env_offset: global index of the population's first copy; None is 0.
        buf: PufferLib's arrays; None makes own ones.
        seed: with `buf`, what PufferLib passes: the number of this one plus the vectorisation's
            seed, 0 in `pufferlib.vector.make`. Made directly with a seed S, a vectorisation has
            the copies from S * num_envs on, and its `reset(seed)` starts seed - S. Without `buf`,
            the seed of a first `reset` that names none. None draws that one, and counts as number
            0, so that each of a vectorisation's has its own seed.
        **task_options: the task's own, e.g. `length=1000`.
        backend, device, num_threads, stagger: see `fastmaze.make_vec`.

    Attributes:
        task_spec: what the task is.
        backend: what computes it.

    Raises:
        ValueError: an argument is out of range, or there is no such task or backend.
        TypeError: an argument has the wrong type, or the task has no such option.
    """

    def __init__(
        self,
        task: str | TaskSpec = "PassiveTMaze",
        *,
        num_envs: int = 1024,
        report_interval: int = 128,
        env_offset: int | None = None,
        backend: str = "native",
        device: str | None = None,
        num_threads: int = 1,
        stagger: bool = False,
        buf: Any = None,
        seed: int | None = 0,
        **task_options: Any,
    ) -> None:
        self.task_spec: Any = _spec_of(task, task_options)
        self.num_agents = check_count("num_envs", num_envs)
        self._number = 0
        self._first_seed: int | None = None
        if seed is None:
            self._first_seed = int(np.random.default_rng().integers(2**64, dtype=np.uint64))
        elif buf is None:
            self._first_seed = check_seed("seed", seed)
        else:
            self._number, self._first_seed = check_integer("seed", seed, 0, MAX_ENVS - 1), 0
        self._indices = _indices(env_offset, self._number, self.num_agents)
        self._stagger = check_boolean("stagger", stagger)
        self._interval = check_integer("report_interval", report_interval, 1, 2**31)
        self._num_threads, self._device = check_count("num_threads", num_threads), device
        self.single_observation_space = observation_space(self.task_spec)
        self.single_action_space = action_space(self.task_spec)
        super().__init__(buf)
        self._attach(backend)
        self._no_infos: list[dict[str, float]] = []
        self._forget()

    def _attach(self, name: str) -> None:
        """Makes the backend and what hangs on it: all that a pickle leaves out."""
        self.backend = make_backend(
            name, self.task_spec, self.num_agents, "SameStep", self._num_threads, self._device
        )
        self._step = self.backend.step
        self._outputs = (self.observations, self.rewards, self.terminals, self.truncations)

    @property
    def num_envs(self) -> int:
        """Number of copies, N."""
        return self.num_agents

    @property
    def agents_per_batch(self) -> int:
        """N, under the name that PufferLib's trainer asks a lone `PufferEnv` for."""
        return self.num_agents

    def reset(self, seed: int | None = None) -> tuple[Array, list[dict[str, float]]]:
        """Starts the next episode of every copy, and clears what was noted of finished ones.

        Args:
            seed: an integer, 0 to 2**64 - 1, seeds the population; a vectorisation adds each one's
                number, which is taken off again. None goes on.

        Returns:
            PufferLib's observations, of `task_spec.obs_dtype`, [N, *task_spec.obs_shape], and no
            infos. Rewards, terminals and truncations become zero, and masks True.

        Raises:
            ValueError: the seed is out of range.
            TypeError: the seed is not an integer.
            ClosedEnvironmentError: the env was closed.
        """
        if seed is None:
            seed = self._first_seed
        else:
            seed = check_integer("seed", seed, 0, MAX_SEED + self._number)
            seed = (seed - self._number) & MAX_SEED
        streams = (None, None, None)
        if seed is not None:
            streams = population_streams(seed, self._indices)  # type: ignore[assignment]
        try:
            self.backend.reset(self.observations, None, None, self._stagger, *streams)
        except Closed as error:
            raise_refused(error)
        self._first_seed = None
        self.rewards[:] = 0
        self.terminals[:] = False
        self.truncations[:] = False
        self.masks[:] = True
        self._forget()
        return self.observations, []

    def step(self, actions: Array) -> StepResult:
        """Steps every copy once.

        Args:
            actions: int32 (PufferLib's own), int64, int8 or uint8 [N].

        Returns:
            PufferLib's observations, rewards float32 [N], terminals bool [N] and truncations
            bool [N], all written in place, and infos: empty, or after `report_interval` steps, if
            episodes have ended, one dict with their means ("episode_return", "episode_length",
            "success", the task's own flag, and "score", the success again, which PufferLib's
            sweeps look for) and their number "n".

        Raises:
            ValueError: a wrong shape or value; no copy has moved.
            TypeError: a wrong dtype; no copy has moved.
            ResetNeeded: before the first reset.
            ClosedEnvironmentError: the env was closed.
        """
        if type(actions) is not np.ndarray or not actions.flags.c_contiguous:
            actions = np.ascontiguousarray(actions)
        try:
            num_ended = self._step(actions, *self._outputs)
        except (NotReady, Closed) as error:
            raise_refused(error)
        if num_ended:
            self._note(num_ended)
        self._steps += 1
        infos = self._no_infos
        if self._steps >= self._interval:
            infos = self._report()
        return (*self._outputs, infos)

    def close(self) -> None:
        """Frees the copies; the arrays stay. Every later call but `close` raises."""
        with suppress(Closed):
            self.backend.close()

    def __getstate__(self) -> dict[str, Any]:
        try:
            state = self.backend.get_state()
        except Closed as error:
            raise_refused(error)
        kept = self.__dict__.copy()
        del kept["_step"], kept["_outputs"]
        for name in _ARRAYS:  # maybe slices of what PufferLib shares
            kept[name] = kept[name].copy()
        kept["_sums"] = self._sums.copy()
        kept["backend"] = (self.backend.name, state)
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        kept = dict(kept)
        name, state = kept.pop("backend")
        self.__dict__.update(kept)
        self._attach(name)
        self.backend.set_state(state)

    def _note(self, num_ended: int) -> None:
        """Adds up the episodes that ended in this step."""
        everyone = num_ended == self.num_agents
        names = self.task_spec.info_names
        for name, column in zip(names, self.backend.statistics, strict=False):
            self._sums[name] += float((column if everyone else column[self.terminals]).sum())
        self._ended += num_ended

    def _report(self) -> list[dict[str, float]]:
        """The means of the episodes since the last report, if any."""
        if not self._ended:
            return self._no_infos
        means = {name: total / self._ended for name, total in self._sums.items()}
        report = {**means, "score": means["success"], "n": float(self._ended)}
        self._forget()
        return [report]

    def _forget(self) -> None:
        self._sums = dict.fromkeys(self.task_spec.info_names, 0.0)
        self._ended = self._steps = 0


def make_puffer_vec(
    task: str | TaskSpec = "PassiveTMaze",
    *,
    num_envs: int = 1024,
    num_workers: int = 1,
    vectorisation: str | None = None,
    vec_options: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Makes a PufferLib vectorisation of one population, split evenly over workers.

    Args:
        task: as for `FastMazePufferEnv`.
        num_envs: copies in all; the same population whatever the workers.
        num_workers: how many `FastMazePufferEnv` share them.
        vectorisation: "PufferEnv" (one worker, in this process, the default for one), "Serial" (in
            this process) or "Multiprocessing" (a process each, the default for more).
        vec_options: further arguments of `pufferlib.vector.make`, e.g. `{"overwork": True}`.
        **options: of `FastMazePufferEnv` and the task, but for `buf` and `seed`.

    A wrong action is refused before any copy has moved, in this process: a worker that raises would
    leave PufferLib waiting for ever.

    Raises:
        ValueError: `num_envs` is not a multiple of `num_workers`, there is no such vectorisation,
            or as `FastMazePufferEnv`.
        TypeError: an option that one of these arguments decides, or as `FastMazePufferEnv`.
        APIUsageError: PufferLib refuses, e.g. more workers than cores without "overwork".
    """
    num_envs = check_count("num_envs", num_envs)
    num_workers = check_integer("num_workers", num_workers, 1, 1024)
    if num_envs % num_workers:
        raise ValueError(
            f"num_envs: expected a multiple of num_workers = {num_workers}, for each worker has "
            f"as many, got {num_envs}"
        )
    if vectorisation is None:
        vectorisation = "PufferEnv" if num_workers == 1 else "Multiprocessing"
    known: dict[str, Any] = {
        "PufferEnv": pufferlib.PufferEnv,
        "Serial": _Serial,
        "Multiprocessing": _Multiprocessing,
    }
    if vectorisation not in known:
        raise ValueError(f"vectorisation: expected one of {tuple(known)}, got {vectorisation!r}")
    if vectorisation == "PufferEnv" and num_workers > 1:
        raise ValueError(
            f'vectorisation: expected "Serial" or "Multiprocessing" for {num_workers} workers, '
            'got "PufferEnv", which is a single one'
        )
    vec_options = dict(vec_options or {})
    for where, given in (("", options), ("vec_options: ", vec_options)):
        for name in given:
            if name in _TAKEN and (name in ("seed", "buf") or where):
                raise TypeError(f"{where}{name} cannot be given here: {_TAKEN[name]}")
    if "batch_size" in vec_options and vectorisation != "Multiprocessing":
        raise ValueError(
            'vec_options: batch_size is for vectorisation "Multiprocessing", with '
            f'"{vectorisation}" a step is always one of all copies'
        )
    # Here, where it raises: of a worker that dies PufferLib says nothing.
    _indices(options.get("env_offset"), 0, num_envs)
    kwargs = {"task": task, "num_envs": num_envs // num_workers, **options}
    if vectorisation == "Multiprocessing":
        vec_options["num_workers"] = num_workers
    return pufferlib.vector.make(
        FastMazePufferEnv,
        env_kwargs=kwargs,
        backend=known[vectorisation],
        num_envs=num_workers,
        **vec_options,
    )


class _Serial(pufferlib.vector.Serial):  # type: ignore[misc]
    """Refuses what an env would refuse before any of them has moved."""

    def async_reset(self, seed: int | None = None) -> None:
        super().async_reset(None if seed is None else check_seed("seed", seed))

    def send(self, actions: Array) -> None:
        super().send(_checked(actions, self))


class _Multiprocessing(pufferlib.vector.Multiprocessing):  # type: ignore[misc]
    """Refuses here what would end a worker, after which `recv` waits for ever."""

    def async_reset(self, seed: int = 0) -> None:
        super().async_reset(check_seed("seed", seed))

    def send(self, actions: Array) -> None:
        super().send(_checked(actions, self))


def _checked(actions: Any, envs: Any) -> Array:
    """The actions as an array [agents_per_batch] of whole numbers that the task has."""
    array, wanted = np.asarray(actions), (envs.agents_per_batch,)
    if array.dtype.kind not in "iu":
        raise TypeError(f"actions: expected an array of integers, got dtype {array.dtype}")
    if array.shape != wanted:
        raise ValueError(f"actions: expected shape {wanted}, got {array.shape}")
    check_actions(array, int(envs.single_action_space.n))
    return array


def _indices(env_offset: int | None, number: int, num_envs: int) -> npt.NDArray[np.uint32]:
    """Global indices of the copies that number `number` of a vectorisation holds."""
    first = 0 if env_offset is None else check_integer("env_offset", env_offset, 0, MAX_ENVS - 1)
    name = f"env_offset + {number} * num_envs" if number else "env_offset"
    return population_indices(first + number * num_envs, num_envs, name)


def _spec_of(task: str | TaskSpec, task_options: dict[str, Any]) -> TaskSpec:
    if not isinstance(task, TaskSpec):
        return make_spec(task, **task_options)
    if task_options:
        raise TypeError(
            f"task: expected a name beside task options, got a spec and {sorted(task_options)}"
        )
    return task
