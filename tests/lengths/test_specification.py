"""Tasks by their own rules: the table that is read off a specification env is what the env does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from fastmaze.lengths import TabularPOMDP, TMazeModel, analyze
from fastmaze.lengths.specification import observation_text
from fastmaze.reference.base import Episode, SpecificationEnv
from fastmaze.specs import FAMILIES, TaskSpec, make_spec
from fastmaze.specs.registry import Family

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("PassiveTMaze", dict(length=3)),
    ("ActiveTMaze", dict(length=2, add_timestep=True)),
    ("MemoryLength", dict(length=3, bits=2)),
    ("KeyToDoor", dict(length=1, explore_frames=2, reward_frames=3, num_apples=0)),
]


@pytest.mark.parametrize(("task", "options"), SMALL, ids=str)
def test_the_env_walks_through_the_table(task: str, options: dict[str, Any]) -> None:
    """Real episodes, real draws: some state of the table explains all that was seen and paid."""
    spec = make_spec(task, **options)
    model = TabularPOMDP.from_spec(spec)
    env = FAMILIES[spec.family].load("reference")(spec)
    rng = np.random.default_rng(0)
    for episode in range(20):
        shown = env.reset(seed=episode)
        start = model.start()
        states = {
            int(s) for s, o in zip(start.state, start.obs, strict=True)
            if model.observation_name(int(o)) == observation_text(shown)
        }  # fmt: skip
        for t in range(1, spec.episode_length + 1):
            assert states, (episode, t)
            action = int(rng.integers(spec.num_actions))
            shown, reward, _ = env.step(action)
            kernel, pay = model.kernel(t), model.rewards(t, np.array(sorted(states)))
            following = set()
            for state, row in zip(sorted(states), pay, strict=True):
                if abs(float(Fraction(int(row[action]), model.reward_unit)) - reward) > 1e-9:
                    continue
                first = state * spec.num_actions + action
                for entry in range(kernel.first[first], kernel.first[first + 1]):
                    if model.observation_name(int(kernel.obs[entry])) == observation_text(shown):
                        following.add(int(kernel.state[entry]))
            states = following


@pytest.mark.parametrize("task", ["PassiveTMaze", "ActiveTMaze"])
def test_equals_the_model_of_the_maze(task: str) -> None:
    spec = make_spec(task, length=3)
    own, known = analyze(TabularPOMDP.from_spec(spec)), analyze(TMazeModel(spec))
    assert own.lengths() == known.lengths()
    assert own.best_return == known.best_return


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("MemoryLength", dict(length=1)),
        ("MemoryLength", dict(length=4)),
        ("MemoryLength", dict(length=3, bits=2)),
        ("BakkerTMaze", dict(length=3)),
        ("TMazeLong", dict(length=4)),
        ("HeavenHell", dict(size=1)),
        ("HeavenHell", dict(size=2)),
    ],
    ids=str,
)
def test_an_abstract_form_has_the_lengths_of_the_task(task: str, options: dict[str, Any]) -> None:
    tight = {"episode_length": 4} if task == "BakkerTMaze" else {}  # as the abstract form has it
    own, abstract = analyze(make_spec(task, **options, **tight)), analyze(task, **options)
    assert own.lengths() == abstract.lengths()
    assert own.best_return == abstract.best_return
    assert (own.note, own.task) != (abstract.note, abstract.task)
    assert "abstract form" in str(abstract)
    assert "abstract form" not in str(own)


def test_every_draw_falls_both_ways() -> None:
    model = TabularPOMDP.from_spec(make_spec("MemoryLength", length=2, bits=2))
    assert model.start().weight.tolist() == [1] * 8  # four contexts, two questions


@dataclass(frozen=True)
class CoinsSpec(TaskSpec):
    """Two coins a step, or one coin that is thrown again."""

    family: ClassVar[str] = "Coins"
    action_names: ClassVar[tuple[str, ...]] = ("guess",)
    again: bool = False
    episode_length: int = 2


class Coins(SpecificationEnv):
    """Pays for two heads; ends early after two tails."""

    def begin(self, context: Any) -> None:
        self.heads = 0

    def move(self, action: int) -> tuple[float, bool]:
        k = 0 if self.spec.again else 2 * self.t
        self.heads = self.draws.below(k, 2) + self.draws.below(k + 1, 2)
        return float(self.heads == 2), self.heads == 0

    def observation(self) -> npt.NDArray[Any]:
        return np.array([self.heads / 3], np.float32)

    def statistics(self) -> Episode:
        return Episode(0.0, self.t, False, False)

    def task_state(self) -> dict[str, Any]:
        return {"heads": self.heads}

    def load_task(self, row: Mapping[str, Any]) -> None:
        self.heads = row["heads"]


def test_draws_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(reference=f"{__name__}:Coins", renderer="")
    monkeypatch.setitem(FAMILIES, "Coins", family)  # type: ignore[arg-type]
    report = analyze(CoinsSpec())
    assert report.best_return == Fraction(1, 4) + Fraction(3, 4) * Fraction(1, 4)
    assert report.m_transit == 1  # two tails show, and are the end
    with pytest.raises(ValueError, match="random number 0 is drawn at t = 1 and again at 2"):
        analyze(CoinsSpec(again=True))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"start fall in \d\.\de\+1\d ways, more than 100,000"):
        analyze("PassiveVisualMatch", length=1)
    with pytest.raises(ValueError, match="fall in 64 ways, more than 10"):
        TabularPOMDP.from_spec(make_spec("MemoryLength", length=2, bits=4), max_states=10)
    with pytest.raises(TypeError, match="spec: expected a task's spec, got str"):
        TabularPOMDP.from_spec("PassiveTMaze")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_states: expected an integer of at least 1"):
        analyze("PassiveTMaze", length=3, max_states=0)
