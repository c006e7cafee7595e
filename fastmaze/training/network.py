"""From a configuration to its network."""

from __future__ import annotations

import math

import torch

from fastmaze.models.actor_critic import ActorCritic
from fastmaze.models.embedders import StepEmbedder
from fastmaze.models.encoder import SequenceEncoder
from fastmaze.models.gpt import GPT
from fastmaze.models.lstm import LSTM
from fastmaze.models.own_model import build_own, is_own
from fastmaze.models.pixel_embedder import PixelEmbedder
from fastmaze.models.q_network import QNetwork
from fastmaze.training.config import TrainConfig


def build_network(config: TrainConfig, *, recompute: bool = False) -> QNetwork:
    """The network of a run, with initial weights from PyTorch's global random numbers.

    Args:
        config: the run.
        recompute: see `GPT`.
    """
    hyper, spec = config.hyper, config.spec
    embedder: StepEmbedder | PixelEmbedder
    how = (spec.num_actions, hyper.obs_width, hyper.action_width, hyper.embedding_scale)
    if len(spec.obs_shape) == 3:
        embedder = PixelEmbedder(spec.obs_shape, *how, offset=hyper.pixel_offset)
    else:
        embedder = StepEmbedder(math.prod(spec.obs_shape), *how)
    encoder: SequenceEncoder
    if config.model == "gpt":
        encoder = GPT(
            embedder.output_dim,
            width=hyper.width,
            num_layers=hyper.num_layers,
            num_heads=hyper.num_heads,
            positions=hyper.positions,
            max_length=spec.episode_length + 1,
            dropout=hyper.dropout,
            attention_std=hyper.attention_std,
            query_std=hyper.query_std,
            attention_impl=config.attention_impl,
            recompute=recompute,
        )
    elif is_own(config.model):
        encoder = build_own(
            config.model,
            embedder.output_dim,
            width=hyper.width,
            num_layers=hyper.num_layers,
            max_length=spec.episode_length + 1,
        )
    else:
        encoder = LSTM(
            embedder.output_dim,
            width=hyper.width,
            num_layers=hyper.num_layers,
            init=hyper.lstm_init,
            memory_length=spec.episode_length,
        )
    dtype = getattr(torch, config.compute_dtype)
    kind = ActorCritic if config.algorithm == "sac-discrete" else QNetwork
    network = kind(embedder, encoder, spec.num_actions, hyper.head_widths, dtype)
    return network.to(config.device)
