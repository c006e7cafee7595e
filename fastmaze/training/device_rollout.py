"""Plays whole episodes where the mazes and the network both live: no step waits for the device.

One step of all environments, on tensors whose memory stays where it is:

```
 obs, previous action --> network (and its cache) --> greedy action --.
   ^                                                                  v
   '--- maze <--- action <--- the random one, where one was drawn beforehand
```

Everything is written at the step's index t, itself a tensor, so the same instructions do for any
step: on a GPU a chunk of steps is captured in a CUDA graph once and replayed until the episode is
over, in later rounds too. Random actions are drawn before the episode begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmaze.envs.device import DeviceTMaze
from fastmaze.models.q_network import QNetwork
from fastmaze.specs import NUM_ACTIONS
from fastmaze.training.fallback import first_line, warn_slower
from fastmaze.training.rollout import Episodes

CHUNK: Final = 32
"""Steps of one CUDA graph: launching it costs little beside them, capturing it some 0.1 s."""

GREEDY: Final = -1
"""In a table of forced actions: take the network's."""

_ROWS: Final = 256
"""Steps whose random actions are drawn together."""


@dataclass(slots=True)
class DeviceEpisodes:
    """N whole episodes of T steps as tensors on the device; overwritten by the next rollout."""

    obs: Tensor
    """float32 [T + 1, N, D]."""
    actions: Tensor
    """uint8 [T, N]."""
    rewards: Tensor
    """float32 [T, N]."""
    returns: Tensor
    """float64 [N], not overwritten."""
    success: Tensor
    """bool [N]: ended in the goal cell; not overwritten."""
    cue_seen: Tensor
    """bool [N]: visited the oracle; not overwritten."""
    q_values: Tensor | None = None
    """float32 [T, N, A], where asked for."""

    def numpy(self) -> Episodes:
        """The same as arrays; waits for the device. On a CPU the memory is shared."""
        arrays: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            arrays[f.name] = None if value is None else value.cpu().numpy()
        return Episodes(**arrays)


class DeviceCollector:
    """Plays whole episodes on one device; owns the tensors that they are written to.

    Stands in for `Collector`: with the same NumPy generator it draws the same random actions.

    Args:
        envs: mazes in mode "Disabled", not staggered, on the network's device.
        chunk: steps of one CUDA graph; 0 for no graphs.

    Attributes:
        captured: whether the last rollout replayed CUDA graphs.
    """

    def __init__(self, envs: DeviceTMaze, *, chunk: int = CHUNK) -> None:
        if envs.core.mode != "Disabled" or envs.stagger:
            raise ValueError(
                "envs: expected autoreset_mode 'Disabled' and stagger=False, as episodes begin and "
                f"end together here, got {envs.core.mode!r} and {envs.stagger}"
            )
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 0:
            raise ValueError(f"chunk: expected an integer of at least 0, got {chunk!r}")
        self.envs, self.chunk = envs, chunk
        spec, N, T = envs.task_spec, envs.num_envs, envs.task_spec.episode_length
        self.num_steps, self.device = T, envs.device
        self.captured = False

        def empty(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=self.device)

        self.obs = empty(torch.float32, T + 1, N, spec.obs_dim)
        self.actions, self.forced = empty(torch.uint8, T, N), empty(torch.int8, T, N)
        self.rewards = empty(torch.float32, T, N)
        self.q_values: Tensor | None = None
        self.t = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.action = torch.zeros(N, dtype=torch.int64, device=self.device)
        self._network: QNetwork | None = None
        self._weights: list[int] = []
        self._state: Any = None
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._graphs_of: tuple[Any, ...] | None = None

    def collect(
        self,
        network: QNetwork,
        *,
        epsilon: npt.NDArray[np.float64] | None = None,
        rng: np.random.Generator | torch.Generator | None = None,
        seed: int | None = None,
        keep_q_values: bool = False,
    ) -> Episodes:
        """As `Collector.collect`: `collect_tensors`, brought to NumPy once at the end."""
        played = self.collect_tensors(
            network, epsilon=epsilon, rng=rng, seed=seed, keep_q_values=keep_q_values
        )
        return played.numpy()

    @torch.no_grad()
    def collect_tensors(
        self,
        network: QNetwork,
        *,
        epsilon: npt.NDArray[np.float64] | None = None,
        rng: np.random.Generator | torch.Generator | None = None,
        seed: int | None = None,
        keep_q_values: bool = False,
    ) -> DeviceEpisodes:
        """Plays the next episode of every environment.

        Args:
            network: picks the greedy actions; left in its mode, so dropout acts where it is on.
            epsilon: chance of a random action, float64 [T, N]; None for none.
            rng: draws the random actions; needed with `epsilon`. A generator of NumPy draws what
                `Collector` would; one of torch, on the device, draws there, which is faster.
            seed: starts the environments' first episodes of this seed instead of the next ones.
            keep_q_values: also return the action values.

        Returns:
            The episodes, in tensors that the next call overwrites.

        Raises:
            ValueError: the network is on another device.
            MemoryError: the network's memory of so many steps does not fit the device.
        """
        parameter = next(network.parameters())
        if parameter.device != self.device:
            raise ValueError(
                f"network: expected one on {self.device}, where the envs are, got one on "
                f"{parameter.device}"
            )
        if epsilon is None or rng is None:
            self.forced.fill_(GREEDY)
        else:
            draw_forced(self.forced, epsilon, rng)
        if keep_q_values and self.q_values is None:
            shape = (*self.actions.shape, NUM_ACTIONS)
            self.q_values = torch.empty(shape, dtype=parameter.dtype, device=self.device)
        self._prepare_state(network)
        graphs = self._graphs_for(network, keep_q_values)
        self.envs.reset(seed=seed)
        self._begin(network)
        left = self.num_steps
        while left:
            steps = min(left, self.chunk or left)
            if steps in graphs:
                graphs[steps].replay()
            else:
                self._steps(network, steps, keep_q_values)
            left -= steps
        stats = self.envs.statistics
        return DeviceEpisodes(
            obs=self.obs,
            actions=self.actions,
            rewards=self.rewards,
            returns=stats.episode_return,
            success=stats.success,
            cue_seen=stats.cue_seen,
            q_values=self.q_values if keep_q_values else None,
        )

    def _begin(self, network: QNetwork) -> None:
        """All but the mazes as it is before the first step."""
        self.obs[0].copy_(self.envs.obs)
        self.t.zero_()
        self.action.fill_(NUM_ACTIONS)  # none
        if network.has_device_state:
            network.device_state(self.envs.num_envs, self.num_steps, self._state)
        else:
            self._state = network.initial_state(self.envs.num_envs, self.num_steps)

    def _steps(self, network: QNetwork, count: int, keep_q_values: bool) -> None:
        """So many steps from step t on: what a graph captures."""
        core, state = self.envs.core, self._state
        for _ in range(count):
            q, state = network.step(core.obs, self.action, state)  # [N, A]
            if keep_q_values and self.q_values is not None:
                self.q_values.index_copy_(0, self.t, q[None])
            forced = self.forced.index_select(0, self.t)[0].long()  # [N]
            self.action.copy_(torch.where(forced == GREEDY, q.argmax(dim=1), forced))
            core.step(self.action)
            self.actions.index_copy_(0, self.t, self.action.to(torch.uint8)[None])
            self.rewards.index_copy_(0, self.t, core.reward[None])
            self.t.add_(1)
            self.obs.index_copy_(0, self.t, core.obs[None])
        if not network.has_device_state:
            self._state = state
            return
        # What a step returned anew goes back to where the next replay will look for it.
        for kept, new in zip(_tensors(self._state), _tensors(state), strict=True):
            if new.data_ptr() != kept.data_ptr():
                kept.copy_(new)

    def _prepare_state(self, network: QNetwork) -> None:
        """The network's memory of an episode, made once for each network."""
        # Where its weights are: a graph reads them there, whatever they are by then.
        weights = [tensor.data_ptr() for tensor in network.state_dict().values()]
        if self._network is network and self._weights == weights:
            return
        self._drop_graphs()
        self._network, self._weights, self._state = network, weights, None
        if not network.has_device_state:
            return
        try:
            self._state = network.device_state(self.envs.num_envs, self.num_steps)
        except torch.cuda.OutOfMemoryError as error:
            self._network = None
            raise MemoryError(
                f"num_envs: the network's memory of {self.envs.num_envs} episodes of "
                f"{self.num_steps} steps does not fit {self.device}; play fewer at once ({error})"
            ) from error

    def _graphs_for(
        self, network: QNetwork, keep_q_values: bool
    ) -> dict[int, torch.cuda.CUDAGraph]:
        """Steps to the graph that does them; empty where the plain loop has to."""
        self.captured = False
        if self.device.type != "cuda" or not self.chunk:
            return {}
        precision = torch.get_float32_matmul_precision()
        identity = (self._weights, network.training, keep_q_values, precision)
        if self._graphs_of != identity:
            self._drop_graphs()
            if not network.has_device_state:
                _say_plain(f"{type(network.encoder).__name__} has no method device_state")
            else:
                stream = torch.cuda.current_stream(self.device)
                try:
                    self._capture(network, keep_q_values)
                except RuntimeError as error:  # torch has no narrower one for a failed capture
                    self._graphs = {}
                    torch.cuda.set_stream(stream)  # a capture that fails as it ends keeps its own
                    torch.cuda.synchronize(self.device)  # raises, should the device be lost
                    _say_plain(first_line(error))
            self._graphs_of = identity  # a capture that failed is not tried again
        self.captured = bool(self._graphs)
        return self._graphs

    def _capture(self, network: QNetwork, keep_q_values: bool) -> None:
        """Captures a chunk of steps, and what is left of an episode after whole chunks."""
        core, chunk = self.envs.core, min(self.chunk, self.num_steps)
        kept = core.snapshot()
        with torch.cuda.device(self.device):
            side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):
                # Compiles kernels and lets libraries make their workspaces, which a capture may
                # not do. The mazes' steps are undone.
                for _ in range(3):
                    core.reset()
                    self._begin(network)
                    self._steps(network, 1, keep_q_values)
                core.restore(kept)
            torch.cuda.current_stream(self.device).wait_stream(side)
            for steps in {chunk, self.num_steps % chunk} - {0}:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                    self._steps(network, steps, keep_q_values)
                self._graphs[steps] = graph

    def _drop_graphs(self) -> None:
        self._graphs, self._graphs_of = {}, None


def draw_forced(
    forced: Tensor,
    epsilon: npt.NDArray[np.float64],
    rng: np.random.Generator | torch.Generator,
) -> None:
    """Writes the random actions of an episode, and `GREEDY` where there is none.

    Args:
        forced: int8 [T, N] on the device, written.
        epsilon: chance of a random action, float64 [T, N].
        rng: a generator of NumPy, asked for step after step what `Collector` asks it, or one of
            torch on the device of `forced`.
    """
    T, N = forced.shape
    if epsilon.shape != (T, N):
        raise ValueError(f"epsilon: expected shape {(T, N)}, got {epsilon.shape}")
    if isinstance(rng, torch.Generator):
        for start in range(0, T, _ROWS):
            rows = forced[start : start + _ROWS]
            chance = torch.from_numpy(epsilon[start : start + _ROWS]).to(forced.device)
            draw = torch.rand(rows.shape, generator=rng, dtype=torch.float64, device=forced.device)
            rows.random_(0, NUM_ACTIONS, generator=rng)
            rows.masked_fill_(draw >= chance, GREEDY)
        return
    table = np.empty((T, N), np.int8)
    for t in range(T):
        explore = rng.random(N) < epsilon[t]
        table[t] = np.where(explore, rng.integers(0, NUM_ACTIONS, N), GREEDY)
    forced.copy_(torch.from_numpy(table))


def _tensors(state: Any) -> Iterator[Tensor]:
    """The tensors of a state: one, or any nesting of tuples, lists, dicts and dataclasses."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for name in sorted(state):
            yield from _tensors(state[name])
    elif isinstance(state, tuple | list):
        for part in state:
            yield from _tensors(part)
    elif is_dataclass(state):
        for f in fields(state):
            yield from _tensors(getattr(state, f.name))


def _say_plain(reason: str) -> None:
    warn_slower("rollout: no CUDA graph, steps are launched one by one", reason, stacklevel=4)
