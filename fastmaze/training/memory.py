"""How much memory a run will take, counted before anything is allocated.

```
 always there   replay | episodes under way | networks and Adam
 in turns       a rollout's cache | an evaluation's cache | an update | a checkpoint's copy
```

Of what is there in turns, the largest counts. (Environments on the device keep both caches.)
Counted are tensors; what the programs themselves take, some hundred MB, is not among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

import torch

from fastmaze.models.own_model import Measured, check_own, is_own
from fastmaze.models.pixel_embedder import CHANNELS, KERNEL
from fastmaze.training.config import TrainConfig
from fastmaze.training.evaluation import eval_envs
from fastmaze.training.free_memory import free_memory
from fastmaze.training.replay import replay_bytes

CPU_TOKENS: Final = 4096
"""Steps of a micro-batch on a CPU: what they leave for the backward pass then stays in its cache.
Measured on one core: at T = 500 and 1,500 a transformer's update of 32 episodes took 10 to 20 %
less time in micro-batches of 1 to 8 episodes than as a whole, and no more at T = 50 and 250."""

DISTINCT_ROWS: Final = 2**14
"""Distinct histories that go through the networks at once, where these are shared; of episodes
longer than a quarter of that, as many as four of them have steps. More at once share more. An LSTM,
each of whose rows takes twice the memory, gets half of it, of long episodes `LSTM_ROWS`."""

LSTM_ROWS: Final = 8
"""Episodes at least in a micro-batch of an LSTM, whose steps cost much the same for fewer."""

UPDATE_BYTES: Final = {"cpu": 4 * 2**30, "cuda": 12 * 2**30}
"""What an update may take for its activations before they are split or made twice. On a GPU it
lets 64 episodes of 10,000 steps at width 128 go into 24 GB, in two parts. Always the same, so that
the same configuration is the same run whatever else the machine is doing."""

_TEMPORARY: Final = 20
"""Float32 values per token and width that a pass needs for a moment, beside what it keeps. With
it, the measured peak of a CPU's process was 0.9 to 1.1 times the count for micro-batches of more
than 200 MB; below, the program's own some 50 to 150 MB show."""


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """How an update is cut to fit."""

    micro_batch_size: int
    """Episodes that go through the networks at once."""
    distinct_rows: int
    """Distinct histories that do, where each is computed once (`TrainConfig.shares_histories`)."""
    recompute: bool
    """Whether blocks run forward once more in the backward pass."""
    bytes: int
    """Activations of a micro-batch and the batch itself."""


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """One thing that takes memory."""

    name: str
    """For a person to read."""
    device: str
    """"cpu", or the training device."""
    bytes: int
    transient: bool = False
    """There in turns with others of its kind."""
    field: str = ""
    """What to lower, and the memory with it; "" for nothing."""
    value: int = 1
    """What it is now."""
    least: int = 1
    """What it can be lowered to."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """All that a process of a run will take."""

    parts: tuple[MemoryPart, ...]
    update: UpdatePlan
    replay_device: str
    """Where the replay is."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that hold something."""
        return tuple(dict.fromkeys(part.device for part in self.parts))

    def total(self, device: str) -> int:
        """Bytes on a device at the busiest moment."""
        return _total([part for part in self.parts if part.device == device])

    def describe(self) -> str:
        """A line for each device: its parts from 1 % of all on, largest first."""
        lines = []
        for device in self.devices:
            total = self.total(device)
            parts = [p for p in self.parts if p.device == device and 100 * p.bytes >= total]
            parts.sort(key=lambda part: -part.bytes)
            told = ", ".join(f"{part.name} {_size(part.bytes)}" for part in parts)
            lines.append(f"memory on {device}, at most {_size(total)} at once: {told}")
        return "\n".join(lines)

    def check(self, free: dict[str, int]) -> None:
        """Refuses what does not fit.

        Args:
            free: device to bytes that are free there.

        Raises:
            ValueError: it does not fit; says what to lower, and to what.
        """
        remedy = "lower length" if self.update.recompute else "set recompute, or lower length"
        for device, there in free.items():
            if self.total(device) > there:
                parts = [part for part in self.parts if part.device == device]
                largest = max(parts, key=lambda part: part.bytes)
                raise ValueError(
                    f"memory: the run needs {_size(self.total(device))} on {device}, "
                    f"{_size(there)} are free; most goes to: {largest.name}, "
                    f"{_size(largest.bytes)}. {_advice(parts, there, remedy)}"
                )


def plan_memory(config: TrainConfig, processes: int = 1) -> MemoryPlan:
    """What each process of a run will take; looks at free memory for `replay_on` "auto" alone.

    Args:
        config: the run.
        processes: how many train together.
    """
    device = "cpu" if torch.device(config.device).type == "cpu" else config.device
    update = plan_update(config, processes)
    plan = MemoryPlan(_parts(config, processes, device, device, update), update, device)
    if device == "cpu" or config.replay_on == "device":
        return plan
    if config.replay_on == "auto" and plan.total(device) <= free_memory(device):
        return plan
    return MemoryPlan(_parts(config, processes, device, "cpu", update), update, "cpu")


def plan_update(config: TrainConfig, processes: int = 1) -> UpdatePlan:
    """How many episodes go through the networks at once, and whether blocks are recomputed.

    Args:
        config: the run.
        processes: how many share a batch.
    """
    hyper, T = config.hyper, config.spec.episode_length
    kind = torch.device(config.device).type
    batch = math.ceil(hyper.batch_size / processes)
    most = UPDATE_BYTES.get(kind, UPDATE_BYTES["cuda"])
    recompute = config.recompute
    if recompute is None:
        recompute = config.model == "gpt" and activation_bytes(config, 1, recompute=False) > most
    size = config.micro_batch_size
    if size is None:
        size = max(1, most // activation_bytes(config, 1, recompute=recompute))
    size = min(size, batch)
    if config.model == "lstm":
        at_least, episodes = DISTINCT_ROWS // 2, LSTM_ROWS
    else:
        at_least, episodes = DISTINCT_ROWS, 4
    distinct_rows = min(size * (T + 1), max(at_least, episodes * (T + 1)))
    if config.micro_batch_size is None and kind == "cpu":
        rows = 1 if config.model == "gpt" else LSTM_ROWS
        size = min(size, max(rows, CPU_TOKENS // (T + 1)))
    tokens = size * (T + 1)
    if config.shares_histories:
        tokens = max(tokens, min(batch * (T + 1), distinct_rows))
    # Observations as the task has them, rewards float32, actions int64, two masks.
    obs = config.spec.obs_bytes
    whole = batch * (obs * (T + 1) + (4 + 8 + 2) * T)
    per_token = activation_bytes(config, 1, recompute=recompute) / (T + 1)
    return UpdatePlan(
        micro_batch_size=_equal_slices(batch, size),
        distinct_rows=distinct_rows,
        recompute=recompute,
        bytes=whole + math.ceil(per_token * tokens),
    )


def _equal_slices(batch: int, most: int) -> int:
    """Episodes of each where a batch is cut into as few slices as hold at most so many."""
    return math.ceil(batch / math.ceil(batch / most))


def activation_bytes(config: TrainConfig, rows: int, *, recompute: bool) -> int:
    """What a pass over so many episodes keeps for its backward pass, and needs for a moment."""
    hyper, F = config.hyper, config.hyper.width
    E = hyper.obs_width + hyper.action_width
    half = 0.5 if config.compute_dtype == "bfloat16" else 1.0
    # The embedded step, both norms of the last token, the head's layers, values and their loss.
    heads = _num_heads(config)
    outside: float = E + 3 * F + heads * (sum(hyper.head_widths) + 4 * config.spec.num_actions) + 4
    outside += _pixels(config).kept
    inside: float
    if is_own(config.model):
        inside = _own(config).kept_bytes / 4
    elif config.model == "lstm":
        # Gates, cells and their activations, and copies of what comes in.
        inside = (11 * F + 6 * E) + (hyper.num_layers - 1) * 17 * F
    else:
        # Input and its sum with attention; what autocast makes narrow: norms, queries, keys,
        # values, what attention gives, the MLP's middle.
        block = (2 + 14 * half) * F + (F if hyper.num_heads > 1 else 0) + hyper.num_heads + 4
        block += 3 * F if hyper.positions == "rotary" else 0
        block += 6 * F if hyper.dropout else 0
        inside = hyper.num_layers * F + block if recompute else hyper.num_layers * block
        outside += F if hyper.positions in ("sinusoidal", "learned") or F != E else 0
        outside += 2 * F if hyper.dropout else 0
    tokens = rows * (config.spec.episode_length + 1)
    return math.ceil(4 * tokens * (outside + inside + _TEMPORARY * F))


def cache_bytes(config: TrainConfig, num_envs: int) -> int:
    """The network's memory of so many episodes played together."""
    hyper = config.hyper
    if is_own(config.model):
        return _own(config).state_bytes * num_envs
    per_width = 4 * hyper.num_layers * hyper.width * num_envs
    if config.model == "lstm":
        return 8 * per_width  # hidden and cell state, old and new, and gates
    return 2 * per_width * config.spec.episode_length  # keys and values


def network_bytes(config: TrainConfig) -> int:
    """Weights of the online and the target network, gradients, and Adam's two averages."""
    hyper, F = config.hyper, config.hyper.width
    E = hyper.obs_width + hyper.action_width
    widths = (F, *hyper.head_widths, config.spec.num_actions)
    count = _num_heads(config) * sum(a * b + b for a, b in pairwise(widths))
    pixels = _pixels(config)
    count += pixels.weights + hyper.obs_width * (pixels.outputs + 1)
    count += hyper.action_width * (config.spec.num_actions + 1)
    if is_own(config.model):
        count += _own(config).parameters
    elif config.model == "lstm":
        count += 4 * F * (E + F + 2) + (hyper.num_layers - 1) * 4 * F * (2 * F + 2)
    else:
        count += hyper.num_layers * (12 * F * F + 13 * F) + 2 * F + (E * F + F if E != F else 0)
        if hyper.positions in ("learned", "sinusoidal"):
            count += (config.spec.episode_length + 1) * F
    return 5 * 4 * count


def _own(config: TrainConfig) -> Measured:
    """What a memory model of one's own takes; also tries whether it is one."""
    hyper = config.hyper
    return check_own(
        config.model,
        hyper.obs_width + hyper.action_width,
        width=hyper.width,
        num_layers=hyper.num_layers,
        max_length=config.spec.episode_length + 1,
    )


class _Pixels(NamedTuple):
    """What comes before an embedder's linear layer."""

    weights: int
    """Of the convolutions."""
    kept: int
    """Values per step that their backward pass needs."""
    outputs: int
    """Entries that the linear layer gets."""


def _pixels(config: TrainConfig) -> _Pixels:
    shape = config.spec.obs_shape
    if len(shape) != 3:
        return _Pixels(0, 0, math.prod(shape))
    weights, kept, outputs = 0, math.prod(shape), 0
    channels, rows, columns = shape
    for after in CHANNELS:
        weights += after * (channels * KERNEL**2 + 1)
        channels, rows, columns = after, rows - KERNEL + 1, columns - KERNEL + 1
        outputs = channels * rows * columns
        kept += outputs
    return _Pixels(weights, kept, outputs)


def _num_heads(config: TrainConfig) -> int:
    """Of the network: values; or policy and two critics."""
    return 3 if config.algorithm == "sac-discrete" else 1


def _parts(
    config: TrainConfig, processes: int, device: str, replay_device: str, update: UpdatePlan
) -> tuple[MemoryPart, ...]:
    hyper, spec = config.hyper, config.spec
    T, envs = spec.episode_length, hyper.num_envs // processes
    together = eval_envs(config, config.eval_episodes)
    players = math.ceil(together / processes)
    tensors = config.backend == "device"
    episode = spec.obs_bytes * (T + 1) + (5 + tensors) * T
    chances = 8 * T * envs  # of a random action
    replay = math.ceil(replay_bytes(spec, config.replay_episodes) / processes)
    where = device if tensors else "cpu"
    in_turns = not tensors
    # A batch of more episodes than are kept is refused.
    kept = ("replay_steps", config.replay_episodes * T, hyper.batch_size * T)
    played = ("num_envs", hyper.num_envs)
    evaluated = ("eval_episodes", together)
    at_once = update.micro_batch_size
    if config.shares_histories:
        at_once = max(at_once, update.distinct_rows // (T + 1))
    micro = ("micro_batch_size", at_once)
    cache, eval_cache = cache_bytes(config, envs), cache_bytes(config, players)
    return (
        MemoryPart("replay", replay_device, replay, False, *kept),
        MemoryPart("checkpoint's copy of it", "cpu", replay, True, *kept),
        MemoryPart("episodes under way", where, envs * episode, False, *played),
        MemoryPart("exploration", "cpu", chances, False, *played),
        MemoryPart("evaluation's episodes", where, players * episode, False, *evaluated),
        MemoryPart("rollout's cache", device, cache, in_turns, *played),
        MemoryPart("evaluation's cache", device, eval_cache, in_turns, *evaluated),
        MemoryPart("networks and optimiser", device, network_bytes(config)),
        MemoryPart("update", device, update.bytes, True, *micro),
    )


def _total(parts: list[MemoryPart]) -> int:
    always = sum(part.bytes for part in parts if not part.transient)
    return always + max((part.bytes for part in parts if part.transient), default=0)


def _advice(parts: list[MemoryPart], free: int, remedy: str) -> str:
    """Lowers one field after another, the most expensive first, until all fits."""
    parts, lowered = list(parts), dict[str, int]()
    while (excess := _total(parts) - free) > 0:
        busiest = max((part.bytes for part in parts if part.transient), default=0)
        choices = [
            part
            for part in parts
            if part.value > part.least
            and part.field not in lowered
            and (not part.transient or part.bytes == busiest)
        ]
        if not choices:
            return f"Lowering {', '.join(lowered) or 'what can be lowered'} is not enough: {remedy}"
        part = max(choices, key=lambda part: part.bytes)
        value = max(part.least, part.value * max(0, part.bytes - excess) // part.bytes)
        lowered[part.field] = value
        parts = [
            replace(p, bytes=p.bytes * value // p.value, value=value)
            if p.field == part.field
            else p
            for p in parts
        ]
    return "To make it fit, lower " + ", ".join(
        f"{field} to {value:,}".replace(",", "_") for field, value in lowered.items()
    )


def _size(count: int) -> str:
    """Bytes for a person to read."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
