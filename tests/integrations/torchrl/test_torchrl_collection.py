"""The TorchRL env inside TorchRL's transforms, collectors and buffers: the cue must survive."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="TorchRL is missing here: nox -s torchrl runs these")
pytest.importorskip("torchrl", reason="TorchRL is missing here: nox -s torchrl runs these")

import fastmaze  # noqa: E402
from tests.integrations.torchrl.trainer import (  # noqa: E402
    Collector,
    Compose,
    FastMazeTorchEnv,
    GymEnv,
    GymWrapper,
    InitTracker,
    LazyTensorStorage,
    MultiSyncCollector,
    RewardSum,
    StepCounter,
    TensorDictPrimer,
    TensorDictReplayBuffer,
    TransformedEnv,
    Unbounded,
    check_env_specs,
    create_env_fns,
)

ENGINES = [{}, {"backend": "device", "device": "cpu"}]
LENGTH = 3
STEPS = LENGTH + 1  # of an episode


def maze(**options: Any) -> FastMazeTorchEnv:
    return FastMazeTorchEnv("PassiveTMaze", **{"num_envs": 16, "length": LENGTH, **options})


def all_right_then_up(tensordict: Any) -> Any:
    """Goes to the junction and up: succeeds exactly where the cue said up."""
    at_junction = tensordict["observation"][..., 0] == 1
    tensordict["action"] = at_junction.long()
    return tensordict


def check_cues(batch: Any, num_episodes: int) -> None:
    """Every episode in [N, T] begins with a cue, +1 or -1, and it is the goal's."""
    begins = batch["is_init"][..., 0]
    assert begins.sum() == num_episodes
    first = batch["observation"][begins]
    assert (first[:, 0] == 0).all()
    assert (first[:, 1].abs() == 1).all()
    assert 0.2 < (first[:, 1] == 1).float().mean() < 0.8
    # `all_right_then_up` wins where the goal is up: the cue has to say so.
    won = batch["next", "success"][..., 0]
    starts = begins.nonzero()
    whole = starts[starts[:, 1] + STEPS <= batch.shape[1]]
    assert len(whole) > num_episodes / 2
    up = batch["observation"][whole[:, 0], whole[:, 1], 1] == 1
    assert (won[whole[:, 0], whole[:, 1] + STEPS - 1] == up).all()
    # And nothing but the first observation tells: not the ones before the junction.
    inside = ~begins & (batch["observation"][..., 0] == 0)
    assert not batch["observation"][inside].any()


@pytest.mark.parametrize("engine", ENGINES, ids=["native", "device"])
@pytest.mark.parametrize("stagger", [False, True])
def test_cue_survives_in_a_collected_batch(engine: dict[str, Any], stagger: bool) -> None:
    """Protects what memory is trained on: the cue of every episode is in the collector's batch."""
    env = TransformedEnv(maze(seed=0, stagger=stagger, **engine), InitTracker())
    collector = Collector(env, all_right_then_up, frames_per_batch=16 * 12, total_frames=16 * 36)
    batches = [batch.clone() for batch in collector]
    collector.shutdown()
    batch = torch.cat(batches, dim=1)
    ends = int(batch["next", "done"][:, :-1].sum())
    if stagger:  # first episodes begin in the middle of time, but with their cue
        assert len({tuple(row) for row in batch["is_init"][..., 0].tolist()}) > 1
        batch = batch[:, STEPS:]
        begins = int(batch["is_init"].sum())
        check_cues(batch, begins)
    else:
        assert ends == 16 * 8
        check_cues(batch, 16 * 9)


@pytest.mark.parametrize("engine", ENGINES, ids=["native", "device"])
def test_cue_survives_in_a_replay_buffer(engine: dict[str, Any]) -> None:
    """Protects what memory is trained on: the cue of every episode is in the replay buffer."""
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(64), batch_size=64)
    env = TransformedEnv(maze(seed=1, **engine), InitTracker())
    collector = Collector(env, all_right_then_up, frames_per_batch=16 * 8, total_frames=16 * 32)
    for batch in collector:
        buffer.extend(batch)  # 16 rows of two episodes each
    collector.shutdown()
    assert len(buffer) == 64
    check_cues(buffer[:], 64 * 2)


@pytest.mark.slow
def test_cue_survives_in_a_multi_process_collector() -> None:
    """Protects splits over processes: every worker's cues arrive."""
    makers = [
        lambda make=make: TransformedEnv(make(), InitTracker())
        for make in create_env_fns(
            "PassiveTMaze", num_envs=32, num_workers=2, length=LENGTH, seed=2
        )
    ]
    collector = MultiSyncCollector(
        makers, all_right_then_up, frames_per_batch=32 * 8, total_frames=32 * 8, cat_results=0
    )
    try:
        (batch,) = [batch.clone() for batch in collector]
    finally:
        collector.shutdown()
    assert batch.shape == (32, 8)
    check_cues(batch, 64)
    whole = maze(num_envs=32, seed=2).rollout(8, all_right_then_up, break_when_any_done=False)
    shown, expected = (
        sorted(map(tuple, data["observation"][:, :, 1].tolist())) for data in (batch, whole)
    )
    assert shown == expected


@pytest.mark.parametrize("engine", ENGINES, ids=["native", "device"])
def test_transforms(engine: dict[str, Any]) -> None:
    """Protects the usual transforms: they find the keys, specs and resets that they need."""
    state = Unbounded(shape=(8,))  # of one copy
    env = TransformedEnv(
        maze(seed=3, **engine),
        Compose(
            InitTracker(),
            RewardSum(),
            StepCounter(),
            TensorDictPrimer({"memory": state}, expand_specs=True),
        ),
    )
    check_env_specs(env)
    env.set_seed(3)
    steps = env.rollout(3 * STEPS, break_when_any_done=False)
    assert steps.shape == (16, 3 * STEPS)
    counted = torch.arange(1, STEPS + 1).repeat(3).expand(16, -1)
    assert (steps["next", "step_count"][..., 0] == counted).all()
    assert (steps["is_init"][..., 0] == (counted == 1)).all()
    assert (steps["next", "done"][..., 0] == (counted == STEPS)).all()
    reward = steps["next", "reward"].unflatten(1, (3, STEPS)).sum(dim=2)
    total = steps["next", "episode_reward"].unflatten(1, (3, STEPS))[:, :, -1]
    torch.testing.assert_close(total, reward)
    assert not steps["memory"].any()


def test_step_limit() -> None:
    """Protects `StepCounter(max_steps=…)`: its truncation resets copies in mid-episode."""
    env = TransformedEnv(maze(seed=3), Compose(StepCounter(max_steps=2), InitTracker()))
    steps = env.rollout(8, break_when_any_done=False)
    assert (steps["is_init"][..., 0] == torch.tensor([True, False] * 4)).all()
    assert (steps["next", "truncated"][..., 0] == torch.tensor([False, True] * 4)).all()
    assert not steps["next", "terminated"].any()
    assert (steps["observation"][:, ::2, 1].abs() == 1).all()  # a cue at every start


def test_rollout_stops_at_the_first_end() -> None:
    """Protects the plain rollout: by default it is one episode."""
    assert maze().rollout(100).shape == (16, STEPS)


def test_gym_env() -> None:
    """Protects TorchRL's own way to single envs, by their Gymnasium id."""
    env = GymEnv("fastmaze/PassiveTMaze-v0", length=LENGTH, categorical_action_encoding=True)
    check_env_specs(env)
    env.set_seed(0)
    steps = env.rollout(100)
    assert steps.shape == (STEPS,)
    assert steps["observation"][0, 1].abs() == 1


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_gym_wrapper_around_make_vec(mode: str) -> None:
    """Protects code that wraps the Gymnasium population: every cue is there, and is the goal's."""
    how: dict[str, Any] = {"num_envs": 16, "length": LENGTH}
    envs = fastmaze.make_vec("PassiveTMaze", **how, autoreset_mode=mode)
    wrapped = GymWrapper(envs, categorical_action_encoding=True)
    envs.reset(seed=5)  # GymWrapper.set_seed would give each copy a seed of its own
    theirs = wrapped.rollout(3 * STEPS, all_right_then_up, break_when_any_done=False)
    cues = theirs["observation"][:, ::STEPS, 1]
    assert (cues.abs() == 1).all()
    won = theirs["next", "reward"][:, STEPS - 1 :: STEPS, 0] == 1
    assert (won == (cues == 1)).all()
    if mode == "Disabled":
        own = maze(seed=5)
        own.reset()
        ours = own.rollout(3 * STEPS, all_right_then_up, break_when_any_done=False)
        assert (ours["observation"] == theirs["observation"]).all()
