"""PPO with an LSTM on a T-Maze, in one file: nothing but FastMaze's envs, torch and tyro.

    python examples/ppo_lstm_tmaze.py
    python examples/ppo_lstm_tmaze.py --length 50 --seed 1
    python examples/ppo_lstm_tmaze.py --help

In the manner of CleanRL (Huang et al. 2022): read it from top to bottom, change it where you like.
What a memory task asks of PPO stands out here: the LSTM's state begins anew with every episode, in
rollouts and in updates, and an update replays whole sequences from the state they began with.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

import fastmaze

TASKS = (
    "PassiveTMaze", "ActiveTMaze", "MemoryLength", "UmbrellaLength", "BakkerTMaze",
    "LambrechtsTMaze", "TMazeLong",
)  # fmt: skip

LEAST = {
    "length": 1, "seed": 0, "total_timesteps": 1, "eval_episodes": 1, "num_threads": 1,
    "num_envs": 1, "num_steps": 0, "learning_rate": 0, "gamma": 0, "gae_lambda": 0,
    "num_minibatches": 1, "update_epochs": 1, "clip_coef": 0, "ent_coef": 0, "vf_coef": 0,
    "max_grad_norm": 0, "hidden_size": 1,
}  # fmt: skip
"""What an option is at least."""


@dataclass
class Args:
    """What can be set from the command line."""

    task: str = "PassiveTMaze"
    """PassiveTMaze, ActiveTMaze, MemoryLength, UmbrellaLength, BakkerTMaze, LambrechtsTMaze or
    TMazeLong: those with a length and vectors of floats to see"""
    length: int = 10
    """of the corridor, or of the task's wait"""
    seed: int = 0
    """of the envs, the network and the actions"""
    total_timesteps: int = 4_000_000
    """env steps at most"""
    stop_when_solved: bool = True
    """end as soon as a greedy evaluation succeeds in 0.99 of its episodes"""
    eval_episodes: int = 1024
    """of every greedy evaluation"""
    num_threads: int = 1
    """of torch; a network this small gains nothing from more"""
    tensorboard: Path | None = None
    """a folder for TensorBoard's log"""

    num_envs: int = 256
    """envs that step together"""
    num_steps: int = 0
    """steps of a rollout in each env; 0 takes two episodes, or 64 steps where that is more"""
    learning_rate: float = 2e-3
    """of Adam"""
    anneal_lr: bool = False
    """let the learning rate fall to zero over `total_timesteps`"""
    gamma: float = 0.9
    """discount; the passive maze pays for every step at once and needs no long credit"""
    gae_lambda: float = 0.9
    """of the generalised advantage estimate"""
    num_minibatches: int = 4
    """of every epoch; each holds whole sequences of some of the envs"""
    update_epochs: int = 3
    """times that a rollout is learned from"""
    clip_coef: float = 0.2
    """by how much the ratio of probabilities may leave 1"""
    ent_coef: float = 0.03
    """weight of the entropy; too little, and a long corridor is walked without ever a turn"""
    vf_coef: float = 0.5
    """weight of the value's loss"""
    max_grad_norm: float = 0.5
    """norm that gradients are clipped to"""

    hidden_size: int = 64
    """of the LSTM"""
    chrono: bool = True
    """let the forget gates begin with time scales up to an episode (Tallec and Ollivier 2018)"""


def check(args: Args) -> None:
    """Raises ValueError, naming the option, for what cannot be trained with."""
    if args.task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {args.task!r}")
    most = {"gamma": 1, "gae_lambda": 1, "num_minibatches": args.num_envs, "seed": 2**64 - 3}
    for name, low in LEAST.items():
        value, high = getattr(args, name), most.get(name, float("inf"))
        if not low <= value <= high:  # nor for NaN
            upper = f" and at most {high}" if name in most else ""
            raise ValueError(f"{name}: expected at least {low}{upper}, got {value}")


State = tuple[Tensor, Tensor]
"""The LSTM's h and c, each [num_envs, hidden_size]."""


class Agent(nn.Module):
    """Encoder, LSTM, and a head each for the policy and the value."""

    def __init__(self, obs_size: int, num_actions: int, hidden: int, time_scale: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(scaled(nn.Linear(obs_size, hidden), 2**0.5), nn.Tanh())
        self.lstm = nn.LSTMCell(hidden, hidden)
        self.actor = scaled(nn.Linear(hidden, num_actions), 0.01)
        self.critic = scaled(nn.Linear(hidden, 1), 1.0)
        nn.init.orthogonal_(self.lstm.weight_ih)
        nn.init.orthogonal_(self.lstm.weight_hh)
        nn.init.zeros_(self.lstm.bias_ih)
        nn.init.zeros_(self.lstm.bias_hh)
        if time_scale > 2:
            # torch's order of the gates: input, forget, cell, output.
            forget = torch.log(torch.empty(hidden).uniform_(1, time_scale - 1))
            with torch.no_grad():
                self.lstm.bias_hh[hidden : 2 * hidden] = forget
                self.lstm.bias_hh[:hidden] = -forget

    def initial_state(self, num_envs: int) -> State:
        """Zeros: nothing remembered."""
        zeros = torch.zeros(num_envs, self.lstm.hidden_size)
        return zeros, zeros

    def unroll(self, obs: Tensor, starts: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """The logits and values of sequences.

        Args:
            obs: S N D.
            starts: S N, 1 where an observation is the first of its episode, else 0.
            state: what was remembered before the first of the S steps.
        """
        h, c = state
        outputs = []
        for x, start in zip(self.encoder(obs), starts, strict=True):
            keep = (1.0 - start).unsqueeze(-1)  # N 1: a new episode remembers nothing
            h, c = self.lstm(x, (keep * h, keep * c))
            outputs.append(h)
        hidden = torch.stack(outputs)  # S N H
        return self.actor(hidden), self.critic(hidden).squeeze(-1), (h, c)


def scaled(layer: nn.Linear, gain: float) -> nn.Linear:
    """Orthogonal weights, no bias to begin with."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def make_envs(args: Args, num_envs: int) -> fastmaze.FastMazeVectorEnv:
    """SameStep: a finished env answers with the first observation of its next episode."""
    return fastmaze.make_vec(
        args.task, length=args.length, num_envs=num_envs, autoreset_mode="SameStep"
    )


@torch.no_grad()
def evaluate(agent: Agent, args: Args, seed: int) -> float:
    """Success of greedy actions in one episode of each of `eval_episodes` envs."""
    envs = make_envs(args, args.eval_episodes)
    obs, _ = envs.reset(seed=seed)
    state = agent.initial_state(args.eval_episodes)
    starts = torch.ones(1, args.eval_episodes)
    success, seen = np.zeros(args.eval_episodes, bool), np.zeros(args.eval_episodes, bool)
    while not seen.all():
        logits, _, state = agent.unroll(torch.from_numpy(obs)[None], starts, state)
        obs, _, ended, _, info = envs.step(logits[0].argmax(-1).numpy())
        if ended.any():
            first = ended & ~seen
            success[first] = info["final_info"]["success"][first]
            seen |= ended
        starts = torch.from_numpy(ended).float()[None]
    envs.close()
    return float(success.mean())


def advantages_of(
    rewards: Tensor, values: Tensor, dones: Tensor, last_value: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimates, S N; `dones` says which steps ended an episode."""
    advantages, following = torch.zeros_like(rewards), torch.zeros_like(last_value)
    next_value = last_value
    for t in reversed(range(len(rewards))):
        goes_on = 1.0 - dones[t]
        delta = rewards[t] + gamma * goes_on * next_value - values[t]
        following = delta + gamma * lam * goes_on * following
        advantages[t], next_value = following, values[t]
    return advantages


def main(args: Args) -> float:
    """Trains, evaluates, and returns the success of greedy actions."""
    check(args)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.num_threads)
    writer = None
    if args.tensorboard is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(args.tensorboard))

    envs = make_envs(args, args.num_envs)
    spec = envs.task_spec
    horizon = args.num_steps or max(2 * spec.episode_length, 64)
    time_scale = spec.episode_length if args.chrono else 0
    agent = Agent(
        envs.single_observation_space.shape[0], spec.num_actions, args.hidden_size, time_scale
    )
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    shape = (horizon, args.num_envs)
    observations = torch.zeros(*shape, *envs.single_observation_space.shape)
    actions = torch.zeros(shape, dtype=torch.int64)
    logprobs, rewards, dones = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    values, starts = torch.zeros(shape), torch.zeros(shape)

    start_time, global_step, updates = time.time(), 0, 0
    num_updates = max(args.total_timesteps // (horizon * args.num_envs), 1)
    reset_obs, _ = envs.reset(seed=args.seed)
    next_obs, next_start = torch.from_numpy(reset_obs), torch.ones(args.num_envs)
    state = agent.initial_state(args.num_envs)

    for update in range(1, num_updates + 1):
        if args.anneal_lr:
            fraction = 1.0 - (update - 1) / num_updates
            optimizer.param_groups[0]["lr"] = fraction * args.learning_rate

        # A rollout, and the state that it began with, to which every update goes back.
        first_state = state
        finished: list[np.ndarray] = []
        with torch.no_grad():
            for t in range(horizon):
                observations[t], starts[t] = next_obs, next_start
                logits, value, state = agent.unroll(next_obs[None], next_start[None], state)
                policy = Categorical(logits=logits[0])
                action = policy.sample()
                actions[t], logprobs[t], values[t] = action, policy.log_prob(action), value[0]
                obs, reward, terminated, _, info = envs.step(action.numpy())
                rewards[t], dones[t] = torch.from_numpy(reward), torch.from_numpy(terminated)
                # Fresh arrays (the envs' `copy=True`), so that nothing stored here changes later.
                next_obs, next_start = torch.from_numpy(obs), dones[t].clone()
                if terminated.any():
                    finished.append(info["final_info"]["success"][terminated])
            _, last_value, _ = agent.unroll(next_obs[None], next_start[None], state)
            advantages = advantages_of(
                rewards, values, dones, last_value[0], args.gamma, args.gae_lambda
            )
            returns = advantages + values
        global_step += horizon * args.num_envs

        # Updates on whole sequences: a minibatch is some of the envs, all steps of each.
        for _ in range(args.update_epochs):
            for envs_of in torch.randperm(args.num_envs).chunk(args.num_minibatches):
                began = (first_state[0][envs_of], first_state[1][envs_of])
                logits, value, _ = agent.unroll(observations[:, envs_of], starts[:, envs_of], began)
                policy = Categorical(logits=logits)
                ratio = (policy.log_prob(actions[:, envs_of]) - logprobs[:, envs_of]).exp()
                advantage = advantages[:, envs_of]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
                value_loss = 0.5 * (value - returns[:, envs_of]).square().mean()
                entropy = policy.entropy().mean()
                loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
                updates += 1

        success = float(np.concatenate(finished).mean()) if finished else 0.0
        sps = global_step / (time.time() - start_time)
        if writer is not None:
            for name, number in {
                "charts/success": success,
                "charts/SPS": sps,
                "losses/policy": policy_loss.item(),
                "losses/value": value_loss.item(),
                "losses/entropy": entropy.item(),
            }.items():
                writer.add_scalar(name, number, global_step)
        if update % 5 == 0 or update == num_updates:
            print(
                f"global_step={global_step:,} SPS={sps:,.0f} success={success:.3f} "
                f"entropy={entropy.item():.3f} value_loss={value_loss.item():.4f}",
                flush=True,
            )
        nearly = args.stop_when_solved and success >= 0.97
        if nearly and evaluate(agent, args, seed=args.seed + 1) >= 0.99:
            break

    # Mazes that neither training nor the evaluations on the way have seen.
    final = evaluate(agent, args, seed=args.seed + 2)
    print(f"{global_step:,} env steps, {updates} updates, {time.time() - start_time:.0f} s")
    print(f"success {final:.3f} of {args.eval_episodes} greedy episodes")
    envs.close()
    if writer is not None:
        writer.close()
    return final


if __name__ == "__main__":
    main(tyro.cli(Args))
