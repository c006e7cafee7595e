"""The device backend gives native's bits, for every task and mode, on tensors that stay put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fastmaze
from fastmaze.envs.backends import device_core
from fastmaze.envs.backends.base import Mode
from fastmaze.envs.backends.device import DeviceBackend
from fastmaze.envs.backends.device_core import DeviceCore
from fastmaze.envs.backends.device_philox import draw_goal_bit
from fastmaze.envs.backends.errors import Busy, Closed, NotReady
from fastmaze.envs.backends.native import NativeBackend
from fastmaze.reference.philox import draw_goal
from fastmaze.specs import make_spec
from tests.backends.population import COMPILED, DEVICE, Population, walk
from tests.backends.strategies import specs

MODES = ("NextStep", "SameStep", "Disabled")
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no GPU"))  # fmt: skip
DEVICES = ["cpu", CUDA]


@st.composite
def walks(draw: st.DrawFn) -> dict[str, Any]:
    """A population of any task, and how it is driven."""
    return {
        "spec": draw(specs()),
        "mode": draw(st.sampled_from(MODES)),
        "num_envs": draw(st.integers(1, 40)),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "env_offset": draw(st.integers(0, 2**32 - 41)),
        "stagger": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["int64", "int32", "int8", "uint8"])),
    }


def check_equals_native(make: Any, steps: int, *, dtype: str, **how: Any) -> None:
    actions = walk(how["seed"] % 1000, steps, how["num_envs"], dtype)
    native, device = Population(NativeBackend, **how), Population(make, **how)
    assert device.record(actions) == native.record(actions)
    assert device.backend.get_state().tobytes() == native.backend.get_state().tobytes()


@pytest.mark.parametrize("make", DEVICE[::2])
@given(how=walks())
@settings(max_examples=25)
def test_plain_torch_equals_native(make: Any, how: dict[str, Any]) -> None:
    check_equals_native(make, 40, **how)


@pytest.mark.parametrize("make", DEVICE[1::2])
@given(how=walks())
@settings(max_examples=6)
def test_the_kernel_equals_native(make: Any, how: dict[str, Any]) -> None:
    check_equals_native(make, 20, **how)


@pytest.mark.parametrize("make", COMPILED)
def test_a_corridor_of_ten_thousand_cells(make: Any) -> None:
    """A whole episode: straight to an arm, by way of the oracle, and with a few steps astray."""
    spec = make_spec("ActiveTMaze", length=10_000)
    native, device = (Population(m, spec, 4, "Disabled", seed=3) for m in (NativeBackend, make))
    generator = np.random.default_rng(0)
    actions = np.zeros((spec.episode_length, 4), np.uint8)
    actions[0, :2] = 2
    actions[-1] = [1, 3, 1, 1]
    astray = generator.integers(1, 10_000, 40)
    actions[astray, 3] = generator.integers(1, 4, 40)
    for row in actions:
        native.step(row)
        device.step(row)
        for name in ("obs", "reward", "terminated"):
            assert getattr(native, name).tobytes() == getattr(device, name).tobytes()
    for ours, theirs in zip(device.backend.statistics, native.backend.statistics, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    goals = native.backend.positions()[:, 3]
    assert native.backend.statistics.success[:2].tolist() == (goals[:2] == [1, -1]).tolist()
    assert 0 < native.backend.positions()[3, 0] < spec.junction


@pytest.mark.parametrize("device", DEVICES)
def test_draws_are_those_of_the_specification(device: str) -> None:
    """Also where words have their highest bits set."""
    generator = np.random.default_rng(0)
    keys = generator.integers(0, 2**64, 300, dtype=np.uint64)
    keys[:3] = 0, 2**64 - 1, 2**63
    words = generator.integers(0, 2**32, (2, 300))
    words[:, :4] = [[0, 2**32 - 1, 2**32 - 1, 2**31], [0, 2**32 - 1, 0, 2**31]]
    tensors = [torch.from_numpy(keys.view(np.int64)), *torch.from_numpy(words)]
    bits = draw_goal_bit(*(tensor.to(device) for tensor in tensors))
    wanted = [draw_goal(int(k), int(i), int(e)) for k, i, e in zip(keys, *words, strict=True)]
    assert (2 * bits - 1).tolist() == wanted


def tensors_of(core: DeviceCore) -> dict[str, Tensor]:
    return {name: value for name, value in vars(core).items() if isinstance(value, Tensor)}


class NoWaiting(TorchDispatchMode):
    """Fails where a value is asked for or a tensor comes from another device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        out = func(*args, **(kwargs or {}))
        assert "_local_scalar_dense" not in str(func)
        assert "nonzero" not in str(func)
        found = [x for x in torch.utils._pytree.tree_leaves((args, out)) if isinstance(x, Tensor)]
        assert {x.device.type for x in found} <= {"meta"}, f"{func} leaves the device"
        return out


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes tensors of no values: to ask for one, as `item` does, is an error."""
    monkeypatch.setattr(device_core, "choose_device", lambda _: torch.device("meta"))


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("mode", MODES)
def test_a_step_never_asks_for_a_value_and_stays_in_place(mode: Mode) -> None:
    """What a CUDA graph asks for; the same number of operations, whatever the values."""
    spec = make_spec("TMaze", corridor_length=5, oracle_length=1, distract_reward=0.5,
                     expose_goal=True, add_timestep=True)  # fmt: skip
    core = DeviceCore(spec, 7, mode, impl="torch")
    with pytest.raises(RuntimeError, match="meta"):
        core.reward.sum().item()
    core.reset()
    before = tensors_of(core)
    with NoWaiting():
        core.step(torch.zeros(7, dtype=torch.uint8, device="meta"))
        core.statistics()
        core.positions()
    assert all(tensor is before[name] for name, tensor in tensors_of(core).items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("impl", ["torch", "triton"])
@pytest.mark.parametrize("mode", MODES)
def test_a_captured_step_replays_as_native(mode: Mode, impl: Any) -> None:
    spec, num_envs = make_spec("ActiveTMaze", length=4), 1000
    native = Population(NativeBackend, spec, num_envs, mode, seed=9)
    envs = fastmaze.DeviceTMaze(
        spec, num_envs=num_envs, autoreset_mode=mode, device="cuda", impl=impl
    )
    envs.reset(seed=9)
    actions = torch.zeros(num_envs, dtype=torch.int64, device="cuda")
    kept = envs.core.snapshot()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        envs.core.step(actions)
        envs.core.restore(kept)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        envs.core.step(actions)
    for row in walk(0, spec.episode_length if mode == "Disabled" else 30, num_envs):
        actions.copy_(torch.from_numpy(row))
        graph.replay()
        native.step(row)
        np.testing.assert_array_equal(envs.obs.cpu().numpy(), native.obs)
        np.testing.assert_array_equal(envs.core.reward.cpu().numpy(), native.reward)
        np.testing.assert_array_equal(envs.core.terminated.cpu().numpy(), native.terminated)
    envs.check()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_tensor_envs_equal_the_vector_envs(device: str) -> None:
    """Seeds of all kinds, masks and goals; what a step returns is the envs' own memory."""
    options: dict[str, Any] = {"num_envs": 6, "length": 3, "env_offset": 11}
    theirs = fastmaze.make_vec("ActiveTMaze", autoreset_mode="SameStep", **options)
    ours = fastmaze.make_device("ActiveTMaze", autoreset_mode="SameStep", device=device, **options)
    actions = walk(4, 30, 6, "int32")
    mask, goals = np.arange(6) % 2 == 0, np.array([1, -1, -1, 1, 1, -1])
    seeds: list[Any] = [5, [1, None, 2**64 - 1, 3, None, 0], None]
    for seed in seeds:
        np.testing.assert_array_equal(ours.reset(seed=seed).cpu(), theirs.reset(seed=seed)[0])
        for row in actions:
            stepped = ours.step(torch.from_numpy(row).to(device))
            for mine, other in zip(stepped, theirs.step(row)[:4], strict=True):
                np.testing.assert_array_equal(mine.cpu(), other)
        for mine, other in zip(ours.statistics, theirs.statistics, strict=True):
            np.testing.assert_array_equal(mine.cpu(), other)
    theirs.reset(options={"reset_mask": mask, "goal_y": goals})
    ours.reset(mask=torch.from_numpy(mask).to(device), goal_y=goals)
    np.testing.assert_array_equal(ours.positions().cpu(), theirs.backend.positions())
    np.testing.assert_array_equal(ours.get_state(), theirs.get_state())
    assert stepped.obs is ours.obs


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", MODES)
def test_renewed_memory_keeps_what_was_returned(device: str, mode: Mode) -> None:
    """Whoever stores the tensors of every step may, when they are renewed before each."""
    how: dict[str, Any] = {"num_envs": 7, "length": 30, "device": device, "autoreset_mode": mode}
    renewed, plain = (fastmaze.make_device("PassiveTMaze", **how) for _ in range(2))
    kept, copies = [renewed.reset(seed=3)], [plain.reset(seed=3).clone()]
    for row in walk(1, 25, 7, "int64"):
        actions = torch.from_numpy(row).to(device)
        renewed.renew()
        kept += renewed.step(actions)
        copies += [tensor.clone() for tensor in plain.step(actions)]
    assert len({tensor.data_ptr() for tensor in kept}) == len(kept)
    for tensor, copy in zip(kept, copies, strict=True):
        assert torch.equal(tensor, copy)
    assert renewed.obs.data_ptr() == kept[-4].data_ptr()


def test_a_state_goes_on_elsewhere(device: str) -> None:
    options: dict[str, Any] = {"num_envs": 5, "length": 4}
    native = fastmaze.make_vec("PassiveTMaze", **options)
    native.reset(seed=2)
    actions = walk(1, 20, 5)
    for row in actions[:9]:
        native.step(row)
    ours = fastmaze.make_device("PassiveTMaze", device=device, **options)
    ours.set_state(native.get_state())
    for row in actions[9:]:
        obs = native.step(row)[0]
        np.testing.assert_array_equal(ours.step(torch.from_numpy(row).to(device)).obs.cpu(), obs)
    np.testing.assert_array_equal(ours.get_state(), native.get_state())


@pytest.mark.parametrize("make", DEVICE)
def test_wrong_values_are_told_by_check(make: Any) -> None:
    """A step cannot raise for values without waiting; nobody moves for an action that is none."""
    core = make(make_spec("PassiveTMaze", length=2), 3, "Disabled").core
    core.reset()
    core.check()
    core.step(torch.tensor([0, 4, -1], device=core.device))
    assert core.x.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="actions: expected every action to be 0, 1, 2 or 3"):
        core.check()
    core.check()  # told once
    for _ in range(3):
        core.step(torch.zeros(3, dtype=torch.int64, device=core.device))
    with pytest.raises(NotReady, match="after its episode's end"):
        core.check()


def test_an_episode_that_just_ended_is_no_fault(device: str) -> None:
    envs = fastmaze.make_device("PassiveTMaze", num_envs=2, length=2, device=device)
    envs.reset(seed=0)
    for _ in range(9):  # NextStep: the step after the end is right
        envs.step(torch.zeros(2, dtype=torch.int64, device=device))
    envs.check()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e.step([0, 0]), TypeError, "actions: expected .* on cpu, got list"),
        (lambda e: e.step(torch.zeros(2)), TypeError, "actions: .*got torch.float32"),
        (lambda e: e.step(torch.zeros(3, dtype=torch.int64)), ValueError, r"got shape \(3,\)"),
        (
            lambda e: e.step(torch.zeros(2, dtype=torch.int64, device="meta")),
            ValueError,
            "actions: .*on cpu, got one on meta",
        ),
        (lambda e: e.reset(mask=torch.ones(2)), TypeError, "mask: expected torch.bool"),
        (lambda e: e.reset(goal_y=2), ValueError, "goal_y: expected -1 or .1, .*got 2"),
        (lambda e: e.reset(goal_y=[1, 0]), ValueError, "goal_y: .*got 0"),
        (lambda e: e.reset(goal_y=[1]), ValueError, r"goal_y: .*got shape \(1,\)"),
        (lambda e: e.reset(goal_y=1.0), TypeError, "goal_y: .*got dtype torch.float32"),
        (lambda e: e.reset(seed=-1), ValueError, "seed"),
        (lambda e: e.set_state(np.zeros(3, np.uint8)), ValueError, "state: expected shape"),
    ],
)
def test_tensor_envs_refuse_by_name(call: Any, error: type, message: str) -> None:
    envs = fastmaze.make_device("PassiveTMaze", num_envs=2, length=3, device="cpu")
    envs.reset(seed=0)
    before = envs.get_state()
    with pytest.raises(error, match=message):
        call(envs)
    np.testing.assert_array_equal(envs.get_state(), before)


def test_tensor_envs_refuse_calls_at_the_wrong_time() -> None:
    envs = fastmaze.make_device("PassiveTMaze", num_envs=2, length=3, device="cpu")
    with pytest.raises(NotReady, match="call reset first"):
        envs.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(NotReady, match="the first reset must reset every env"):
        envs.reset(mask=torch.ones(2, dtype=torch.bool))
    envs.close()
    with pytest.raises(Closed, match="closed"):
        envs.reset()
    with pytest.raises(Closed, match="closed"):
        envs.step(torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "gpu"}, ValueError, "device: expected cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "meta"}, ValueError, "device: expected cpu, cuda or cuda:N, got 'meta'"),
        ({"device": 0}, TypeError, "device: expected a name such as cpu or cuda, got 0"),
        ({"impl": "cuda"}, ValueError, "impl: expected one of"),
        ({"autoreset_mode": "Never"}, ValueError, "mode: expected one of .*got 'Never'"),
        ({"num_envs": 0}, ValueError, "num_envs"),
    ],
)
def test_making_refuses_by_name(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fastmaze.make_device("PassiveTMaze", **{"device": "cpu", **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to be had")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    for make in (fastmaze.make_vec, fastmaze.make_device):
        how = {"backend": "device"} if make is fastmaze.make_vec else {}
        with pytest.raises(ValueError, match="device: expected one that is here, got 'cuda'"):
            make("PassiveTMaze", device="cuda", **how)
    assert fastmaze.make_device("PassiveTMaze").device == torch.device("cpu")


def test_a_second_caller_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another thread would be that calls while a step is under way."""
    envs = Population(DeviceBackend, make_spec("PassiveTMaze", length=3), 2, device="cpu")
    backend, refused = envs.backend, []
    state = backend.get_state()
    calls: list[Callable[[], Any]] = [
        backend.get_state, backend.positions, backend.close, lambda: backend.reset(envs.obs),
        lambda: backend.observe(envs.obs), lambda: backend.set_state(state),
        lambda: envs.step(np.zeros(2, np.int64)),
        lambda: backend.unroll(*(np.zeros((1, 2), np.int64) for _ in range(5))),
    ]  # fmt: skip
    step = backend.core.step

    def meanwhile(actions: Tensor) -> None:
        for call in calls:
            with pytest.raises(Busy):
                call()
            refused.append(call)
        step(actions)

    monkeypatch.setattr(backend.core, "step", meanwhile)
    envs.step(np.zeros(2, np.int64))
    assert len(refused) == len(calls)
    assert backend.positions()[:, 0].tolist() == [1, 1]


def test_only_the_device_backend_takes_a_device() -> None:
    with pytest.raises(ValueError, match='device: expected none with backend="native"'):
        fastmaze.make_vec("PassiveTMaze", device="cpu")
    envs: Any = fastmaze.make_vec("PassiveTMaze", backend="device", device="cpu")
    assert envs.backend.device == torch.device("cpu")
