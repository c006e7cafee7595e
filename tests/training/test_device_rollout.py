"""Rollouts on the device: the ordinary collector's episodes, and no waiting inside one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fastmaze
from fastmaze.envs.backends import device_core
from fastmaze.models.gpt import POSITIONS
from fastmaze.models.q_network import QNetwork
from fastmaze.specs import NUM_ACTIONS
from fastmaze.training import TrainConfig
from fastmaze.training.device_rollout import GREEDY, DeviceCollector, draw_forced
from fastmaze.training.evaluation import Evaluator
from fastmaze.training.learner import Learner
from fastmaze.training.network import build_network
from fastmaze.training.rollout import Collector, Episodes

Make = Callable[..., TrainConfig]
N = 6
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no GPU"))  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    **{f"gpt-{name}": {"positions": name, "num_layers": 2, "num_heads": 2} for name in POSITIONS},
    "lstm": {"model": "lstm", "num_layers": 2},
}


def network_of(config: TrainConfig) -> QNetwork:
    """A network with weights so large that its choices depend on everything it saw."""
    network = build_network(config)
    torch.manual_seed(2)  # after what building drew: other initial weights change nothing here
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def on_device(config: TrainConfig, num_envs: int = N, **options: Any) -> fastmaze.DeviceTMaze:
    return fastmaze.make_device(
        config.task,
        num_envs=num_envs,
        device=config.device,
        autoreset_mode="Disabled",
        **config.env_options,
        **options,
    )


def collectors(config: TrainConfig, **options: Any) -> tuple[Collector, DeviceCollector]:
    native = fastmaze.make_vec(
        config.task, num_envs=N, autoreset_mode="Disabled", **config.env_options
    )
    return Collector(native), DeviceCollector(on_device(config), **options)


def assert_same(ours: Episodes, theirs: Episodes, *, q_tolerance: float) -> None:
    for name in ("obs", "actions", "rewards", "returns", "success", "cue_seen"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert mine.dtype == other.dtype, name
        np.testing.assert_array_equal(mine, other, name)
    np.testing.assert_allclose(ours.q_values, theirs.q_values, rtol=q_tolerance, atol=q_tolerance)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("task", ["PassiveTMaze", "ActiveTMaze"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_ordinary_collectors_episodes(tiny: Make, name: str, task: str, device: str) -> None:
    """With the same generator: seeded, going on, and with chunks that do not divide the episode."""
    config = tiny(task=task, length=9, device=device, float32_precision="ieee", **NETWORKS[name])
    network = network_of(config)
    ordinary, ours = collectors(config, chunk=4)
    T = config.spec.episode_length
    epsilon = np.linspace(0, 1, T * N).reshape(T, N)
    epsilon[:, 0] = 0
    mine, others = np.random.default_rng(3), np.random.default_rng(3)
    for seed in (2**63 + 5, None, None):
        wanted = ordinary.collect(
            network, epsilon=epsilon, rng=others, seed=seed, keep_q_values=True
        )
        played = ours.collect(network, epsilon=epsilon, rng=mine, seed=seed, keep_q_values=True)
        assert_same(played, wanted, q_tolerance=1e-6 if device == "cpu" else 1e-4)
    assert ours.captured == (device == "cuda")
    assert mine.random() == others.random()
    assert (wanted.actions[:, 0] != 0).any()
    envs_state = ordinary.envs.get_state()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(ours.envs.get_state(), envs_state)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_weights_may_change_between_episodes(tiny: Make, device: str) -> None:
    """In place, as an optimiser does, or by another network; then back, and greedy again."""
    config = tiny(length=9, device=device, float32_precision="ieee")
    first, second = network_of(config), network_of(config)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.neg_()
    ordinary, ours = collectors(config, chunk=4)
    for step, network in enumerate((first, first, second, second, first)):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        seed = step if step % 2 else None
        if step == 0:
            seed = 0
        wanted = ordinary.collect(network, seed=seed, keep_q_values=True)
        played = ours.collect(network, seed=seed, keep_q_values=True)
        assert_same(played, wanted, q_tolerance=1e-6 if device == "cpu" else 1e-4)


def test_dropout_acts_on_the_device_too(tiny: Make) -> None:
    """In training mode alone; the published runs collect with it."""
    config = tiny(length=9, dropout=0.4)
    network, ours = network_of(config), collectors(config)[1]
    values = {}
    for name, training in (("train", True), ("again", True), ("eval", False), ("same", False)):
        played = ours.collect(network.train(training), seed=1, keep_q_values=True)
        assert played.q_values is not None
        values[name] = played.q_values[0].copy()  # the first step: the same history in each
    assert (values["train"] != values["again"]).any()
    np.testing.assert_array_equal(values["eval"], values["same"])


class OnDevice(TorchDispatchMode):
    """Fails where a step asks for a value, or takes a tensor from another device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        assert "_local_scalar_dense" not in str(func)
        found = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        assert {x.device.type for x in found} <= {"meta"}, f"{func} leaves the device"
        return out


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_waits_inside_an_episode(
    tiny: Make, name: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On tensors without values, of which to ask for one is an error."""
    monkeypatch.setattr(device_core, "choose_device", lambda _: torch.device("meta"))
    if name == "lstm" and dropout:
        pytest.skip("the LSTM has no dropout")
    config = tiny(length=4, device="meta", dropout=dropout, **NETWORKS[name])
    network = build_network(config).train()
    collector = DeviceCollector(on_device(config, impl="torch"))
    collector.collect_tensors(network)  # what is made once is made
    with pytest.raises(RuntimeError, match="meta"):
        collector.t.item()
    with torch.no_grad(), OnDevice():
        collector._begin(network)
        collector._steps(network, config.spec.episode_length, True)


def test_a_replayed_chunk_would_find_everything_where_it_was(tiny: Make) -> None:
    """What a graph needs: no tensor of the loop is replaced, in an episode or between two."""
    for options in NETWORKS.values():
        config = tiny(length=5, **options)
        network, collector = network_of(config), collectors(config, chunk=2)[1]
        places = []
        for _ in range(2):
            collector.collect(network, seed=0)
            held = tree_leaves([vars(collector), vars(collector.envs.core), collector._state])
            cache = collector._state
            parts = cache if isinstance(cache, tuple) else (cache.keys, cache.values, cache.length)
            tensors = [x for x in (*held, *parts) if isinstance(x, Tensor)]
            places.append([x.data_ptr() for x in tensors])
        assert len(places[0]) > 25
        assert places[0] == places[1]


class Plugged(nn.Module):
    """An encoder of somebody else's: it remembers the last step, and counts in Python."""

    output_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(32, 16)

    def initial_state(self, batch_size: int, max_length: int) -> Any:
        return torch.zeros(batch_size, 16, device=self.mix.weight.device), 0

    def step(self, x: Tensor, state: Any) -> Any:
        last, count = state
        y = torch.tanh(self.mix(torch.cat([x, last], -1))) / (1 + count)
        return y, (y, count + 1)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_any_encoder_can_be_played(tiny: Make, device: str) -> None:
    """Without states of tensors alone there is no graph, which is said."""
    config = tiny(length=9, device=device)
    network = network_of(config)
    network.encoder = Plugged().to(device)
    ordinary, ours = collectors(config, chunk=4)
    wanted = ordinary.collect(network, seed=4, keep_q_values=True)
    if device == "cuda":
        with pytest.warns(RuntimeWarning, match="Plugged has no method device_state"):
            played = ours.collect(network, seed=4, keep_q_values=True)
    else:
        played = ours.collect(network, seed=4, keep_q_values=True)
    assert_same(played, wanted, q_tolerance=1e-5)
    assert not ours.captured


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_failed_capture_is_said_and_played_without(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(length=9, device="cuda", float32_precision="ieee")
    network = network_of(config)
    ordinary, ours = collectors(config, chunk=4)
    step = QNetwork.step

    def waits(self: QNetwork, *args: Any) -> Any:
        q, state = step(self, *args)
        q.sum().item()
        return q, state

    monkeypatch.setattr(QNetwork, "step", waits)
    with pytest.warns(RuntimeWarning, match="no CUDA graph"):
        played = ours.collect(network, seed=4, keep_q_values=True)
    assert not ours.captured
    assert_same(played, ordinary.collect(network, seed=4, keep_q_values=True), q_tolerance=1e-4)
    ours.collect(network)  # not tried again, nor said
    # Neither torch's random numbers nor its stream are left as they were in the capture.
    assert torch.rand(3, device="cuda").isfinite().all()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_random_actions_drawn_on_the_device(device: str) -> None:
    """As often as asked at each step, every action alike, the same for the same generator."""
    T, envs = 600, 400
    epsilon = np.repeat(np.linspace(0, 1, T)[:, None], envs, 1)
    tables = []
    for _ in range(2):
        forced = torch.empty(T, envs, dtype=torch.int8, device=device)
        draw_forced(forced, epsilon, torch.Generator(device).manual_seed(5))
        tables.append(forced.cpu().numpy())
    np.testing.assert_array_equal(*tables)
    explored = tables[0] != GREEDY
    assert not explored[0].any()
    assert explored[-1].all()
    # Within five standard errors, in tenths of the episode.
    shares = explored.reshape(10, -1).mean(1)
    np.testing.assert_allclose(shares, np.linspace(0.05, 0.95, 10), atol=5 * 0.5 / 24_000**0.5)
    counts = np.bincount(tables[0][explored], minlength=NUM_ACTIONS)
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=5 * 0.433 / 120_000**0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: DeviceCollector(on_device(c, stagger=True)), "envs: expected autoreset_mode"),
        (
            lambda c: DeviceCollector(fastmaze.make_device("PassiveTMaze", device="cpu")),
            "got 'NextStep' and False",
        ),
        (lambda c: DeviceCollector(on_device(c), chunk=-1), "chunk: expected an integer"),
        (
            lambda c: DeviceCollector(on_device(c)).collect(network_of(c).to("meta")),
            "network: expected one on cpu, where the envs are, got one on meta",
        ),
        (
            lambda c: DeviceCollector(on_device(c)).collect(
                network_of(c), epsilon=np.zeros((3, N)), rng=np.random.default_rng(0)
            ),
            r"epsilon: expected shape \(6, 6\), got \(3, 6\)",
        ),
    ],
)
def test_errors_name_the_argument(tiny: Make, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tiny())


@pytest.mark.parametrize("model", ["gpt", "lstm"])
def test_training_with_the_device_backend_is_the_same_run(tiny: Make, model: str) -> None:
    """Weights, episodes and evaluations: the backend changes the speed alone."""
    runs = []
    for backend in ("native", "device"):
        torch.manual_seed(0)
        config = tiny(backend=backend, model=model)
        learner, evaluator = Learner(config), Evaluator(config, 20)
        for _ in range(4):
            learner.collect()
            learner.learn()
        result = evaluator.evaluate(learner.acting, seed=5)
        tensors, values = learner.get_state()
        runs.append((tensors, values, result))
        learner.close()
        evaluator.close()
    (ours, our_values, our_result), (theirs, their_values, their_result) = runs
    assert our_result == their_result
    assert our_values == their_values
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
