"""Protects SAC-Discrete: one update equals the published one, written out in plain tensors.

Encoders are those of `test_paper_loss`; images, heads, targets, both losses and what passes
gradients to what follow from Ni et al. 2023 and the code published with it. Returns that the paper
does not use are held to loops over single steps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastmaze.agents.batch import Batch
from fastmaze.agents.returns import symexp, symlog
from fastmaze.agents.sac_discrete import SACDiscrete
from fastmaze.training import TrainConfig
from fastmaze.training.learner import Learner
from tests.agents.test_paper_loss import Weights, gpt2, lstm

LENGTH, B, A = 4, 3, 4
DISCOUNT, TEMPERATURE, TARGET_RATE, LEARNING_RATE = 0.99, 0.1, 0.005, 3e-4

CASES = {
    "gpt, one layer": ("PassiveVisualMatch", "gpt", 1),
    "gpt, two layers of two heads": ("KeyToDoor", "gpt", 2),
    "lstm": ("PassiveVisualMatch", "lstm", 1),
}


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """2 × 2, over [..., channels, rows, columns]."""
    rows, columns = x.shape[-2] - 1, x.shape[-1] - 1
    out = bias[:, None, None].expand(*x.shape[:-3], len(bias), rows, columns)
    for i in (0, 1):
        for j in (0, 1):
            part = x[..., i : i + rows, j : j + columns]
            out = out + torch.einsum("...chw,dc->...dhw", part, weight[:, :, i, j])
    return out


def features(w: Weights, obs: Tensor, heads: int) -> Tensor:
    """What actor and critics share: the image alone goes into the memory model, [B, T, F]."""
    x = obs.to(w["head.0.weight"].dtype) / 255
    for layer in (0, 2):
        name = f"embedder.convolutions.{layer}"
        x = convolution(x, w[f"{name}.weight"], w[f"{name}.bias"]).clamp(min=0)
    x = x.flatten(2) @ w["embedder.obs.weight"].T + w["embedder.obs.bias"]
    return lstm(w, x) if "encoder.lstm.weight_hh_l0" in w else gpt2(w, x, heads)


def head(w: Weights, name: str, x: Tensor) -> Tensor:
    for layer in (0, 2):
        x = (x @ w[f"{name}.{layer}.weight"].T + w[f"{name}.{layer}.bias"]).clamp(min=0)
    return x @ w[f"{name}.4.weight"].T + w[f"{name}.4.bias"]


def paper_loss(w: Weights, slow: Weights, batch: Batch, heads: int) -> Tensor:
    """Critics' squared errors, halved, and the policy's objective."""
    obs, actions, rewards, terminated, mask = batch
    h = features(w, obs, heads)  # [B, T + 1, F]
    policy = head(w, "head", h).softmax(-1)
    with torch.no_grad():
        after = h[:, 1:]
        least = torch.minimum(head(slow, "critics.0", after), head(slow, "critics.1", after))
        soft = (policy[:, 1:] * (least - TEMPERATURE * policy[:, 1:].log())).sum(-1)
        y = rewards + (1 - terminated.to(rewards.dtype)) * DISCOUNT * soft
    total = torch.zeros((), dtype=rewards.dtype)
    for critic in ("critics.0", "critics.1"):
        q = head(w, critic, h[:, :-1]).gather(2, actions[..., None])[..., 0]
        total = total + 0.5 * ((q - y) ** 2)[mask].sum()
    # The critics are frozen here, and what they see is: the actor's gradient reaches the encoder
    # through the policy alone.
    frozen = {name: value.detach() for name, value in w.items()}
    seen = h.detach()[:, :-1]
    least = torch.minimum(head(frozen, "critics.0", seen), head(frozen, "critics.1", seen))
    p = policy[:, :-1]
    total = total + (p * (TEMPERATURE * p.log() - least)).sum(-1)[mask].sum()
    return total / mask.sum()


def padded_batch(steps: int, dtype: torch.dtype) -> Batch:
    """Episodes of several lengths, rubbish behind their ends."""
    ends = torch.tensor([steps, 5, 1])[:, None]
    step = torch.arange(steps)
    return Batch(
        obs=torch.randint(0, 256, (B, steps + 1, 3, 5, 5), dtype=torch.uint8),
        actions=torch.randint(0, A, (B, steps)),
        rewards=torch.randn(B, steps, dtype=dtype),
        terminated=step == ends - 1,
        mask=step < ends,
    )


@pytest.mark.parametrize("case", CASES)
def test_one_update_is_the_published_one(case: str, tmp_path: Path) -> None:
    task, model, layers = CASES[case]
    torch.manual_seed(0)
    learner = Learner(
        TrainConfig(
            task=task,
            length=LENGTH,
            model=model,  # type: ignore[arg-type]
            algorithm="sac-discrete",
            preset="paper",
            dropout=0.0,
            updates_per_round=1,
            run_dir=tmp_path / "run",
        )
    )
    with torch.no_grad():
        for network in (learner.online, learner.target):
            network.double()
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    batch = padded_batch(learner.spec.episode_length, torch.float64)
    learner.replay.sample = lambda *_, **__: batch  # type: ignore[method-assign]
    online = {n: p.detach().clone().requires_grad_() for n, p in learner.online.named_parameters()}
    target = {n: p.detach().clone() for n, p in learner.target.named_parameters()}
    loss = paper_loss(online, target, batch, layers)
    loss.backward()
    stats = learner.learn()
    learner.close()
    assert abs(stats.loss) > 0.1
    assert stats.loss == pytest.approx(loss.item(), rel=1e-6)
    assert 0 < (stats.entropy or 0) <= torch.tensor(A).log()
    for name, parameter in learner.online.named_parameters():
        expected = online[name].grad
        assert expected is not None
        assert parameter.grad is not None, name
        error = float((parameter.grad - expected).abs().max())
        assert error <= 1e-6 * max(float(expected.abs().max()), 1e-3), name
        stepped = online[name].detach() - LEARNING_RATE * expected / (expected.abs() + 1e-8)
        clear = expected.abs() > 1e-6
        torch.testing.assert_close(parameter.detach()[clear], stepped[clear], rtol=0, atol=1e-6)
    for critic in ("critics.0", "critics.1"):
        for name, moved in learner.target.named_parameters():
            if name.startswith(critic):
                fast = dict(learner.online.named_parameters())[name].detach()
                slow = (1 - TARGET_RATE) * target[name] + TARGET_RATE * fast
                torch.testing.assert_close(moved.detach(), slow, rtol=0, atol=1e-8)
    swapped = paper_loss(target, {n: p.detach() for n, p in online.items()}, batch, layers)
    assert swapped.item() != pytest.approx(loss.item(), rel=1e-3)


def random_targets(agent: Callable[..., SACDiscrete]) -> tuple[Batch, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    T = 6
    batch = padded_batch(T, torch.float64)
    policy = torch.randn(B, T, A, dtype=torch.float64).softmax(-1)
    entropy = -(policy * policy.log()).sum(-1)
    return batch, policy, entropy, torch.randn(2, B, T, A, dtype=torch.float64)


@pytest.mark.parametrize("scale", ["linear", "symlog"])
def test_lambda_returns_follow_the_episode(scale: str) -> None:
    """Step by step from the end; entropies are paid on the way as at its end."""
    agent = SACDiscrete(
        discount=0.9,
        temperature=0.3,
        trace=0.7,
        reward_scale=2.0,
        value_scale=scale,  # type: ignore[arg-type]
    )
    batch, policy, entropy, q = random_targets(SACDiscrete)
    y = agent.targets(batch, policy, entropy, symlog(q) if scale == "symlog" else q)
    y = symexp(y) if scale == "symlog" else y
    for b in range(B):
        last = int(batch.mask[b].sum()) - 1
        following = None
        for t in range(last, -1, -1):
            expected = 2.0 * batch.rewards[b, t]
            if t < last:
                soft = (
                    policy[b, t] * (torch.minimum(*q[:, b, t]) - 0.3 * policy[b, t].log())
                ).sum()
                assert following is not None
                expected = expected + 0.9 * (0.3 * soft + 0.7 * (0.3 * entropy[b, t] + following))
            torch.testing.assert_close(y[b, t], expected)
            following = expected


def test_n_steps_sum_rewards() -> None:
    agent = SACDiscrete(discount=0.9, temperature=0.3, n_step=3)
    batch, policy, entropy, q = random_targets(SACDiscrete)
    y = agent.targets(batch, policy, entropy, q)
    value = (policy * torch.minimum(q[0], q[1])).sum(-1) + 0.3 * entropy
    r = batch.rewards[0]
    torch.testing.assert_close(y[0, 1], r[1] + 0.9 * r[2] + 0.81 * r[3] + 0.9**3 * value[0, 3])
    torch.testing.assert_close(y[0, 4], r[4] + 0.9 * r[5])
    torch.testing.assert_close(y[2, 0], batch.rewards[2, 0])
