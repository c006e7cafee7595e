"""The fused double-Q loss against `agents.ddqn` in float64, on a GPU or under the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from fastmaze.agents.batch import Batch
from fastmaze.agents.ddqn import DDQN
from fastmaze.kernels import double_q_loss_triton
from fastmaze.kernels.double_q_loss import DoubleQLoss, double_q_loss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAN = float("nan")
IMPLS = ("reference", "triton")
DISCOUNT, SCALE = 0.875, 2.0


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `torch.empty` returns is NaN, so that no entry may stay unwritten."""
    empty = torch.empty

    def poisoned(*size: Any, **kind: Any) -> Tensor:
        out = empty(*size, **kind)
        return out.fill_(NAN) if out.is_floating_point() else out

    monkeypatch.setattr(torch, "empty", poisoned)


@pytest.fixture
def _many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few steps, and sums of more blocks than are added at once."""
    monkeypatch.setattr(double_q_loss_triton, "ELEMENTS", 16)
    monkeypatch.setattr(double_q_loss_triton, "COLUMNS", 4)


class Case:
    """Episodes of mixed lengths, some ending, some breaking off, and their values."""

    def __init__(self, B: int, T: int, A: int, dtype: torch.dtype = torch.float32) -> None:
        rng = torch.Generator().manual_seed(B * T + A)
        self.lengths = torch.randint(1, T + 1, (B,), generator=rng)
        self.q = torch.randn(B, T + 1, A, generator=rng)
        self.q[:, ::3] = self.q[:, ::3].round()  # several largest values
        self.q_target = torch.randn(B, T + 1, A, generator=rng)
        self.q, self.q_target = self.q.to(DEVICE, dtype), self.q_target.to(DEVICE, dtype)
        mask = torch.arange(T) < self.lengths[:, None]
        self.batch = Batch(
            obs=torch.zeros(0),
            actions=torch.randint(A, (B, T), generator=rng).to(DEVICE),
            rewards=torch.randn(B, T, generator=rng).to(DEVICE),
            terminated=(torch.rand(B, T, generator=rng) < 0.2).to(DEVICE),
            mask=mask.to(DEVICE),
        )

    def fused(self, impl: str, **changes: Any) -> tuple[DoubleQLoss, Tensor]:
        """The operation, and its gradient."""
        q = self.q.detach().requires_grad_()
        _, actions, rewards, terminated, mask = self.batch
        options = {"discount": DISCOUNT, "reward_scale": SCALE, "impl": impl} | changes
        out = double_q_loss(q, self.q_target, actions, rewards, terminated, mask, **options)
        (grad,) = torch.autograd.grad(out.loss, q)
        return out, grad

    def expected(self, **options: Any) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same by the agent's code in float64."""
        q = self.q.double().requires_grad_()
        batch = self.batch._replace(rewards=self.batch.rewards.double())
        agent = DDQN(DISCOUNT, reward_scale=SCALE, **options)
        out = agent.loss(lambda *_: q, lambda *_: self.q_target.double(), batch)
        (grad,) = torch.autograd.grad(out.loss, q)
        return (out.loss, out.q_mean, out.target_mean), grad


def assert_same(
    actual: tuple[DoubleQLoss, Tensor], expected: tuple[tuple[Tensor, ...], Tensor]
) -> None:
    """Equal up to the sums' rounding in float32 and the gradient's in its own dtype."""
    (out, grad), (expected_out, expected_grad) = actual, expected
    for x, y in zip(out, expected_out, strict=True):
        assert x.dtype == torch.float32
        assert abs(x.item() - y.item()) < 2e-6 * (1.0 + abs(y.item()))
    eps = max(2e-6, torch.finfo(grad.dtype).eps)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=eps, atol=1e-7)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("B", "T", "A"), [(1, 1, 1), (3, 17, 4), (2, 63, 3), (5, 130, 2)])
def test_equals_the_agents_loss(impl: str, B: int, T: int, A: int) -> None:
    """Loss, both means and the gradient, with equal values to choose from and mixed lengths."""
    case = Case(B, T, A)
    assert_same(case.fused(impl), case.expected())


@pytest.mark.usefixtures("_many_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_many_blocks_give_the_same_bits_each_time(dtype: torch.dtype) -> None:
    """Partial sums over blocks that straddle episodes; no order of adding is left to chance."""
    case = Case(2, 13, 3, dtype)
    out, grad = case.fused("triton")
    assert_same((out, grad), case.expected())
    again, again_grad = case.fused("triton")
    assert torch.equal(torch.stack(again), torch.stack(out))
    assert torch.equal(again_grad, grad)


@pytest.mark.parametrize("impl", IMPLS)
def test_targets_can_be_given(impl: str) -> None:
    """Lambda-returns from the agent, with nothing else to read."""
    case = Case(3, 20, 4)
    agent = DDQN(DISCOUNT, reward_scale=SCALE, trace=0.5)
    y = agent.targets(case.batch, case.q[:, 1:], case.q_target[:, 1:])
    _, actions, _, _, mask = case.batch
    q = case.q.detach().requires_grad_()
    out = double_q_loss(q, None, actions, None, None, mask, targets=y, impl=impl)
    (grad,) = torch.autograd.grad(out.loss, q)
    assert_same((out, grad), case.expected(trace=0.5))


@pytest.mark.parametrize("impl", IMPLS)
def test_what_does_not_count_is_not_used(impl: str) -> None:
    """NaN in padding and after terminal steps, and padded actions that there are not."""
    case = Case(4, 12, 3)
    wanted = case.fused(impl)
    assert_same(wanted, case.expected())
    _, actions, rewards, terminated, mask = case.batch
    case.q[:, 1:][~mask] = NAN
    case.q_target[:, 1:][~mask | terminated] = NAN
    case.q_target[:, 0] = NAN
    rewards[~mask] = NAN
    actions[~mask] = 99
    out, grad = case.fused(impl)
    assert torch.equal(torch.stack(out), torch.stack(wanted[0]))
    assert torch.equal(grad, wanted[1])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([1.0, 5.0, 5.0, 2.0], 1),
        ([-3.0, float("-inf"), -3.0, -4.0], 0),
        ([float("-inf")] * 4, 0),
        ([1.0, NAN, float("inf"), NAN], 1),
        ([float("inf"), 0.0, 0.0, NAN], 3),
    ],
)
def test_the_pick_is_torchs_argmax(impl: str, values: list[float], best: int) -> None:
    """The first of equal values; the first NaN before any number."""
    q = torch.zeros(1, 2, 4, device=DEVICE)
    q[0, 1] = torch.tensor(values)
    assert int(q[0, 1].argmax()) == best
    q_target = torch.tensor([[[0.0] * 4, [10.0, 20.0, 30.0, 40.0]]], device=DEVICE)
    zeros = torch.zeros(1, 1, device=DEVICE)
    out = double_q_loss(
        q, q_target, zeros.long(), zeros, zeros.bool(), ~zeros.bool(), discount=0.5, impl=impl
    )
    assert out.target_mean.item() == 5.0 * (best + 1)


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_unmasked_is_zero(impl: str) -> None:
    """An empty mean is 0 with a gradient of 0, not 0 / 0."""
    case = Case(2, 5, 3)
    case.batch.mask[:] = False
    out, grad = case.fused(impl)
    assert torch.stack(out).tolist() == [0.0, 0.0, 0.0]
    assert not grad.any()


@pytest.mark.parametrize("wrong", [-1, 3, 2**40])
def test_an_action_that_there_is_not_shows(wrong: int) -> None:
    """The kernel cannot raise: its loss is NaN, and the gradient at that step; torch raises."""
    case = Case(2, 5, 3)
    case.batch.mask[:] = True
    case.batch.actions[1, 2] = wrong
    out, grad = case.fused("triton")
    assert out.loss.isnan()
    where = grad.isnan().any(dim=2).nonzero().tolist()
    assert where == [[1, 2]]
    if DEVICE == "cpu":
        with pytest.raises(ValueError, match=f"actions: expected 0 to 2 .* got {wrong}"):
            case.fused("reference")


@pytest.mark.parametrize("impl", IMPLS)
def test_any_strides_and_any_scale(impl: str) -> None:
    """Values laid out [A, T + 1, B], and a loss that is a part of a larger one."""
    case = Case(3, 9, 4)
    (loss, *_), grad = case.fused(impl)
    q, q_target = (
        x.permute(2, 1, 0).contiguous().permute(2, 1, 0) for x in (case.q, case.q_target)
    )
    q.requires_grad_()
    _, actions, rewards, terminated, mask = case.batch
    rewards = rewards.t().contiguous().t()
    out = double_q_loss(
        q,
        q_target,
        actions,
        rewards,
        terminated,
        mask,
        discount=DISCOUNT,
        reward_scale=SCALE,
        impl=impl,
    )
    assert not out.q_mean.requires_grad
    assert not out.target_mean.requires_grad
    assert out.loss.item() == loss.item()
    (scaled,) = torch.autograd.grad(4.0 * out.loss, q)
    assert torch.equal(scaled, 4.0 * grad)


@pytest.mark.parametrize("impl", IMPLS)
def test_is_a_good_custom_operation(impl: str) -> None:
    """Schema, fake tensors and autograd registration agree with what it does."""
    case = Case(2, 5, 3)
    _, actions, rewards, terminated, mask = case.batch
    q = case.q.requires_grad_()
    torch.library.opcheck(
        torch.ops.fastmaze.double_q_loss.default,
        (q, case.q_target, actions, rewards, terminated, mask, None, 0.5, 1.0, impl),
    )


def test_compiles_into_one_graph() -> None:
    """No graph break, the same numbers."""
    case = Case(2, 5, 3)
    wanted = case.fused("auto")
    torch.compiler.reset()
    compiled = torch.compile(double_q_loss, fullgraph=True, backend="aot_eager")
    q = case.q.detach().requires_grad_()
    _, actions, rewards, terminated, mask = case.batch
    out = compiled(
        q,
        case.q_target,
        actions,
        rewards,
        terminated,
        mask,
        discount=DISCOUNT,
        reward_scale=SCALE,
    )
    assert out.loss.item() == wanted[0].loss.item()
    (grad,) = torch.autograd.grad(out.loss, q)
    assert torch.equal(grad, wanted[1])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("q_all", torch.zeros(2, 5), ValueError),
        ("q_all", torch.zeros(2, 1, 3), ValueError),
        ("q_all", torch.zeros(2, 5, 2000), ValueError),
        ("q_all", torch.zeros(2, 5, 3, dtype=torch.int64), TypeError),
        ("q_target", torch.zeros(2, 4, 3), ValueError),
        ("q_target", torch.zeros(2, 5, 3, dtype=torch.float16), TypeError),
        ("q_target", None, ValueError),
        ("actions", torch.zeros(2, 5, dtype=torch.int64), ValueError),
        ("actions", torch.zeros(2, 4), TypeError),
        ("rewards", torch.zeros(2, 4, dtype=torch.float64), TypeError),
        ("terminated", torch.zeros(2, 4), TypeError),
        ("mask", torch.zeros(2, 4), TypeError),
        ("mask", torch.zeros(2, 4, dtype=torch.bool, device="meta"), ValueError),
        ("targets", torch.zeros(2, 5), ValueError),
        ("impl", "cuda", ValueError),
    ],
)
def test_refuses_what_does_not_fit(name: str, value: object, error: type[Exception]) -> None:
    """Each message begins with the argument that is wrong."""
    arguments: dict[str, Any] = {
        "q_all": torch.zeros(2, 5, 3),
        "q_target": torch.zeros(2, 5, 3),
        "actions": torch.zeros(2, 4, dtype=torch.int64),
        "rewards": torch.zeros(2, 4),
        "terminated": torch.zeros(2, 4, dtype=torch.bool),
        "mask": torch.ones(2, 4, dtype=torch.bool),
    }
    with pytest.raises(error, match=f"^{name}: expected "):
        double_q_loss(**(arguments | {name: value}))
