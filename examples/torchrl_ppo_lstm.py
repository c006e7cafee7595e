"""PPO with an LSTM, all of it TorchRL's own, on the passive T-Maze.

python examples/torchrl_ppo_lstm.py --length 10 --seed 0
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch.distributions import Categorical

warnings.filterwarnings("ignore", category=DeprecationWarning)  # TorchRL's own, at import

from torchrl.collectors import Collector  # noqa: E402
from torchrl.data import LazyTensorStorage, SamplerWithoutReplacement  # noqa: E402
from torchrl.data import TensorDictReplayBuffer as ReplayBuffer  # noqa: E402
from torchrl.envs import (  # noqa: E402
    Compose,
    ExplorationType,
    InitTracker,
    TransformedEnv,
    set_exploration_type,
)
from torchrl.modules import (  # noqa: E402
    MLP,
    LSTMModule,
    ProbabilisticActor,
    set_recurrent_mode,
)
from torchrl.objectives import ClipPPOLoss  # noqa: E402
from torchrl.objectives.value import GAE  # noqa: E402

from fastmaze.integrations.torchrl import FastMazeTorchEnv  # noqa: E402

HIDDEN = 64
FORGET_BIAS = 3.0


def lstm(name: str, obs_size: int) -> LSTMModule:
    """From "observation" to the features `name`, with a state of its own."""
    state = [f"{name}_h", f"{name}_c"]
    net = torch.nn.LSTM(obs_size, HIDDEN, batch_first=True)
    with torch.no_grad():
        # Gates that begin open forget nothing on the way to the junction.
        net.bias_ih_l0[HIDDEN : 2 * HIDDEN].fill_(FORGET_BIAS)
    return LSTMModule(
        lstm=net,
        in_keys=["observation", *state],
        out_keys=[name, *(("next", key) for key in state)],
    )


def head(name: str, out_key: str, size: int) -> TensorDictModule:
    """A small MLP on the features `name`."""
    mlp = MLP(in_features=HIDDEN, out_features=size, num_cells=[64], activation_class=torch.nn.Tanh)
    return TensorDictModule(mlp, in_keys=[name], out_keys=[out_key])


def success_rate(env: TransformedEnv, actor: ProbabilisticActor, steps: int) -> float:
    """Share of the env's copies whose next episode the greedy actor solves."""
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        episodes = env.rollout(steps, actor)
    return episodes["next", "success"].any(dim=1).float().mean().item()


def main() -> None:
    """Trains until the greedy agent solves the maze, and says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=10, help="of the corridor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=200, help="at most")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # the nets are too small for more

    steps = args.length + 1  # of an episode: the paper's passive maze has no step to spare
    maze = FastMazeTorchEnv(
        "PassiveTMaze", num_envs=args.num_envs, length=args.length, seed=args.seed
    )
    obs_size, num_actions = maze.observation_spec["observation"].shape[-1], maze.action_spec.n

    remember = lstm("actor", obs_size)
    actor = ProbabilisticActor(
        TensorDictSequential(remember, head("actor", "logits", num_actions)),
        in_keys=["logits"],
        distribution_class=Categorical,
        return_log_prob=True,
    )
    critic = TensorDictSequential(lstm("critic", obs_size), head("critic", "state_value", 1))

    def with_state(env: FastMazeTorchEnv) -> TransformedEnv:
        return TransformedEnv(env, Compose(InitTracker(), remember.make_tensordict_primer()))

    test = with_state(
        FastMazeTorchEnv(
            "PassiveTMaze", num_envs=512, length=args.length, seed=args.seed, env_offset=2**31
        )
    )
    collector = Collector(
        with_state(maze),
        actor,
        frames_per_batch=args.num_envs * steps,  # one whole episode of each copy
        total_frames=args.num_envs * steps * args.iterations,
    )
    # One pass over the whole sequence gives the values of every step and of its next.
    advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic, shifted=True)
    loss_module = ClipPPOLoss(
        actor, critic, clip_epsilon=0.2, entropy_coeff=0.05, normalize_advantage=True
    )
    optimizer = torch.optim.Adam(loss_module.parameters(), lr=2e-3)
    episodes = ReplayBuffer(
        storage=LazyTensorStorage(args.num_envs),
        sampler=SamplerWithoutReplacement(),
        batch_size=args.num_envs // 4,
    )

    start, success = time.perf_counter(), 0.0
    for iteration, batch in enumerate(collector, 1):
        with set_recurrent_mode(True):
            with torch.no_grad():
                advantage(batch)
            episodes.empty()
            episodes.extend(batch)
            for _ in range(4):
                for part in episodes:
                    losses = loss_module(part)
                    loss = sum(v for k, v in losses.items() if k.startswith("loss_"))
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(loss_module.parameters(), 0.5)
                    optimizer.step()
        if iteration % 5 == 0:
            success = success_rate(test, actor, steps)
            paid = batch["next", "reward"].sum() / args.num_envs
            print(
                f"{iteration * args.num_envs * steps:8d} env steps  "
                f"{time.perf_counter() - start:5.1f} s  return {paid:6.3f}  "
                f"greedy success {success:.3f}",
                flush=True,
            )
            if success >= 0.99:
                break
    collector.shutdown()
    print(f"success {success:.3f} over {test.batch_size[0]} greedy episodes")


if __name__ == "__main__":
    main()
