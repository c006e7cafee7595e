"""Protects the targets and the loss of double Q-learning against formulas written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastmaze.agents.batch import Batch, step_weights
from fastmaze.agents.ddqn import DDQN
from fastmaze.agents.returns import symexp, symlog

B, T, D, A = 5, 9, 2, 4


def random_batch(lengths: list[int] | None = None) -> Batch:
    """Episodes of the given lengths (all T by default), padded with rubbish to T."""
    ends = torch.tensor(lengths or [T] * B)
    steps = torch.arange(T)
    return Batch(
        obs=torch.randn(B, T + 1, D, dtype=torch.float64),
        actions=torch.randint(0, A, (B, T)),
        rewards=torch.randn(B, T, dtype=torch.float64),
        terminated=steps[None] == ends[:, None] - 1,
        mask=steps[None] < ends[:, None],
    )


def random_values() -> tuple[Tensor, Tensor]:
    return torch.randn(B, T, A, dtype=torch.float64), torch.randn(B, T, A, dtype=torch.float64)


def greedy_actions(batch: Batch, q_next: Tensor, every: int) -> Batch:
    """The same batch, with most actions made the greedy ones."""
    actions = batch.actions.clone()
    for t in range(1, T):
        if t % every:
            actions[:, t] = q_next[:, t - 1].argmax(-1)
    return batch._replace(actions=actions)


def slow_targets(algo: DDQN, batch: Batch, q_next: Tensor, q_target: Tensor) -> Tensor:
    """One episode, one step, one sum at a time, forwards, as the definitions read."""
    y = torch.zeros(B, T, dtype=torch.float64)
    for b in range(B):
        length = int(batch.mask[b].sum())

        def value(t: int, b: int = b) -> float:
            return q_target[b, t, int(q_next[b, t].argmax())].item()

        def n_step_return(t: int, n: int, b: int = b, length: int = length) -> float:
            total, weight = 0.0, 1.0
            for i in range(t, min(t + n, length)):
                total += weight * batch.rewards[b, i].item() * algo.reward_scale
                weight *= algo.discount
            last = min(t + n, length) - 1
            return total if batch.terminated[b, last] else total + weight * value(last)

        for t in range(length):
            if algo.trace == 0:
                y[b, t] = n_step_return(t, algo.n_step)
                continue
            # Watkins: the n-step returns up to the first action that is not greedy.
            longest = 1
            while t + longest < length and int(q_next[b, t + longest - 1].argmax()) == int(
                batch.actions[b, t + longest]
            ):
                longest += 1
            for n in range(1, longest + 1):
                last = n == longest
                weight = algo.trace ** (n - 1) * (1 if last else 1 - algo.trace)
                y[b, t] += weight * n_step_return(t, n)
    return y


@pytest.mark.parametrize("lengths", [None, [9, 1, 4, 8, 2]])
@pytest.mark.parametrize(
    "options",
    [
        {"discount": 0.9},
        {"discount": 1.0, "reward_scale": 3.0},
        {"discount": 0.9, "trace": 1.0},
        {"discount": 0.97, "trace": 0.7, "reward_scale": 0.5},
        {"discount": 0.9, "n_step": 3},
        {"discount": 1.0, "n_step": 100},
    ],
)
def test_targets_are_those_of_the_definitions(
    options: dict[str, Any], lengths: list[int] | None
) -> None:
    torch.manual_seed(0)
    algo = DDQN(**options)
    q_next, q_target = random_values()
    batch = greedy_actions(random_batch(lengths), q_next, every=4)
    y = algo.targets(batch, q_next, q_target)
    expected = slow_targets(algo, batch, q_next, q_target)
    torch.testing.assert_close(y[batch.mask], expected[batch.mask])


def test_the_online_network_picks_and_the_target_network_values() -> None:
    batch = random_batch()._replace(rewards=torch.zeros(B, T, dtype=torch.float64))
    q_next, q_target = torch.zeros(B, T, A), torch.zeros(B, T, A)
    q_next[..., 2] = 1.0  # the online network prefers action 2 …
    q_target[..., 2], q_target[..., 3] = 5.0, 7.0  # … which the target network does not
    y = DDQN(discount=0.5).targets(batch, q_next, q_target)
    assert (y[:, :-1] == 2.5).all()
    assert (y[:, -1] == 0).all(), "nothing follows the last step"


class Net(nn.Module):
    """A causal network: a running sum of embedded observations and earlier actions."""

    def __init__(self) -> None:
        super().__init__()
        self.obs = nn.Linear(D, 16).double()
        self.action = nn.Embedding(A, 16).double()
        self.head = nn.Linear(16, A).double()
        self.calls: list[tuple[int, bool]] = []

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        self.calls.append((obs.shape[1], torch.is_grad_enabled()))
        before = nn.functional.pad(self.action(actions), (0, 0, 1, 0))
        return self.head((self.obs(obs) + before).cumsum(1).tanh())


def loss_and_gradients(algo: DDQN, online: Net, target: Net, batch: Batch) -> list[Tensor]:
    online.zero_grad()
    loss = algo.loss(online, target, batch)
    loss.loss.backward()
    return [
        loss.loss.detach(),
        *(p.grad.clone() for p in online.parameters() if p.grad is not None),
    ]


def test_one_shared_forward_equals_separate_ones() -> None:
    torch.manual_seed(1)
    online, target, batch = Net(), Net(), random_batch()
    shared = loss_and_gradients(DDQN(discount=0.9), online, target, batch)
    assert online.calls == [(T + 1, True)]
    separate = loss_and_gradients(DDQN(discount=0.9, separate_forwards=True), online, target, batch)
    assert online.calls[1:] == [(T + 1, False), (T, True)]
    torch.testing.assert_close(shared, separate)
    assert target.calls == [(T + 1, False)] * 2, "targets need no gradients"


def test_padding_changes_neither_loss_nor_gradients() -> None:
    torch.manual_seed(2)
    online, target = Net(), Net()
    lengths = [3, 9, 1, 5, 9]
    batch, algo = random_batch(lengths), DDQN(discount=0.9, trace=0.5)
    padded = loss_and_gradients(algo, online, target, batch)
    rubbish = batch._replace(
        rewards=torch.where(batch.mask, batch.rewards, 1e6),
        actions=torch.where(batch.mask, batch.actions, 3),
    )
    torch.testing.assert_close(loss_and_gradients(algo, online, target, rubbish), padded)


def test_the_loss_is_the_mean_squared_error() -> None:
    torch.manual_seed(3)
    online, target, batch = Net(), Net(), random_batch([9, 9, 4, 9, 2])
    algo = DDQN(discount=0.9)
    result = algo.loss(online, target, batch)
    q = online(batch.obs, batch.actions)
    y = algo.targets(batch, q[:, 1:], target(batch.obs, batch.actions)[:, 1:])
    errors = [
        (q[b, t, batch.actions[b, t]] - y[b, t]) ** 2
        for b in range(B)
        for t in range(T)
        if batch.mask[b, t]
    ]
    torch.testing.assert_close(result.loss, torch.stack(errors).mean())
    torch.testing.assert_close(result.target_mean, y[batch.mask].mean())


@pytest.mark.parametrize("options", [{"trace": 0.7}, {"trace": 0.0}, {"n_step": 3}])
def test_symlog_values_stand_for_returns(options: dict[str, Any]) -> None:
    """Networks that predict symlog get the symlog of the targets that linear ones get."""
    torch.manual_seed(4)
    q_next, q_target = random_values()
    batch = greedy_actions(random_batch([9, 3, 9, 2, 7]), q_next, every=4)
    linear = DDQN(discount=0.9, reward_scale=40.0, **options)
    squashed = DDQN(discount=0.9, reward_scale=40.0, value_scale="symlog", **options)
    expected = symlog(linear.targets(batch, q_next, q_target))
    y = squashed.targets(batch, q_next, symlog(q_target))
    torch.testing.assert_close(y[batch.mask], expected[batch.mask])


def test_symlog_is_undone_by_symexp() -> None:
    x = torch.tensor([-1e4, -1.0, -1e-8, 0.0, 0.5, 3e5], dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x)
    torch.testing.assert_close(symlog(x)[-1], torch.tensor(3e5 + 1).double().log())
    assert symexp(torch.tensor([-1e3, 1e3])).isfinite().all(), "a wild guess stays finite"


@pytest.mark.parametrize("value_scale", ["linear", "symlog"])
def test_without_a_future_the_rewards_are_the_targets(value_scale: Any) -> None:
    torch.manual_seed(5)
    online, target, batch = Net(), Net(), random_batch([9, 4, 9, 1, 9])
    algo = DDQN(discount=0.0, reward_scale=3.0, value_scale=value_scale)
    result = algo.loss(online, target, batch)
    assert not target.calls
    q = online(batch.obs, batch.actions)[:, :-1].gather(2, batch.actions[..., None])[..., 0]
    y = symlog(3 * batch.rewards) if value_scale == "symlog" else 3 * batch.rewards
    torch.testing.assert_close(result.loss, (q - y)[batch.mask].square().mean())


def test_edges_have_their_share_of_the_loss() -> None:
    """First steps, last ones, and changed rewards; also where episodes are padded or very short."""
    torch.manual_seed(6)
    online, target = Net(), Net()
    lengths = [9, 6, 2, 9, 1]
    batch = random_batch(lengths)
    rewards = torch.zeros_like(batch.rewards)
    rewards[0, 4:] = -1.0  # as where a turn is wrong: behind from there on
    rewards[1, 6:] = 5.0  # padding, which is not looked at
    rewards[3] = torch.arange(9)  # another at each step: none stands out
    batch = batch._replace(rewards=rewards)
    edges = [[0, 4, 8], [0, 5], [0, 1], list(range(9)), [0]]
    algo = DDQN(discount=0.9, edge_share=0.15)
    result = algo.loss(online, target, batch)
    q = online(batch.obs, batch.actions)
    y = algo.targets(batch, q[:, 1:], target(batch.obs, batch.actions)[:, 1:])
    error = (q[:, :-1].gather(2, batch.actions[..., None])[..., 0] - y).square()
    total = torch.zeros((), dtype=error.dtype)
    for e, length, marked in zip(error, lengths, edges, strict=True):
        others = [t for t in range(length) if t not in marked]
        share = max(0.15, 1 / length) if others else 1 / length
        total += length * share * e[marked].sum()
        if others:
            total += length * (1 - len(marked) * share) * e[others].mean()
    torch.testing.assert_close(result.loss, total / sum(lengths))


def test_many_edges_share_half_of_the_loss() -> None:
    rewards = torch.zeros(1, 100)
    rewards[0, 10:30:2] = 1.0  # up and down ten times: twenty edges, with the first and last 22
    weights = step_weights(torch.ones(1, 100), rewards, 0.04)[0]
    edges = [0, *range(10, 30), 99]
    torch.testing.assert_close(weights[edges], torch.full((22,), 50 / 22))
    others = [t for t in range(100) if t not in edges]
    torch.testing.assert_close(weights[others], torch.full((78,), 50 / 78))


@pytest.mark.parametrize("T", [1, 2, 3, 7, 24, 26, 200])
def test_no_share_makes_the_edges_count_for_less(T: int) -> None:
    weights = step_weights(torch.ones(1, T), torch.zeros(1, T), 0.04)[0]
    assert weights.sum().item() == pytest.approx(T, rel=1e-5)
    assert weights[0] == weights[-1] >= weights[T // 2] - 1e-6
    if T > 25:
        assert weights[0].item() == pytest.approx(0.04 * T)


def test_an_episode_of_padding_has_no_weight() -> None:
    weights = step_weights(torch.zeros(2, 5), torch.arange(10.0).view(2, 5), 0.04)
    assert not weights.any()


def test_more_steps_than_an_episode_has_cost_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    B, T, A = 2, 6, 4
    done = torch.zeros(B, T, dtype=torch.bool)
    done[:, -1] = True
    batch = Batch(
        torch.zeros(B, T + 1, 2),
        torch.randint(A, (B, T), generator=generator),
        torch.rand(B, T, generator=generator),
        done,
        torch.ones_like(done),
    )
    q = torch.rand(B, T, A, generator=generator)
    whole = DDQN(discount=0.9, n_step=T).targets(batch, q, q)
    # Ten million passes over the steps would take hours.
    assert torch.equal(DDQN(discount=0.9, n_step=10_000_000).targets(batch, q, q), whole)
