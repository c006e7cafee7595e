"""TorchRL: the tasks as one native env, `num_envs` copies in a batch.

```python
from fastmaze.integrations.torchrl import FastMazeTorchEnv

env = FastMazeTorchEnv("PassiveTMaze", num_envs=1024, length=100, seed=0)
env.rollout(200, break_when_any_done=False)  # TensorDict [1024, 200]
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastmaze.requirements import require_trainer

require_trainer("fastmaze.integrations.torchrl", extra="torchrl", at_least="0.7", package="torchrl")

import torch  # noqa: E402
from tensordict import TensorDict, TensorDictBase  # noqa: E402
from torch import Tensor  # noqa: E402
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded  # noqa: E402
from torchrl.envs import EnvBase  # noqa: E402

from fastmaze.envs.backends.state import keep_rows  # noqa: E402
from fastmaze.envs.seeding import (  # noqa: E402
    check_seed,
    is_per_env,
    population_indices,
    seed_streams,
)
from fastmaze.integrations.named_task import spec_of  # noqa: E402
from fastmaze.integrations.torchrl_engines import make_engine  # noqa: E402
from fastmaze.specs import TaskSpec, check_boolean, check_integer  # noqa: E402

Seed = int | Sequence[int | None] | None
"""One seed for the population, one (or None) per env, or None for a random one."""


class FastMazeTorchEnv(EnvBase):  # type: ignore[misc]
    """`num_envs` copies of a task as one batch-locked TorchRL env, `batch_size` [num_envs].

    Same seed, same actions: the same bits as `fastmaze.make_vec`. Whoever drives the env resets
    copies that are done, as TorchRL's rollouts and collectors do: `reset` reads the mask "_reset",
    bool [N] or [N, 1]. Every step and reset writes into fresh tensors, which nothing changes later.

    | key | what |
    | --- | --- |
    | "action" | int64 [N]; with `categorical_action_encoding=False` one-hot, int64 [N, actions] |
    | "observation" | [N, *task_spec.obs_shape], float32 or uint8 |
    | "reward" | float32 [N, 1] |
    | "done", "terminated" | bool [N, 1], equal: the end of an episode is part of the task |
    | "truncated" | bool [N, 1], always False |
    | names in `info` | [N, 1], of the episode that ended in this step, zero where none did |

    `set_seed` tells the next reset of all copies, which then starts anew; it is the seed of the
    whole population, as that of `make_vec`. `reset(options={"goal_y": …})` sets what is otherwise
    drawn: the task's own option of `make_vec`'s `reset`.

    Args:
        task: its name, e.g. "PassiveTMaze" (see `fastmaze.TASKS`), or a spec, e.g. a
            `fastmaze.TMazeSpec`.
        num_envs: N, number of copies.
        backend: "native", "numba" or "reference", which write into the memory of CPU tensors, or
            "device" (the T-Mazes), which computes with torch: the tensors are those of
            `fastmaze.make_device`. Nothing is copied.
        device: where backend "device" computes, e.g. "cuda"; None is the first GPU, or the CPU
            where there is none.
        num_threads: threads of the backend; results do not depend on it.
        env_offset: global index of the first copy, for populations split over processes; see
            `create_env_fns`.
        seed: of the first reset: one for the population, or a list of one (or None) per copy, as
            for `make_vec`; None draws one. Envs made alike with a seed have the same mazes, also
            as workers of a `ParallelEnv`: there use `create_env_fns`.
        stagger: let the copies' clocks start evenly spread over the episode at every `reset` of
            the whole population, so that they do not all end on the same step. The first episodes
            after it are cut short, mostly too short to be solved, and each `rollout` resets: for
            training alone; evaluate with envs made without it.
        autoreset_mode: "Disabled"; TorchRL itself resets what is done.
        categorical_action_encoding: False for one-hot actions.
        info: what else a step tells of episodes that ended: of `task_spec.info_names`, that is
            "episode_return" (float64), "episode_length" (int64), "success" (bool) and the task's
            own flag, for T-Mazes "cue_seen" (bool). Empty for the leanest step.
        **task_options: the task's own, e.g. `length=1000`.

    Raises:
        ValueError: an argument is out of range, or there is no such task, backend or device.
        TypeError: an argument has the wrong type, or the task has no such option.
        ImportError: an optional package is missing; the message says what to install.

    Attributes:
        task_spec: what the task is.
        num_envs: N.
    """

    def __init__(
        self,
        task: str | TaskSpec,
        *,
        num_envs: int = 1,
        backend: str = "native",
        device: str | torch.device | None = None,
        num_threads: int = 1,
        env_offset: int = 0,
        seed: Seed = None,
        stagger: bool = False,
        autoreset_mode: str = "Disabled",
        categorical_action_encoding: bool = True,
        info: Sequence[str] = ("success",),
        **task_options: Any,
    ) -> None:
        if getattr(autoreset_mode, "value", autoreset_mode) != "Disabled":
            raise ValueError(
                'autoreset_mode: expected "Disabled", for TorchRL itself resets the envs that are '
                f"done, got {autoreset_mode!r}"
            )
        task_spec = spec_of(task, task_options)
        engine = make_engine(
            task_spec,
            num_envs=num_envs,
            backend=backend,
            device=device,
            num_threads=num_threads,
            env_offset=env_offset,
            stagger=stagger,
        )
        seed_streams(seed, population_indices(env_offset, engine.num_envs))  # refuses bad ones
        super().__init__(device=engine.device, batch_size=[engine.num_envs])
        self.task_spec, self.num_envs = task_spec, engine.num_envs
        self._engine, self._seed = engine, seed
        self._one_hot = not check_boolean(
            "categorical_action_encoding", categorical_action_encoding
        )
        self._info = _check_info(info, task_spec.info_names)
        self._columns = [task_spec.info_names.index(name) for name in self._info]
        self._make_specs()

    def _make_specs(self) -> None:
        spec, N, device = self.task_spec, self.num_envs, self.device
        dtype = getattr(torch, spec.obs_dtype)
        low, high = (
            torch.as_tensor(bound, dtype=dtype, device=device).expand(N, *spec.obs_shape).clone()
            for bound in (spec.obs_low, spec.obs_high)
        )
        seen: dict[str, Any] = {"observation": Bounded(low, high, dtype=dtype, device=device)}
        for name, column in zip(self._info, self._columns, strict=True):
            kind = _DTYPES[column]
            seen[name] = (
                Categorical(2, shape=(N, 1), dtype=torch.bool, device=device)
                if kind == torch.bool
                else Unbounded(shape=(N, 1), dtype=kind, device=device)
            )
        self.observation_spec = Composite(seen, shape=[N], device=device)
        self.action_spec = (
            OneHot(spec.num_actions, shape=(N, spec.num_actions), dtype=torch.int64, device=device)
            if self._one_hot
            else Categorical(spec.num_actions, shape=(N,), dtype=torch.int64, device=device)
        )
        self.reward_spec = Unbounded(shape=(N, 1), dtype=torch.float32, device=device)
        ends = ("done", "terminated", "truncated")
        flag = Categorical(2, shape=(N, 1), dtype=torch.bool, device=device)
        self.done_spec = Composite({name: flag.clone() for name in ends}, shape=[N], device=device)

    def _reset(
        self,
        tensordict: TensorDictBase | None = None,
        *,
        options: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> TensorDictBase:
        if unknown:
            raise TypeError(f"reset: expected no argument but options, got {sorted(unknown)}")
        mask = None if tensordict is None else tensordict.get("_reset", None)
        if mask is not None:
            mask = mask.reshape(self.num_envs)
        # A seed waits for the next reset of all.
        seeded = self._seed is not None and (mask is None or bool(mask.all()))
        obs = self._engine.reset(mask, self._seed if seeded else None, options)
        if seeded:
            self._seed = None
        leaves = {"observation": obs}
        for name in ("done", "terminated", "truncated"):
            leaves[name] = self._zeros(torch.bool)
        for name, column in zip(self._info, self._columns, strict=True):
            leaves[name] = self._zeros(_DTYPES[column])
        return TensorDict(leaves, self.batch_size, device=self.device)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        actions = tensordict.get("action", None)
        if actions is None:
            raise KeyError('action: expected a tensor under "action" in the tensordict, got none')
        if self._one_hot:
            actions = self._from_one_hot(actions)
        chosen = tensordict.get("_step", None)
        if chosen is None:
            return self._step_all(actions)
        return self._step_some(actions, tensordict, chosen.reshape(self.num_envs))

    def _step_all(self, actions: Tensor) -> TensorDictBase:
        obs, reward, terminated, truncated, columns = self._engine.step(actions, self._columns)
        leaves = {
            "observation": obs,
            "reward": reward.unsqueeze(1),
            "done": terminated.clone().unsqueeze(1),
            "terminated": terminated.unsqueeze(1),
            "truncated": truncated.unsqueeze(1),
        }
        for name, column in zip(self._info, columns, strict=True):
            leaves[name] = column.unsqueeze(1)
        return TensorDict(leaves, self.batch_size, device=self.device)

    def _step_some(self, actions: Tensor, before: TensorDictBase, chosen: Tensor) -> TensorDictBase:
        """Steps the chosen copies alone, bool [N]; the others stay as they are in `before`."""
        engine = self._engine
        state = engine.get_state()
        # The others may be over, and nothing steps an env that is over: begin a next episode for
        # them, step, and forget that it began.
        engine.reset(~chosen, None, None)
        try:
            after = self._step_all(actions)
        except Exception:
            engine.set_state(state)
            raise
        rows = (~chosen).cpu().numpy()
        engine.set_state(keep_rows(engine.get_state(), state, rows, self.task_spec, self.num_envs))
        for name, leaf in after.items():
            old = before.get(name, None)
            where = chosen.reshape(-1, *(1,) * (leaf.ndim - 1))
            after.set(
                name, torch.where(where, leaf, torch.zeros_like(leaf) if old is None else old)
            )
        return after

    def _from_one_hot(self, actions: Tensor) -> Tensor:
        wanted = f"action: expected one-hot of shape {(self.num_envs, self.task_spec.num_actions)}"
        if actions.shape != (self.num_envs, self.task_spec.num_actions):
            raise ValueError(f"{wanted}, got shape {tuple(actions.shape)}")
        hot = actions != 0
        # Looking at a GPU's values would wait for it.
        if hot.device.type == "cpu" and bool((hot.sum(-1) != 1).any()):
            raise ValueError(f"{wanted}, got a row with no or several entries")
        return hot.to(torch.uint8).argmax(-1)

    def _set_seed(self, seed: int | None) -> None:
        seed_streams(seed, population_indices(0, self.num_envs))  # refuses bad ones
        self._seed = seed

    def _zeros(self, dtype: torch.dtype) -> Tensor:
        return torch.zeros((self.num_envs, 1), dtype=dtype, device=self.device)

    def close(self, **how: Any) -> None:
        """Frees the copies; every later step and reset raises."""
        self._engine.close()
        super().close(**how)  # older versions take nothing


def create_env_fns(
    task: str | TaskSpec,
    *,
    num_envs: int,
    num_workers: int,
    env_offset: int = 0,
    seed: Seed = None,
    **options: Any,
) -> list[Callable[[], FastMazeTorchEnv]]:
    """What makes the parts of one population, for `ParallelEnv` or a `MultiSyncCollector`.

    With one seed (`seed=0`, or `set_seed(0, static_seed=True)`) the parts together draw as one env
    of `num_envs` copies would.

    Args:
        task: its name, or a spec.
        num_envs: copies in all, a multiple of `num_workers`.
        num_workers: number of parts.
        env_offset: global index of the first copy of the first part.
        seed: one for the population, or a list of `num_envs`, of which each part gets its own; None
            lets each part draw one.
        **options: as for `FastMazeTorchEnv`.

    Raises:
        ValueError: `num_envs` is no multiple of `num_workers`, a list of seeds has another length,
            or a number is out of range.
        TypeError: a number is none.
    """
    check_integer("num_envs", num_envs, 1, 2**32)
    check_integer("num_workers", num_workers, 1, 2**32)
    part, rest = divmod(num_envs, num_workers)
    if rest:
        raise ValueError(
            f"num_envs: expected a multiple of num_workers={num_workers}, got {num_envs}"
        )
    if is_per_env(seed):
        seed_streams(seed, population_indices(env_offset, num_envs))  # refuses bad ones
    elif seed is not None:
        check_seed("seed", seed)
    return [
        partial(
            FastMazeTorchEnv,
            task,
            num_envs=part,
            env_offset=env_offset + first,
            seed=list(seed[first : first + part]) if is_per_env(seed) else seed,
            **options,
        )
        for first in range(0, num_envs, part)
    ]


_DTYPES = (torch.float64, torch.int64, torch.bool, torch.bool)
"""Of the columns of `EpisodeStatistics`."""


def _check_info(info: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(info, str) or not isinstance(info, Sequence):
        raise TypeError(f"info: expected a list of names among {known}, got {info!r}")
    for name in info:
        if name not in known:
            raise ValueError(f"info: expected names among {known}, got {name!r}")
    return tuple(info)
