"""RLlib's episodes of a whole population, cut out of arrays instead of grown step by step.

```
step       0    1    2    3    4    5    6        a row per step; env 1 ended in step 2:
env 0      .----.----.----.----.----.----.        one chunk, goes on in the next sample
env 1      .----.----#    ~    .----.----.        an episode's end, the row that only resets,
                                                  and the first chunk of the next episode
```
"""

from __future__ import annotations

import time
import uuid
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import tree  # type: ignore[import-not-found]
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from fastmaze.envs.backends.base import Array
from fastmaze.integrations.shared_info import SharedInfo

Episodes = list[Any]


_NO_INFO = SharedInfo(
    "infos: steps that end no episode share one empty dict, which cannot be changed; "
    "write into copies, dict(info), or only into the last info of an episode that is_done"
)
"""Of all steps that end no episode; a dict of its own for each would make a sample a seventh
slower."""


class PopulationEpisodes:
    """What a population does in autoreset mode NextStep, as SingleAgentEpisodes.

    Attributes:
        obs: obs [N, ...], what the envs show now.
        fresh: bool [N], the next step only resets: an episode ended in the last one.
    """

    def __init__(self, obs: Array, spaces: tuple[Any, Any], lookback: int) -> None:
        """Begins with the episodes that a reset of all envs started.

        Args:
            obs: [N, ...], of the reset.
            spaces: of one env, of observations and of actions.
            lookback: steps of an episode's earlier chunk that the next one can look back on.
        """
        n = len(obs)
        self.obs, self.fresh = obs, np.zeros(n, np.bool_)
        self._lookback = lookback
        # Copies of these are what RLlib's constructors would make, which take longer, for each
        # chunk, than all its steps.
        like = SingleAgentEpisode(observation_space=spaces[0], action_space=spaces[1])
        self._like_episode, self._like_infos = like, like.infos
        self._like_output = InfiniteLookbackBuffer()
        self._like = {
            Columns.OBS: like.observations,
            Columns.ACTIONS: like.actions,
            Columns.REWARDS: like.rewards,
        }
        self._steps_taken = np.zeros(n, np.int64)
        self._ids = [uuid.uuid4().hex for _ in range(n)]
        # The rows that the last sample leaves to look back on: [N, up to lookback, ...] each.
        self._tail: dict[str, Any] = {}
        self._last_rows = slice(-lookback, None)
        self._begin()

    @property
    def at_start(self) -> Array:
        """Bool [N], the present episode has no step yet, or the next one is about to start."""
        at_start: Array = self.fresh | (self._steps_taken == 0)
        return at_start

    def add_step(
        self,
        actions: Array,
        obs: Array,
        rewards: Array,
        terminated: Array,
        info: dict[str, Any],
        outputs: dict[str, Any],
    ) -> tuple[int, int]:
        """Adds a row; the arrays are kept, not copied.

        Args:
            actions: [N].
            obs: [N, ...].
            rewards: float32 [N].
            terminated: bool [N].
            info: the vector env's.
            outputs: of the module, nested arrays [N, ...].

        Returns:
            How many env steps it holds, rows that only reset left out, and how many ends.
        """
        self._rows.append({
            Columns.OBS: obs, Columns.ACTIONS: actions, Columns.REWARDS: rewards, **outputs
        })  # fmt: skip
        self._times.append(time.perf_counter())
        if info:
            self._infos[len(self._rows) - 1] = info
        self._terminated.append(terminated)
        stepped = len(obs) - int(np.count_nonzero(self.fresh))
        self._steps_taken += 1
        self._steps_taken[self.fresh] = 0
        self.obs, self.fresh = obs, terminated
        return stepped, int(np.count_nonzero(terminated))

    def cut(
        self, weights_seq_no: int, num_episodes: int | None = None
    ) -> tuple[Episodes, Episodes]:
        """Returns the episodes that ended since the last cut, in that order, and the open chunks.

        Args:
            weights_seq_no: number of the weights that acted.
            num_episodes: at most as many that ended.
        """
        if not self._rows:
            return [], []
        num_steps, n = len(self._rows), len(self.obs)
        blocks = {key: _stack([row[key] for row in self._rows]) for key in self._rows[0]}
        blocks[WEIGHTS_SEQ_NO] = np.full((n, num_steps), weights_seq_no)
        # An action has an observation before it and one after it.
        blocks[Columns.OBS] = np.concatenate([self._first_obs[:, None], blocks[Columns.OBS]], 1)
        tail, length = self._tail, 0
        if tail:
            length = tail[Columns.REWARDS].shape[1]
            for key in blocks.keys() & tail.keys():
                blocks[key] = tree.map_structure(_join, tail[key], blocks[key])
        # Outputs that the rows before had not, or had otherwise, cannot be looked back on.
        known = {key: length if key in tail else 0 for key in blocks}

        done: Episodes = []
        begin = self._first_fresh.astype(np.int64)
        steps, envs = np.nonzero(np.stack(self._terminated))
        for end, i in zip(steps.tolist(), envs.tolist(), strict=True):
            info = {name: values[i] for name, values in self._infos[end].items() if name[0] != "_"}
            done.append(self._chunk(blocks, known, i, int(begin[i]), end + 1, info))
            begin[i] = end + 2
            self._ids[i], self._first_taken[i] = uuid.uuid4().hex, 0
        open_chunks = [
            self._chunk(blocks, known, i, int(begin[i]), num_steps, None)
            for i in np.flatnonzero(begin < num_steps).tolist()
        ]
        self._keep_tail(blocks)
        self._begin()
        return done[:num_episodes], open_chunks

    def _begin(self) -> None:
        """What a sample starts from."""
        self._rows: list[dict[str, Any]] = []
        self._terminated: list[Array] = []
        self._infos: dict[int, dict[str, Any]] = {}
        self._times = [time.perf_counter()]
        self._first_obs, self._first_fresh = self.obs, self.fresh
        self._first_taken = self._steps_taken.copy()

    def _keep_tail(self, blocks: dict[str, Any]) -> None:
        """Copies the last rows, so that a sample's arrays can go when its episodes do."""
        self._tail = {}
        if not self._lookback:
            return
        for key, block in blocks.items():
            # Of observations, the last one is the present one.
            rows = slice(-self._lookback - 1, -1) if key == Columns.OBS else self._last_rows
            self._tail[key] = tree.map_structure(partial(_copy_rows, rows), block)

    def _chunk(
        self,
        blocks: dict[str, Any],
        known: dict[str, int],
        i: int,
        begin: int,
        end: int,
        end_info: dict[str, Any] | None,
    ) -> Any:
        """Steps `begin` to `end` of env i; with `end_info` they end its episode."""
        t_started = int(self._first_taken[i]) if begin == 0 else 0
        back = min(self._lookback, t_started, known[Columns.REWARDS])

        def buffer(key: str, extra: int = 0) -> Any:
            before = known[key]
            look = min(back, before)
            rows = slice(before + begin - look, before + end + extra)
            block = blocks[key]
            # Views of rows that belong to no other chunk: a learner may write into its episode.
            if isinstance(block, np.ndarray):
                cut = block[i, rows]
            else:
                cut = tree.map_structure(lambda array: array[i, rows], block)
            return _buffer(self._like.get(key, self._like_output), cut, look)

        infos: list[dict[str, Any]] = [_NO_INFO] * (back + end - begin + 1)
        if end_info is not None:
            infos[-1] = end_info
        episode = copy(self._like_episode)
        episode.id_, episode._custom_data = self._ids[i], {}
        episode.observations = buffer(Columns.OBS, extra=1)
        episode.actions, episode.rewards = buffer(Columns.ACTIONS), buffer(Columns.REWARDS)
        episode.infos = _buffer(self._like_infos, infos, back)
        episode.extra_model_outputs = {key: buffer(key) for key in blocks if key not in self._like}
        episode.is_terminated = end_info is not None
        episode.t_started, episode.t = t_started, t_started + end - begin
        episode._start_time, episode._last_step_time = self._times[begin], self._times[end]
        return episode


def _buffer(like: Any, data: Any, lookback: int) -> Any:
    """RLlib's buffer of a column, numpy'ized unless it is a list."""
    made = copy(like)
    made.data, made.lookback, made.finalized = data, lookback, not isinstance(data, list)
    return made


def _stack(rows: list[Any]) -> Any:
    """Nested arrays [N, ...], a list of S, as nested arrays [N, S, ...]."""
    return tree.map_structure(lambda *arrays: np.stack(arrays, axis=1), *rows)


def _copy_rows(rows: slice, array: Array) -> Array:
    return array[:, rows].copy()


def _join(before: Array, after: Array) -> Array:
    return np.concatenate([before, after], axis=1)
