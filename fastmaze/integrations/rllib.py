"""A population of mazes inside Ray's RLlib (new API stack).

```python
from fastmaze.integrations.rllib import FastMazeEnvRunner

config.environment("fastmaze/PassiveTMaze-v0", env_config={"length": 100})
config.env_runners(env_runner_cls=FastMazeEnvRunner, num_envs_per_env_runner=1024)
```

RLlib's own runner grows each episode by one Python call per env and step, some 20 µs of which none
is the env's. `FastMazeEnvRunner` steps the whole population as arrays, and cuts RLlib's episodes
out of them when it returns.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np

from fastmaze.envs.registration import env_id
from fastmaze.requirements import require_trainer
from fastmaze.specs import TASKS, check_integer

for _package, _at_least in (("ray", "2.60"), ("torch", "2.4"), ("dm-tree", "0.1.8")):
    require_trainer(
        "fastmaze.integrations.rllib", extra="rllib", at_least=_at_least, package=_package
    )

import torch  # noqa: E402
import tree  # type: ignore[import-not-found] # noqa: E402
from gymnasium.wrappers.vector import DictInfoToList  # noqa: E402
from ray.rllib.callbacks.callbacks import RLlibCallback  # noqa: E402
from ray.rllib.callbacks.utils import make_callback  # noqa: E402
from ray.rllib.connectors.common import (  # noqa: E402
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    BatchIndividualItems,
    NumpyToTensor,
    TensorToNumpy,
)
from ray.rllib.connectors.module_to_env import (  # noqa: E402
    GetActions,
    ListifyDataForVectorEnv,
    NormalizeAndClipActions,
    RemoveSingleTsTimeRankFromBatch,
    UnBatchToIndividualItems,
)
from ray.rllib.core.columns import Columns  # noqa: E402
from ray.rllib.env.env_context import EnvContext  # noqa: E402
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner  # noqa: E402
from ray.rllib.utils.metrics import ENV_STEP_TIMER, RLMODULE_INFERENCE_TIMER  # noqa: E402
from ray.rllib.utils.torch_utils import convert_to_torch_tensor  # noqa: E402
from ray.tune.registry import register_env  # noqa: E402
from ray.util import log_once  # noqa: E402

from fastmaze.envs.single import make  # noqa: E402
from fastmaze.envs.vector import make_vec  # noqa: E402
from fastmaze.integrations.rllib_episodes import Episodes, PopulationEpisodes  # noqa: E402
from fastmaze.integrations.rllib_options import population_options, task_named  # noqa: E402

_ENV_TO_MODULE: Final = [
    AddObservationsFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AddStatesFromEpisodesToBatch,
    BatchIndividualItems,
    NumpyToTensor,
]
_MODULE_TO_ENV: Final = [
    GetActions,
    TensorToNumpy,
    UnBatchToIndividualItems,
    RemoveSingleTsTimeRankFromBatch,
    NormalizeAndClipActions,
    ListifyDataForVectorEnv,
]
_PER_EPISODE: Final = (
    "on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end",
)  # fmt: skip
_STEPS_BEFORE: Final = "fastmaze_env_steps"
"""Component of the runner's state: env steps of this runner and of those that it goes on from."""

_LOGGER: Final = logging.getLogger(__name__)


def register_envs() -> None:
    """Registers every `fastmaze/<Task>-v0` with Ray, for RLlib's own env runner.

    `FastMazeEnvRunner` needs no registration. RLlib's own runner finds the ids in its workers, too,
    and with `config.env_runners(gym_env_vectorize_mode="vector_entry_point")` it steps one
    population instead of that many envs in Python; what it does around each env stays.
    """
    for task in TASKS:
        register_env(env_id(task), _creator(task))


def _creator(task: str) -> Callable[[dict[str, Any]], Any]:
    def create(options: dict[str, Any]) -> Any:
        return make_vec(task, **options) if "num_envs" in options else make(task, **options)

    return create


class FastMazeEnvRunner(SingleAgentEnvRunner):  # type: ignore[misc]
    """RLlib's runner of single-agent envs, with one population instead of that many envs.

    `config.environment` takes an id, "fastmaze/PassiveTMaze-v0", or a task, "PassiveTMaze", and as
    `env_config` the keywords of `fastmaze.make_vec`: the task's options, `backend`, `num_threads`,
    `stagger`, `env_offset`. `stagger` is for samples of so many steps in training alone: whole
    episodes, and evaluations, begin at their starts.

    The runners of one algorithm are parts of one population: runner 1 has the first
    `num_envs_per_env_runner` envs of it, runner 2 the next ones. `config.seed` seeds it when it is
    first reset, and not at each `sample` of whole episodes, as RLlib's own runner does, which
    would repeat the same goals. Runners that evaluate have another seed, RLlib's. Training that
    goes on from a checkpoint mixes the env steps before it into the seed, so that it begins new
    episodes, none of those that were seen.

    Episodes, their numbers and metrics are RLlib's. Infos of steps that end no episode are one
    empty dict, which refuses to be written. Connectors of one's own and callbacks that are told of
    single episodes need them while they grow: with these, the runner does as RLlib's does, at its
    pace, and logs a warning. So it does with `config.episodes_to_numpy` False.

    Raises:
        ValueError: no FastMaze id, the old API stack, or an option that the runner sets itself.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        if not config.enable_env_runner_and_connector_v2:
            raise ValueError(
                "config: FastMazeEnvRunner needs RLlib's new API stack, "
                "enable_env_runner_and_connector_v2=True, got False; with the old one, "
                'config.environment("fastmaze/<Task>-v0") runs single envs after register_envs()'
            )
        self._population: PopulationEpisodes | None = None
        self._state: Any = None
        self._steps_before = 0
        self._from_starts = False
        self.env: Any
        self._done_episodes_for_metrics: Episodes
        super().__init__(config=config, **kwargs)

    def make_env(self) -> None:
        """Makes the population, in place of the present one if there is one."""
        if self.env is not None:
            self.env.close()
        context = self.config.env_config
        if not isinstance(context, EnvContext):
            context = EnvContext(
                context, worker_index=self.worker_index or 0, num_workers=self.num_workers
            )
        num_envs = self.config.num_envs_per_env_runner
        options = population_options(dict(context))
        options["env_offset"] += max((self.worker_index or 0) - 1, 0) * num_envs
        if self.config.in_evaluation:
            # An evaluation inherits env_config; episodes without their cue would say nothing.
            options["stagger"] = False
        envs = make_vec(task_named(self.config.env), num_envs=num_envs, **options)
        # RLlib's own way of sampling, where it is needed, wants infos as lists.
        self.env = DictInfoToList(envs)
        self.num_envs = num_envs
        self._needs_initial_reset = True
        self._population = None
        self._seeded = self.config.seed is None
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": envs,
                "env_context": context,
            },
        )

    def _try_env_reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> Any:
        seed = None if self._seeded else self._first_seed()
        self._seeded = True
        if self._from_starts:
            # A reset of envs in a mask does not stagger their clocks.
            options = {"reset_mask": np.ones(self.num_envs, np.bool_)}
        return super()._try_env_reset(seed=seed, options=options)

    def _first_seed(self) -> int:
        """The population's, the same in each of its runners, whose `env_offset` differs."""
        seed = check_integer("config.debugging(seed=...)", self.config.seed, 0)
        if self.config.in_evaluation:
            return seed + 1_000_000
        # RLlib keeps no state of remote runners, but tells each how many steps all have sampled.
        before = (int(self.num_env_steps_sampled_lifetime), self._steps_before)
        if not any(before):
            return seed
        return int(np.random.SeedSequence([seed, *before]).generate_state(1, np.uint64)[0])

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's, and as component "fastmaze_env_steps" how many steps there were."""
        state: dict[str, Any] = super().get_state(
            components, not_components=not_components, **kwargs
        )
        if self._check_component(_STEPS_BEFORE, components, not_components):
            state[_STEPS_BEFORE] = self._steps_before
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the components that `state` has; before the first reset it decides the seed."""
        super().set_state(state)
        if _STEPS_BEFORE in state:
            self._steps_before = int(state[_STEPS_BEFORE])

    def _increase_sampled_metrics(self, num_steps: int, num_episodes_completed: int) -> Any:
        self._steps_before += num_steps
        return super()._increase_sampled_metrics(num_steps, num_episodes_completed)

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> Episodes:
        reset = force_reset or num_episodes is not None or self._needs_initial_reset
        self._from_starts = num_episodes is not None
        if not self._in_bulk():
            # Episodes that arrays have begun cannot be gone on with one by one.
            reset = reset or self._population is not None
            self._population = None
            return super()._sample(  # type: ignore[no-any-return]
                num_timesteps=num_timesteps,
                num_episodes=num_episodes,
                explore=explore,
                random_actions=random_actions,
                force_reset=reset,
            )
        if reset or self._population is None:
            self._population = self._reset_population()
        self._needs_initial_reset = num_episodes is not None
        population, envs = self._population, self.env.unwrapped
        steps = ended = 0
        outputs: dict[str, Any] = {}
        while steps < num_timesteps if num_timesteps is not None else ended < num_episodes:  # type: ignore[operator]
            if random_actions:
                self._state = None
                actions = self.env.action_space.sample()
            else:
                actions, outputs = self._act(population, explore, steps)
            with self.metrics.log_time(ENV_STEP_TIMER):
                obs, rewards, terminated, _, info = envs.step(actions)
            self._log_env_steps(metric=self._metrics_num_try_env_step, num_steps=1)
            stepped, ends = population.add_step(actions, obs, rewards, terminated, info, outputs)
            steps, ended = steps + stepped, ended + ends
        done, chunks = population.cut(self._weights_seq_no, num_episodes)
        self._done_episodes_for_metrics.extend(done)
        if num_timesteps is None:
            chunks = []
        for chunk in chunks:
            self._ongoing_episodes_for_metrics[chunk.id_].append(chunk)
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=steps)
        self._increase_sampled_metrics(steps, len(done))
        return done + chunks

    def get_metrics(self) -> Any:
        """What RLlib says of the episodes that ended since the last call."""
        # RLlib's means, least and greatest are of the last so many episodes, and reading those
        # before them would take it longer than sampling them.
        smoothing = self.config.metrics_num_episodes_for_smoothing
        window = max(1, math.ceil(smoothing / (self.config.num_env_runners or 1)))
        for episode in self._done_episodes_for_metrics[:-window]:
            self._ongoing_episodes_for_metrics.pop(episode.id_, None)
        self._done_episodes_for_metrics = self._done_episodes_for_metrics[-window:]
        return super().get_metrics()

    def _in_bulk(self) -> bool:
        """Whether nothing looks at single episodes while they grow; else it is logged, once."""
        reasons = self._reasons_to_grow()
        if reasons and log_once(f"{__name__}: {reasons}"):
            _LOGGER.warning(
                "FastMazeEnvRunner grows episodes step by step, at the pace of RLlib's own runner, "
                "because of %s; callbacks on_sample_end see whole samples at full speed",
                ", ".join(reasons),
            )
        return not reasons

    def _reasons_to_grow(self) -> list[str]:
        """What needs episodes that grow step by step: callbacks, connectors, an option."""
        reasons = []
        if not self.config.episodes_to_numpy:
            reasons.append("episodes_to_numpy=False")
        for which in _PER_EPISODE:
            if getattr(self.config, f"callbacks_{which}"):
                reasons.append(f"the callback {which}=...")
            for cls in map(type, self._callbacks):
                if getattr(cls, which) is not getattr(RLlibCallback, which):
                    reasons.append(f"the callback {cls.__name__}.{which}")
        for pipeline, usual in (
            (self._env_to_module, _ENV_TO_MODULE),
            (self._module_to_env, _MODULE_TO_ENV),
        ):
            pieces = [type(piece) for piece in pipeline.connectors]
            if pieces != usual:
                others = [piece for piece in pieces if piece not in usual]
                names = " and ".join(piece.__name__ for piece in others or pieces) or "none"
                reasons.append(f"the connectors {names} in {type(pipeline).__name__}")
        return reasons

    def _reset_population(self) -> PopulationEpisodes:
        # Chunks of episodes that are given up would wait here for their ends forever.
        self._ongoing_episodes_for_metrics.clear()
        obs, _ = self._try_env_reset()
        self._state = None
        spaces = (self.env.single_observation_space, self.env.single_action_space)
        return PopulationEpisodes(obs, spaces, self.config.episode_lookback_horizon)

    def _act(
        self, population: PopulationEpisodes, explore: bool, steps: int
    ) -> tuple[Any, dict[str, Any]]:
        """The module's actions, [N], and what else it says, nested arrays [N, ...].

        As RLlib's default connectors do it, without a list with an item per env in between.
        """
        module = self.module
        stateful = module.is_stateful()
        obs = convert_to_torch_tensor(population.obs, device=self._device)
        batch: dict[str, Any] = {Columns.OBS: obs[:, None] if stateful else obs}
        if stateful:
            batch[Columns.STATE_IN] = self._state_in(population.at_start)
        with self.metrics.log_time(RLMODULE_INFERENCE_TIMER):
            if explore:
                runners = self.config.num_env_runners or 1
                t = (self.num_env_steps_sampled_lifetime // runners + steps) * runners
                outputs = module.forward_exploration(batch, t=t)
            else:
                outputs = module.forward_inference(batch)
        self._state = outputs.get(Columns.STATE_OUT)
        for piece in self._module_to_env.connectors[:2]:  # GetActions, TensorToNumpy
            outputs = piece(rl_module=module, batch=outputs, episodes=[None], explore=explore)
        if stateful:
            outputs = {
                key: value if key == Columns.STATE_OUT else tree.map_structure(_one_step, value)
                for key, value in outputs.items()
            }
        actions = outputs.pop(Columns.ACTIONS)
        return outputs.pop(Columns.ACTIONS_FOR_ENV, actions), outputs

    def _state_in(self, at_start: np.ndarray[Any, Any]) -> Any:
        """Nested tensors [N, ...]: the module's last state, the initial one at starts."""
        if self._state is not None and not at_start.any():
            return self._state
        initial = tree.map_structure(
            lambda one: torch.as_tensor(one, device=self._device).expand(self.num_envs, *one.shape),
            self.module.get_initial_state(),
        )
        if self._state is None or at_start.all():
            return initial
        starts = torch.from_numpy(at_start).to(self._device)
        return tree.map_structure(
            lambda first, last: torch.where(
                starts.view(-1, *[1] * (last.ndim - 1)), first, last
            ),
            initial,
            self._state,
        )  # fmt: skip


def _one_step(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[N, 1, ...] as [N, ...]."""
    return array[:, 0]
