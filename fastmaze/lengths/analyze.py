"""`analyze`: from a task to its lengths."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import numpy as np

from fastmaze import specs
from fastmaze.lengths.beliefs import MAX_NODES, BeliefGraph, build
from fastmaze.lengths.credit import credit_lengths
from fastmaze.lengths.memory import MAX_CLASSES, longest_without_common_action
from fastmaze.lengths.minimise import (
    MAX_STATES,
    Minimised,
    Progress,
    minimise,
    refuse_too_large,
)
from fastmaze.lengths.model import Model
from fastmaze.lengths.on_path import OnPathSearch
from fastmaze.lengths.pairs import MAX_PAIRS, Question, Shared, Walks, longest_shared
from fastmaze.lengths.pooled import pooled_lengths, pooled_memory
from fastmaze.lengths.report import Bounds, Length, LengthReport, Step, highest, length_of
from fastmaze.lengths.small_tasks import SMALL_TASKS, small_task
from fastmaze.lengths.stories import Storyteller, Suffix
from fastmaze.lengths.tabular import MAX_STATES_OF_SPEC, TabularPOMDP
from fastmaze.lengths.tmaze import TMazeModel
from fastmaze.lengths.values import optimal_edges, quantities, solve
from fastmaze.specs import (
    TASKS,
    TaskSpec,
    TMazeSpec,
    check_boolean,
    check_integer,
    make_spec,
)


def analyze(
    task: str | TaskSpec | Model,
    *,
    gamma: Any = None,
    last_observation: bool = True,
    pooled: bool = False,
    on_path_budget: int = 0,
    detail: bool = False,
    max_states: int = MAX_STATES,
    max_nodes: int = MAX_NODES,
    max_pairs: int = MAX_PAIRS,
    max_classes: int = MAX_CLASSES,
    progress: Progress | None = None,
    **options: Any,
) -> LengthReport:
    """Computes the memory and credit-assignment lengths of a task, exactly.

    Args:
        task: the name of a task (its options follow), a spec, or a POMDP of one's own. T-Mazes
            are analysed as they are; names in `SMALL_TASKS` mean a task's abstract form; every
            other name and every spec means the task's own rules, for which it must be small.
        gamma: reward discount, 0 to 1, for tasks and specs (default 1); a POMDP brings its own.
        last_observation: whether o_{T+1}, which nobody can act on, counts in `m_transit`.
        pooled: also compare windows of different times, as an agent without a clock must. For
            small tasks: the cost grows with T².
        on_path_budget: how many layers of windows to try for `l_mem_on_path`; 0 leaves it out.
        detail: find the windows for every t, too; this can take much longer.
        max_states: refuse a task of more hidden states than this, over all t; if not given, a task
            whose rules are listed state by state of more than 100,000.
        max_nodes: stop at more beliefs than this (or at eight times as many numbers, where
            beliefs are wide), with bounds.
        max_pairs: stop each search at more pairs of beliefs than this, with bounds.
        max_classes: stop each search at more sets of beliefs than this, with bounds.
        progress: called with (what is being done, how far, of how much).
        **options: the task's, if it is given by name.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range, a task of more than `max_states` states, or floats
            that leave open whether two values are equal.
    """
    for name, limit in (
        ("max_nodes", max_nodes),
        ("max_pairs", max_pairs),
        ("max_classes", max_classes),
    ):
        check_integer(name, limit, 1)
    check_integer("on_path_budget", on_path_budget, 0)
    for name, flag in (
        ("last_observation", last_observation),
        ("pooled", pooled),
        ("detail", detail),
    ):
        check_boolean(name, flag)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: expected a function, got {type(progress).__name__}")
    if pooled and (detail or on_path_budget):
        raise ValueError("pooled: not together with detail or on_path_budget")
    tell = progress or _silent
    model = as_model(task, gamma=gamma, progress=tell, max_states=max_states, **options)
    minimised = minimise(model, tell, max_states)
    graph = build(minimised, model.num_actions, tell, max_nodes)
    analysis = _Analysis(model, minimised, graph, last_observation, max_pairs, max_classes, tell)
    report = analysis.report(on_path_budget, detail)
    return analysis.pooled(report) if pooled else report


def as_model(
    task: str | TaskSpec | Model,
    *,
    gamma: Any = None,
    progress: Progress | None = None,
    max_states: int = MAX_STATES,
    **options: Any,
) -> Model:
    """The model of a task.

    Raises:
        TypeError: not a task, or options where there is no name.
        ValueError: no such task, an option out of range, or too many hidden states.
    """
    check_integer("max_states", max_states, 1)
    discount = 1 if gamma is None else gamma
    if isinstance(task, str):
        names = tuple(dict.fromkeys((*TASKS, *SMALL_TASKS)))
        if task not in names:
            near = difflib.get_close_matches(task, names, n=1)
            raise ValueError(
                f"task: expected one of {', '.join(names)}, got {task!r}"
                + (f" (did you mean {near[0]!r}?)" if near else "")
            )
        if task in SMALL_TASKS:
            return small_task(task, gamma=discount, **options)
        return _of_spec(make_spec(task, **options), task, discount, progress, max_states)
    if options:
        raise TypeError(f"options are for tasks given by name, got {', '.join(options)}")
    if isinstance(task, TaskSpec):
        return _of_spec(task, None, discount, progress, max_states)
    if not isinstance(task, Model):
        raise TypeError(
            f"task: expected a task's name, its spec or a TabularPOMDP, got {type(task).__name__}"
        )
    if gamma is not None:
        raise TypeError("gamma: a POMDP brings its own; give it there")
    return task


def _of_spec(
    spec: TaskSpec, name: str | None, gamma: Any, progress: Progress | None, max_states: int
) -> Model:
    if isinstance(spec, TMazeSpec):
        refuse_too_large(spec.episode_length, TMazeModel.states_of(spec), max_states)
        return TMazeModel(spec, name or "TMaze", gamma)
    listed = MAX_STATES_OF_SPEC if max_states == MAX_STATES else max_states
    return TabularPOMDP.from_spec(
        spec, gamma=gamma, name=name, max_states=listed, progress=progress
    )


def dial_of(task: str) -> str:
    """The option that makes a task longer; abstract forms have their own."""
    return SMALL_TASKS[task].dial if task in SMALL_TASKS else specs.dial_of(task)


def _silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""


class _Analysis:
    """One task on its way to a report."""

    def __init__(
        self,
        model: Model,
        minimised: Minimised,
        graph: BeliefGraph,
        last_observation: bool,
        max_pairs: int,
        max_classes: int,
        progress: Progress,
    ) -> None:
        self.model, self.minimised, self.graph = model, minimised, graph
        self.last_observation = last_observation
        self.max_pairs, self.max_classes, self.progress = max_pairs, max_classes, progress
        self.values = solve(graph, model, progress) if graph.complete else None
        self.remarks: list[str] = []
        self.stories: dict[str, str] = {}
        self.told = Storyteller(model, graph)

    def report(self, on_path_budget: int, detail: bool) -> LengthReport:
        horizon, graph, values = self.model.horizon, self.graph, self.values
        if not graph.complete:
            self.remarks.append(
                f"max_nodes: stopped at {graph.num_nodes:,} beliefs, t = {len(graph.nodes)} of "
                f"{horizon}; lengths are bounds, and what needs values is left out"
            )
        walks = Walks(graph)
        lengths, per_step = self._equal(walks, detail)
        everywhere: Length | None = None
        mem: Length | None = None
        on_path: Length | None = None
        credit = None
        if values is not None:
            everywhere = self._memory("l_mem_everywhere", walks)
            chosen = Walks(graph, optimal_edges(graph, values))
            mem = self._memory("l_mem", chosen)
            if on_path_budget:
                last = 1 if self.model.gamma == 0 else horizon
                search = OnPathSearch(graph, values, last, on_path_budget)
                lower, upper = search.least(highest(mem))
                on_path = length_of(lower, upper)
                if isinstance(on_path, Bounds):
                    self.remarks.append("on_path_budget: used up, l_mem_on_path is a bound")
            credit = credit_lengths(graph, values, self.model, self.progress)
            self.stories["c_sup"] = self.told.of_credit(chosen, credit.witness)
        counts = self.minimised.num_states
        steps = tuple(
            Step(
                t=t,
                states=counts[t - 1],
                classes=self.minimised.layers[t - 1].count,
                beliefs=graph.nodes[t - 1].count,
                c=None if credit is None else credit.per_step[t - 1],
                **{name: found[t - 1] for name, found in per_step.items()},
            )
            for t in range(1, len(graph.nodes) + 1)
        )
        return LengthReport(
            task=self.model.name,
            note=self.model.note,
            horizon=horizon,
            gamma=self.model.gamma,
            pooled=False,
            last_observation=self.last_observation,
            **lengths,
            l_mem=mem,
            l_mem_everywhere=everywhere,
            l_mem_on_path=on_path,
            c=None if credit is None else length_of(credit.lower, credit.upper),
            c_sup=None if credit is None else credit.sup,
            best_return=None if values is None else values.best_return,
            unreachable_states=self.minimised.num_unreachable,
            steps=steps,
            stories=self.stories,
            remarks=tuple(self.remarks),
        )

    def pooled(self, report: LengthReport) -> LengthReport:
        """The same with windows of all times compared."""
        if self.values is None:
            raise ValueError(f"pooled: the belief graph is too large; {report.remarks[0]}")
        walks = Walks(self.graph)
        chosen = Walks(self.graph, optimal_edges(self.graph, self.values))
        lengths: dict[str, Any] = pooled_lengths(
            self.model, self.graph, self.values, walks, self.progress, self.max_pairs
        )
        for name, some in (("l_mem", chosen), ("l_mem_everywhere", walks)):
            lengths[name] = pooled_memory(self.values, some, self.progress, self.max_classes)
        stopped = [name for name, length in lengths.items() if isinstance(length, Bounds)]
        remarks = report.remarks
        if stopped:
            remarks += (f"max_pairs or max_classes: bounds only for {', '.join(stopped)}",)
        if not self.last_observation:
            lengths["m_transit"] = lengths["m_transit_without_last"]
        # The histories that prove the other lengths are those of equal times.
        stories = {"c_sup": report.stories["c_sup"]}
        return dataclasses.replace(report, pooled=True, stories=stories, remarks=remarks, **lengths)

    def _equal(self, walks: Walks, detail: bool) -> tuple[dict[str, Any], dict[str, list[int]]]:
        """m_reward, m_transit with and without the last observation, and l_value."""
        labels = quantities(self.graph, self.values)
        known, horizon = len(self.graph.nodes), self.model.horizon
        questions = {
            "m_reward": Question(labels.reward, known),
            "m_transit": Question(labels.transit, known),
            "m_transit_without_last": Question(labels.transit, min(known, horizon - 1)),
        }
        if self.values is not None:
            questions["l_value"] = Question(labels.value, known)
        found_at = [np.full(horizon + 1, -1) for _ in questions] if detail else None
        found = dict(
            zip(
                questions,
                longest_shared(
                    walks, list(questions.values()), self.progress, self.max_pairs, found_at
                ),
                strict=True,
            )
        )
        lengths: dict[str, Any] = {"l_value": None}
        for name, result in found.items():
            at_most = result.at_most
            if not self.graph.complete:
                at_most = horizon - (2 if name == "m_transit_without_last" else 1)
            elif at_most is not None:
                self._stopped("max_pairs", name)
            lengths[name] = length_of(result.length + 1, None if at_most is None else at_most + 1)
        stories = {
            "m_reward": self.told.of_reward,
            "m_transit": self.told.of_transit,
            "m_transit_without_last": self.told.of_transit,
        }
        for name, story in stories.items():
            if found[name].length >= 0:
                self.stories[name] = story(walks, _suffix(found[name]))
        if self.values is not None and found["l_value"].length >= 0:
            suffix = _suffix(found["l_value"])
            self.stories["l_value"] = self.told.of_value(walks, suffix, self.values)
        if not self.last_observation:
            lengths["m_transit"] = lengths["m_transit_without_last"]
            self.stories["m_transit"] = self.stories.get("m_transit_without_last", "")
        per_step = {}
        if found_at is not None:
            names = [name for name in questions if name != "m_transit_without_last"]
            per_step = {
                name: (found[1:] + 1).tolist()
                for name, found in zip(questions, found_at, strict=True)
                if name in names
            }
        return lengths, per_step

    def _memory(self, name: str, walks: Walks) -> Length:
        """One reading of l_mem."""
        if self.values is None:
            raise RuntimeError("l_mem needs values")
        found = longest_without_common_action(
            walks, self.values, self.progress, self.max_pairs, self.max_classes
        )
        if found.length >= 0:
            suffix = Suffix(found.t, found.nodes, found.first_obs, found.steps)
            self.stories[name] = self.told.of_memory(walks, suffix, self.values)
        if found.at_most is not None:
            self._stopped("max_pairs or max_classes", name)
        return length_of(found.length + 1, None if found.at_most is None else found.at_most + 1)

    def _stopped(self, limit: str, name: str) -> None:
        self.remarks.append(f"{limit}: the search for {name} was stopped, it is a bound")


def _suffix(found: Shared) -> Suffix:
    return Suffix(found.t, found.pair, found.first_obs, found.steps)
