"""Protects updates over distinct histories: values and gradients are those of all steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmaze.models import histories
from fastmaze.models.histories import MOST_TOKENS, Histories, find_histories, fingerprints
from fastmaze.models.q_network import QNetwork
from fastmaze.training.config import TrainConfig
from fastmaze.training.network import build_network


def walks(tokens: Tensor) -> dict[tuple[int, int], tuple[int, frozenset[tuple[int, int]]]]:
    """For each step of int64 [B, T] its newest token, and how often each was seen."""
    found = {}
    for b, row in enumerate(tokens.tolist()):
        seen: Counter[int] = Counter()
        for t, token in enumerate(row):
            seen[token] += 1
            found[b, t] = (token, frozenset(seen.items()))
    return found


def check(found: Histories, tokens: Tensor) -> None:
    """Every step's history is what a walk through its episode counts, and no two are one."""
    numbers = tokens.flatten()[found.tokens]
    newest_of, counts_of, where = found.distinct
    for (b, t), (newest, seen) in walks(tokens).items():
        row = int(where[b * tokens.shape[1] + t])
        assert int(numbers[newest_of[row]]) == newest
        counts = zip(numbers.tolist(), counts_of[row].tolist(), strict=True)
        assert {(token, int(n)) for token, n in counts if n} == seen


@pytest.mark.parametrize("kinds", [1, 2, 5, MOST_TOKENS])
def test_each_history_is_found_once(kinds: int) -> None:
    generator = torch.Generator().manual_seed(kinds)
    # Long stretches of one token, as in a corridor, so that many histories are shared.
    draws = torch.randint(kinds, (9, 40), generator=generator)
    tokens = torch.where(torch.rand(9, 40, generator=generator) < 0.2, draws, 0)
    tokens[0, : min(kinds, 40)] = torch.arange(kinds)
    found = find_histories(tokens)
    assert found is not None
    assert len(found.tokens) == kinds
    check(found, tokens)
    assert len(found.distinct.newest) == len(set(walks(tokens).values()))


def test_the_example_of_the_docstring() -> None:
    c, r, left = 7, 3, 9
    tokens = torch.tensor([[c, r, r, r], [c, r, left, r], [c, r, r, left]])
    found = find_histories(tokens)
    assert found is not None
    assert (len(found.tokens), len(found.distinct.newest)) == (3, 7)
    where = found.distinct.where.view_as(tokens)
    assert where[0, :2].equal(where[1, :2])
    assert where[0, :3].equal(where[2, :3])
    assert len(where.unique()) == 7
    assert where[1, 3] != where[2, 3], "the same counts, but another newest token"


def test_two_histories_under_one_number_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a collision of the random numbers would bring about."""
    monkeypatch.setattr(histories, "random_numbers", lambda n: torch.ones(n, dtype=torch.int64))
    tokens = torch.tensor([[0, 1, 2, 2], [2, 1, 0, 0]])
    found = find_histories(tokens)
    assert found is not None
    check(found, tokens)


def test_too_many_tokens_are_not_counted() -> None:
    assert find_histories(torch.arange(MOST_TOKENS + 1)[None]) is None
    assert find_histories(torch.arange(MOST_TOKENS)[None]) is not None


def test_fingerprints_tell_steps_apart_by_their_bits() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    x[250:] = x[:250].flip(0)
    prints = fingerprints(x)
    assert prints[250:].equal(prints[:250].flip(0))
    assert len(prints.unique()) == 250
    assert len(fingerprints(x.roll(1, 1)[:250]).unique()) == 250, "entries have places"
    whole = torch.cartesian_prod(*[torch.arange(-3.0, 4.0)] * 4)
    prints = fingerprints(whole)
    assert len(prints.unique()) == len(whole)
    assert len((prints & 0xFFFFF).unique()) > 0.9 * len(whole), "low bits differ, too"


def network(**changes: Any) -> QNetwork:
    torch.manual_seed(0)
    return build_network(TrainConfig(**{"length": 30, "width": 32, "attention_std": 0.3} | changes))


def episodes(network: QNetwork, length: int = 30) -> tuple[Tensor, Tensor]:
    """Six episodes of a maze's values, of which some begin alike."""
    generator = torch.Generator().manual_seed(1)
    obs = torch.randint(0, 2, (6, length, 2), generator=generator).float()
    actions = torch.randint(0, 4, (6, length - 1), generator=generator)
    obs[1:4, :20], actions[1:4, :19] = obs[0, :20], actions[0, :19]
    return obs, actions


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_heads": 1}, {"recompute": True}, {"width": 16, "obs_width": 8}],
    ids=["default", "one-head", "recomputed", "projected"],
)
def test_values_and_gradients_are_those_of_all_steps(changes: dict[str, Any]) -> None:
    model = network(**{k: v for k, v in changes.items() if k != "recompute"}).double()
    model.encoder.recompute = "recompute" in changes
    obs, actions = (x.double() if x.is_floating_point() else x for x in episodes(model))
    found = model.histories(obs, actions)
    assert found is not None
    assert len(found.distinct.newest) < 0.8 * obs[..., 0].numel(), "some are shared"
    weights = torch.randn(*obs.shape[:2], 4, generator=torch.Generator().manual_seed(2))
    results = []
    for given in (None, found):
        model.zero_grad()
        q = model(obs, actions, given)
        (q * weights).sum().backward()
        results.append([q.detach(), *(p.grad.clone() for p in model.parameters())])
    for plain, counted in zip(*results, strict=True):
        largest = float(plain.abs().max())
        # Counts are float32, and so is their logarithm.
        torch.testing.assert_close(counted, plain, rtol=1e-5, atol=1e-6 * largest)


@pytest.mark.parametrize(
    "changes",
    [{"num_layers": 2}, {"positions": "sinusoidal"}, {"dropout": 0.1},
     {"attention_impl": "sdpa"}],
    ids=["layers", "positions", "dropout", "asked"],
)  # fmt: skip
def test_what_sees_more_than_counts_sees_every_step(changes: dict[str, Any]) -> None:
    model = network(**changes).train()
    assert model.histories(*episodes(model)) is None


def test_dropout_that_is_off_does_not_hinder() -> None:
    model = network(dropout=0.1).eval()
    assert model.histories(*episodes(model)) is not None
