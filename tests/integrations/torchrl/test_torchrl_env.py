"""The TorchRL env: the same bits as everywhere, and the contract of an `EnvBase`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="TorchRL is missing here: nox -s torchrl runs these")
pytest.importorskip("torchrl", reason="TorchRL is missing here: nox -s torchrl runs these")


import fastmaze  # noqa: E402
from tests.integrations.torchrl.trainer import (  # noqa: E402
    FastMazeTorchEnv,
    ParallelEnv,
    check_env_specs,
    create_env_fns,
)

ENGINES = [{}, {"backend": "device", "device": "cpu"}, {"num_threads": 2}, {"backend": "reference"}]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.get("backend", "native"))
@pytest.mark.parametrize("seed", [3, [1, None, 2**64 - 1, 7, 7]], ids=["one", "list"])
def test_same_bits_as_make_vec(engine: dict[str, Any], seed: Any) -> None:
    """Protects the draws and the rules: a seed means the same inside TorchRL as outside."""
    N, steps = 5, 60
    maze: dict[str, Any] = {"num_envs": N, "length": 6}
    if isinstance(seed, list):
        seed = [entry or 11 for entry in seed]
    env = FastMazeTorchEnv("ActiveTMaze", **maze, seed=seed, **engine)
    ours = env.rollout(steps, break_when_any_done=False)

    envs = fastmaze.make_vec("ActiveTMaze", **maze, autoreset_mode="SameStep")
    obs, _ = envs.reset(seed=seed)
    for t in range(steps):
        now = ours[:, t]
        np.testing.assert_array_equal(now["observation"], obs)
        obs, reward, terminated, truncated, info = envs.step(now["action"].numpy().copy())
        last = (
            obs if not terminated.any() else np.where(terminated[:, None], info["final_obs"], obs)
        )
        np.testing.assert_array_equal(now["next", "observation"], last)
        np.testing.assert_array_equal(now["next", "reward"][:, 0], reward)
        for key in ("done", "terminated"):
            np.testing.assert_array_equal(now["next", key][:, 0], terminated)
        np.testing.assert_array_equal(now["next", "truncated"][:, 0], truncated)
        won = info["final_info"]["success"] if terminated.any() else np.zeros(N, bool)
        np.testing.assert_array_equal(now["next", "success"][:, 0], won)
    assert ours["next", "done"].sum() == N * (steps // 9)


TASKS: list[tuple[str, dict[str, Any]]] = [
    ("PassiveTMaze", {"length": 4}),
    ("TMaze", {"corridor_length": 3, "episode_length": 9, "add_timestep": True}),
    ("PassiveVisualMatch", {}),
    ("MemoryLength", {"length": 5}),
    ("HeavenHell", {}),
    ("RepeatFirst", {}),
]


@pytest.mark.parametrize(
    ("task", "options"), TASKS, ids=lambda part: part if type(part) is str else ""
)
@pytest.mark.parametrize("one_hot", [False, True])
def test_specs(task: str, options: dict[str, Any], one_hot: bool) -> None:
    """Protects what transforms, buffers and nets are built from: shapes, dtypes and bounds."""
    env = FastMazeTorchEnv(
        task, num_envs=3, categorical_action_encoding=not one_hot, seed=0, **options
    )
    check_env_specs(env)
    assert env.batch_size == (3,)
    assert env.batch_locked
    assert env.observation_spec["observation"].is_in(env.reset()["observation"])


def test_specs_of_the_device_backend_and_all_of_info() -> None:
    """Protects the leaves that tell of finished episodes, and that both engines agree on them."""
    rollouts = []
    for backend in ("native", "device"):
        env = FastMazeTorchEnv(
            "ActiveTMaze", num_envs=64, length=2, backend=backend, seed=5,
            info=["episode_return", "episode_length", "success", "cue_seen"],
        )  # fmt: skip
        check_env_specs(env)
        env.set_seed(1)
        torch.manual_seed(0)
        rollouts.append(env.rollout(20, break_when_any_done=False))
    native, device = rollouts
    assert (native == device).all()
    over = native["next", "done"]
    assert (native["next", "episode_length"][over] == 5).all()
    assert not native["next", "episode_length"][~over].any()
    paid = native["next", "reward"].double()[:, :20].unflatten(1, (4, 5)).sum(dim=2)
    told = native["next", "episode_return"].unflatten(1, (4, 5)).sum(dim=2)
    torch.testing.assert_close(paid, told, atol=1e-6, rtol=0)
    seen = native["next", "cue_seen"][over].float().mean()
    assert 0.05 < seen < 0.95


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["native", "device"])
def test_partial_reset(engine: dict[str, Any]) -> None:
    """Protects the copies outside the mask: a reset must leave them where they are."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=4, length=6, seed=0, **engine)
    now = env.reset()
    now["action"] = torch.zeros(4, dtype=torch.int64)
    for _ in range(6):  # to the junction
        now = env.step_mdp(env.step(now))
        now["action"] = torch.zeros(4, dtype=torch.int64)
    assert (now["observation"] == torch.tensor([1.0, 0.0])).all()
    now["_reset"] = torch.tensor([[True], [False], [False], [True]])
    after = env.reset(now.clone())
    assert (after["observation"][1:3] == torch.tensor([1.0, 0.0])).all()
    assert (after["observation"][[0, 3], 1].abs() == 1).all()  # a cue again
    now["_reset"] = torch.zeros(4, 1, dtype=torch.bool)
    same = env.reset(now.clone())
    assert (same["observation"] == now["observation"]).all()


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["native", "device"])
@pytest.mark.parametrize("task", ["TMaze", "MemoryLength"])
def test_partial_step(engine: dict[str, Any], task: str) -> None:
    """Protects `break_when_all_done`: copies that are not stepped stay, and their streams too."""
    if task == "MemoryLength" and engine:
        pytest.skip("the device backend has the T-Mazes alone")
    options = {"corridor_length": 3, "episode_length": 5} if task == "TMaze" else {"length": 5}
    both = [
        FastMazeTorchEnv(task, num_envs=6, seed=0, stagger=True, **engine, **options)
        for _ in range(2)
    ]
    chosen = torch.tensor([True, False, True, True, False, False])
    now, plain = both[0].reset(), both[1].reset()
    actions = torch.tensor([0, 1, 0, 1, 1, 0])
    now.update({"action": actions, "_step": chosen[:, None]})
    plain["action"] = actions
    partly, wholly = both[0].step(now)["next"], both[1].step(plain)["next"]
    for key in wholly.keys():  # noqa: SIM118 (a tensordict iterates over its rows)
        old = now.get(key, torch.zeros_like(wholly[key]))
        assert (partly[key][chosen] == wholly[key][chosen]).all()
        assert (partly[key][~chosen] == old[~chosen]).all()
    # All together again, and into the next episodes: the streams must be where they would be.
    ends = both[0].rollout(30, break_when_any_done=False, break_when_all_done=True)
    assert ends["next", "done"].any(dim=1).all()


def test_partial_steps_draw_nothing() -> None:
    """Protects the streams: a copy that sat out steps goes on with the maze that it would have."""
    plain, partial = (
        FastMazeTorchEnv("PassiveTMaze", num_envs=64, length=1, seed=9) for _ in range(2)
    )
    first, now = plain.reset(), partial.reset()
    assert (first["observation"] == now["observation"]).all()
    now.update({"action": torch.zeros(64, dtype=torch.int64)})
    now["_step"] = torch.zeros(64, 1, dtype=torch.bool)
    now["_step"][:32] = True
    partial.step(now)
    assert (plain.reset()["observation"] == partial.reset()["observation"]).all()


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["native", "device"])
def test_nothing_changes_what_was_returned(engine: dict[str, Any]) -> None:
    """Protects stored batches: a later step or reset must not write into an earlier tensordict."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=8, length=3, seed=0, **engine)
    kept: list[tuple[Any, Any]] = []
    now = env.reset()
    for _ in range(12):
        step, now = env.step_and_maybe_reset(env.rand_action(now))
        leaves = [*step.values(True, True), *now.values(True, True)]
        kept += [(leaf, leaf.clone()) for leaf in leaves]
    for leaf, as_returned in kept:
        assert (leaf == as_returned).all()


def test_no_copy() -> None:
    """Protects the hand-over: the tensors that the envs wrote are the ones that TorchRL gets."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=8, length=3, backend="device", device="cpu")
    core = env._engine.envs.core
    now = env.reset()
    assert now["observation"].data_ptr() == core.obs.data_ptr()
    following = env.step(env.rand_action(now))["next"]
    assert following["observation"].data_ptr() == core.obs.data_ptr()
    assert following["reward"].data_ptr() == core.reward.data_ptr()
    assert following["terminated"].data_ptr() == core.terminated.data_ptr()


def test_no_copy_of_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the hand-over of the native backend, which writes where the tensors are."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=8, length=3)
    written: list[int] = []
    step_into = env._engine.envs.step_into

    def spy(actions: Any, *outputs: Any) -> int:
        written.extend(array.ctypes.data for array in (actions, *outputs))
        return step_into(actions, *outputs)

    monkeypatch.setattr(env._engine.envs, "step_into", spy)
    now = env.rand_action(env.reset())
    following = env.step(now)["next"]
    names = ("observation", "reward", "terminated", "truncated")
    got = [now["action"].data_ptr(), *(following[name].data_ptr() for name in names)]
    assert got == written


def test_seeds() -> None:
    """Protects repeatability: `set_seed` starts the population anew at the next whole reset."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=256, length=1, seed=4)
    first, second = env.reset()["observation"], env.reset()["observation"]
    assert not (first == second).all()
    env.set_seed(4)
    assert (env.reset()["observation"] == first).all()
    assert (env.reset()["observation"] == second).all()
    drawn = [
        FastMazeTorchEnv("PassiveTMaze", num_envs=256, length=1).reset()["observation"]
        for _ in range(2)
    ]
    assert not (drawn[0] == drawn[1]).all()


def test_seed_waits_for_a_reset_of_all() -> None:
    """Protects a seed that is set in mid-episode: it is for the population, not for one copy."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=64, length=1, seed=4)
    first = env.reset()["observation"]
    now = env.reset()
    env.set_seed(4)
    now["_reset"] = torch.arange(64)[:, None] < 32
    env.reset(now)
    assert (env.reset()["observation"] == first).all()


@pytest.mark.parametrize("engine", ENGINES[:2], ids=["native", "device"])
def test_copies_go_on_by_themselves(engine: dict[str, Any]) -> None:
    """Protects deep copies and pickles, in which TorchRL hands envs on."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=32, length=2, seed=0, **engine)
    env.rollout(4, break_when_any_done=False)
    others = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    first = env.reset()["observation"]
    for other in others:
        assert (other.reset()["observation"] == first).all()


def test_reset_options() -> None:
    """Protects chosen goals: `reset(options=…)` is `make_vec`'s."""
    for backend in ("native", "device"):
        env = FastMazeTorchEnv("PassiveTMaze", num_envs=4, length=2, backend=backend)
        goals = np.array([1, -1, -1, 1])
        shown = env.reset(options={"goal_y": goals})["observation"][:, 1]
        np.testing.assert_array_equal(shown, goals)


@pytest.mark.slow
def test_split_population_is_one_population() -> None:
    """Protects splits over workers: two halves with one seed draw as the whole does."""
    whole = FastMazeTorchEnv("PassiveTMaze", num_envs=64, length=2, seed=3)
    makers = create_env_fns("PassiveTMaze", num_envs=64, num_workers=2, length=2, seed=3)
    halves = ParallelEnv(2, makers)
    try:
        assert halves.batch_size == (2, 32)
        steps = halves.rollout(5, break_when_any_done=False)
    finally:
        halves.close()
    first = steps["observation"][:, :, 0].flatten(0, 1)
    assert (first == whole.reset()["observation"]).all()


@pytest.mark.parametrize("seed", [3, [1, 2, 3, 1, 2, 9], np.arange(6, dtype=np.uint64)])
def test_parts_draw_as_the_whole(seed: Any) -> None:
    """Protects splits, with a list of seeds too: each part gets the seeds of its own copies."""
    maze: dict[str, Any] = {"num_envs": 6, "length": 2, "seed": seed}
    whole = FastMazeTorchEnv("ActiveTMaze", **maze)
    parts = [make() for make in create_env_fns("ActiveTMaze", num_workers=3, **maze)]
    assert [part.num_envs for part in parts] == [2, 2, 2]
    for _ in range(20):
        together = torch.cat([part.reset()["observation"] for part in parts])
        assert (together == whole.reset()["observation"]).all()
    goals = [part._engine.get_state() for part in parts]
    assert not all((goals[0] == goal).all() for goal in goals[1:])


@pytest.mark.slow
def test_workers_made_alike_have_the_same_mazes() -> None:
    """Protects what is documented: only `set_seed` gives workers of one function other mazes."""

    def make() -> FastMazeTorchEnv:
        return FastMazeTorchEnv("PassiveTMaze", num_envs=64, length=2, seed=0)

    alike = ParallelEnv(2, make)
    try:
        cues = alike.reset()["observation"][..., 1]
        assert (cues[0] == cues[1]).all()
        alike.set_seed(0)
        cues = alike.reset()["observation"][..., 1]
        assert not (cues[0] == cues[1]).all()
    finally:
        alike.close()


def test_a_spec_instead_of_a_name() -> None:
    """Protects code that has a spec at hand: it is the task."""
    spec = fastmaze.make_spec("PassiveTMaze", length=3)
    named = FastMazeTorchEnv("PassiveTMaze", length=3, num_envs=16, seed=0)
    makers = create_env_fns(spec, num_envs=16, num_workers=1, seed=0)
    for env in (FastMazeTorchEnv(spec, num_envs=16, seed=0), makers[0]()):
        assert env.task_spec is spec
        actions = torch.zeros(16, dtype=torch.int64)
        steps = [e.step(e.reset().set("action", actions)) for e in (env, named)]
        assert (steps[0] == steps[1]).all()
        named.set_seed(0)


def test_every_staggered_rollout_begins_with_episodes_cut_short() -> None:
    """Protects what is documented: evaluate with envs made without `stagger`."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=11, length=10, seed=0, stagger=True)
    for _ in range(2):
        done = env.rollout(11, break_when_any_done=False)["next", "done"][..., 0]
        lengths = done.long().argmax(dim=1) + 1
        assert (lengths < 11).sum() == 9


def test_closed() -> None:
    """Protects from use after `close`, which frees the copies."""
    env = FastMazeTorchEnv("PassiveTMaze", num_envs=2, length=2)
    now = env.rand_action(env.reset())
    env.close()
    with pytest.raises(Exception, match="closed"):
        env.step(now)
    env.close()
