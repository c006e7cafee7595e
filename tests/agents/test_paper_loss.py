"""Protects the paper preset: one update equals the paper's formulas, written out in plain tensors.

Nothing here calls the package's models, losses or optimisers: tokens, blocks, cells, targets, the
masked mean, Adam's first step and the slow copy follow from Ni et al. 2023 and GPT-2 (Radford et
al. 2019) alone. In float64 the two agree to 1e-6 and far below; float32 is held to what its sums
can give.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastmaze.agents.batch import Batch
from fastmaze.training import TrainConfig
from fastmaze.training.learner import Learner

LENGTH, B, A = 11, 5, 4
DISCOUNT, TARGET_RATE, LEARNING_RATE = 0.99, 0.005, 3e-4

CASES = {
    "gpt, one layer": ("PassiveTMaze", "gpt", 1),
    "gpt, two layers of two heads": ("ActiveTMaze", "gpt", 2),
    "lstm": ("PassiveTMaze", "lstm", 1),
}

Weights = dict[str, Tensor]


def tokens(w: Weights, obs: Tensor, actions: Tensor) -> Tensor:
    """Observation and previous action, each a linear layer and a ReLU: [B, T, E]."""
    before = torch.zeros(*obs.shape[:2], A, dtype=obs.dtype)  # no action is the zero vector
    before[:, 1:] = torch.eye(A, dtype=obs.dtype)[actions]
    seen = obs @ w["embedder.obs.weight"].T + w["embedder.obs.bias"]
    done = before @ w["embedder.action.weight"].T + w["embedder.action.bias"]
    return torch.cat([seen, done], dim=2).clamp(min=0)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * gain + bias


def gpt2(w: Weights, x: Tensor, heads: int) -> Tensor:
    """Sinusoidal positions, pre-LN blocks, a last LayerNorm: [B, T, F]."""
    T, F = x.shape[1:]
    position = torch.arange(T, dtype=torch.float64)[:, None]
    angle = position / 10_000 ** (torch.arange(0, F, 2, dtype=torch.float64) / F)  # [T, F / 2]
    table = torch.zeros(T, F, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = angle.sin(), angle.cos()
    x = x + table.to(x.dtype)
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    layer = 0
    while f"encoder.blocks.{layer}.qkv.weight" in w:
        at = {
            name: w[f"encoder.blocks.{layer}.{name}"]
            for name in (f"{part}.{kind}" for part in PARTS for kind in ("weight", "bias"))
        }
        y = layer_norm(x, at["norm1.weight"], at["norm1.bias"])
        q, k, v = (y @ at["qkv.weight"].T + at["qkv.bias"]).split(F, dim=2)
        mixed = []
        for head in range(heads):
            own = slice(head * F // heads, (head + 1) * F // heads)
            scores = q[..., own] @ k[..., own].mT / math.sqrt(F // heads)  # [B, T, T]
            weights = scores.masked_fill(future, -math.inf).softmax(-1)
            mixed.append(weights @ v[..., own])
        x = x + torch.cat(mixed, dim=2) @ at["project.weight"].T + at["project.bias"]
        y = layer_norm(x, at["norm2.weight"], at["norm2.bias"])
        y = y @ at["expand.weight"].T + at["expand.bias"]
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + y @ at["contract.weight"].T + at["contract.bias"]
        layer += 1
    return layer_norm(x, w["encoder.final_norm.weight"], w["encoder.final_norm.bias"])


PARTS = ("norm1", "qkv", "project", "norm2", "expand", "contract")


def lstm(w: Weights, x: Tensor) -> Tensor:
    """Hochreiter and Schmidhuber 1997, gates in the order input, forget, cell, output."""
    w = {name.removeprefix("encoder.lstm."): value for name, value in w.items()}
    F = w["weight_hh_l0"].shape[1]
    h = c = torch.zeros(len(x), F, dtype=x.dtype)
    out = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"]
        gates = gates + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = gates.split(F, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        out.append(h)
    return torch.stack(out, dim=1)


def values(w: Weights, obs: Tensor, actions: Tensor, heads: int) -> Tensor:
    """Q(h_t, a), [B, T, A]."""
    x = tokens(w, obs, actions)
    x = lstm(w, x) if "encoder.lstm.weight_hh_l0" in w else gpt2(w, x, heads)
    for layer in (0, 2):
        x = (x @ w[f"head.{layer}.weight"].T + w[f"head.{layer}.bias"]).clamp(min=0)
    return x @ w["head.4.weight"].T + w["head.4.bias"]


def paper_loss(online: Weights, target: Weights, batch: Batch, heads: int) -> Tensor:
    """Squared error to the double-Q target, over unpadded steps."""
    obs, actions, rewards, terminated, mask = batch
    with torch.no_grad():
        after = slice(1, None)
        best = values(online, obs, actions, heads)[:, after].argmax(2, keepdim=True)
        next_value = values(target, obs, actions, heads)[:, after].gather(2, best)[..., 0]
        y = rewards + (1 - terminated.to(rewards.dtype)) * DISCOUNT * next_value
    q = values(online, obs[:, :-1], actions[:, :-1], heads)
    taken = q.gather(2, actions[..., None])[..., 0]
    return ((taken - y) ** 2)[mask].sum() / mask.sum()


def padded_batch(steps: int, obs_dim: int, dtype: torch.dtype) -> Batch:
    """Episodes of several lengths, rubbish behind their ends."""
    ends = torch.tensor([steps, steps, 3, 1, steps - 2])[:, None]
    step = torch.arange(steps)
    return Batch(
        obs=torch.randint(-1, 2, (B, steps + 1, obs_dim)).to(dtype),
        actions=torch.randint(0, A, (B, steps)),
        rewards=torch.randn(B, steps, dtype=dtype),
        terminated=step == ends - 1,
        mask=step < ends,
    )


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, str, int]:
    return CASES[request.param]


@pytest.fixture
def make_learner(
    case: tuple[str, str, int], tmp_path: Path
) -> Callable[..., tuple[Learner, Batch]]:
    """A learner about to make one update of a given batch, online and target far apart."""
    task, model, _ = case

    def make(dtype: torch.dtype) -> tuple[Learner, Batch]:
        torch.manual_seed(0)
        learner = Learner(
            TrainConfig(
                task=task,
                length=LENGTH,
                model=model,  # type: ignore[arg-type]
                preset="paper",
                dropout=0.0,
                updates_per_round=1,
                run_dir=tmp_path / "run",
            )
        )
        with torch.no_grad():
            for network in (learner.online, learner.target):
                network.to(dtype)
                for parameter in network.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        spec = learner.spec
        batch = padded_batch(spec.episode_length, spec.obs_shape[0], dtype)
        learner.replay.sample = lambda *_, **__: batch  # type: ignore[method-assign]
        return learner, batch

    return make


def copied(learner: Learner, dtype: torch.dtype) -> tuple[Weights, Weights]:
    online, target = (
        {name: p.detach().to(dtype, copy=True) for name, p in network.named_parameters()}
        for network in (learner.online, learner.target)
    )
    return {name: p.requires_grad_() for name, p in online.items()}, target


def test_one_update_is_the_papers(
    make_learner: Callable[..., tuple[Learner, Batch]], case: tuple[str, str, int]
) -> None:
    learner, batch = make_learner(torch.float64)
    online, target = copied(learner, torch.float64)
    loss = paper_loss(online, target, batch, heads=case[2])
    loss.backward()
    stats = learner.learn()
    learner.close()
    assert stats.loss > 0.1
    assert stats.loss == pytest.approx(loss.item(), rel=1e-6)
    for name, parameter in learner.online.named_parameters():
        expected = online[name].grad
        assert expected is not None
        assert parameter.grad is not None, name
        largest = float(expected.abs().max())
        error = float((parameter.grad - expected).abs().max())
        assert error <= 1e-6 * max(largest, 1e-3), name
        # Adam's first step moves by g / (|g| + 1e-8), whatever its averages' rates.
        stepped = online[name].detach() - LEARNING_RATE * expected / (expected.abs() + 1e-8)
        # Where a gradient is about as small as that, the step says more of its rounding.
        clear = expected.abs() > 1e-6
        torch.testing.assert_close(parameter.detach()[clear], stepped[clear], rtol=0, atol=1e-6)
        moved = (parameter - online[name]).detach().abs()
        assert moved.max() <= 1.001 * LEARNING_RATE
        slow = (1 - TARGET_RATE) * target[name] + TARGET_RATE * parameter.detach()
        moved = dict(learner.target.named_parameters())[name]
        torch.testing.assert_close(moved.detach(), slow, rtol=0, atol=1e-8)


def test_float32_loses_no_more_than_its_sums_do(
    make_learner: Callable[..., tuple[Learner, Batch]], case: tuple[str, str, int]
) -> None:
    learner, batch = make_learner(torch.float32)
    online, target = copied(learner, torch.float64)
    exact = batch._replace(obs=batch.obs.double(), rewards=batch.rewards.double())
    loss = paper_loss(online, target, exact, heads=case[2])
    loss.backward()
    stats = learner.learn()
    learner.close()
    assert stats.loss == pytest.approx(loss.item(), rel=1e-6)
    gradients = [p.grad.double() for p in learner.online.parameters() if p.grad is not None]
    expected = [p.grad for p in online.values() if p.grad is not None]
    largest = max(float(g.abs().max()) for g in expected)
    for name, found, wanted in zip(online, gradients, expected, strict=True):
        assert float((found - wanted).abs().max()) <= 1e-5 * largest, name


def test_the_transcription_sees_what_differs(
    make_learner: Callable[..., tuple[Learner, Batch]], case: tuple[str, str, int]
) -> None:
    """A wrong discount, a padded step counted, or a mixed-up network would not pass unseen."""
    learner, batch = make_learner(torch.float64)
    learner.close()
    online, target = copied(learner, torch.float64)
    loss = paper_loss(online, target, batch, heads=case[2]).item()
    swapped = paper_loss(target, {n: p.detach() for n, p in online.items()}, batch, case[2]).item()
    counted = batch._replace(mask=torch.ones_like(batch.mask))
    unpadded = paper_loss(online, target, counted, heads=case[2]).item()
    ended = batch._replace(terminated=torch.zeros_like(batch.terminated))
    endless = paper_loss(online, target, ended, heads=case[2]).item()
    for other in (swapped, unpadded, endless):
        assert other != pytest.approx(loss, rel=1e-3)
