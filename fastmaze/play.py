"""A maze in the terminal: walked by a person, or by a trained agent.

A player sees what an agent sees: the cue while it shows, and neither goal until the end.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np

from fastmaze.envs.rendering import (
    COLOURED,
    MAX_COLUMNS,
    PLAIN,
    Scene,
    columns_within,
    draw_text,
    least_columns,
    text_width,
)
from fastmaze.envs.single import TMazeEnv
from fastmaze.reference.base import Episode
from fastmaze.specs import FAMILIES, TMazeSpec, make_tmaze_spec
from fastmaze.terminal import Screen, is_interactive, keyboard

if TYPE_CHECKING:
    from fastmaze.training import GreedyEpisode

ARROWS: Final = ("→", "↑", "←", "↓")
"""The actions 0 to 3."""

MOVES: Final = {
    **{"right": 0, "up": 1, "left": 2, "down": 3},
    **{"d": 0, "w": 1, "a": 2, "s": 3},
}
"""Key to action."""

_KEYS = "arrow keys or w a s d: move   r: new maze   q: quit"


def play(task: str, *, seed: int | None = None, **task_options: Any) -> int:
    """Lets a person walk mazes until they quit.

    Args:
        task: "PassiveTMaze", "ActiveTMaze" or "TMaze".
        seed: of the first maze; None for a random one.
        **task_options: the task's own.

    Returns:
        The exit status, 0.
    """
    make_tmaze_spec("play", task, **task_options)  # refuses the other tasks
    env = TMazeEnv(task, **task_options)
    read = keyboard if is_interactive(sys.stdin) else _lines
    with read(sys.stdin) as keys, Screen(sys.stdout) as screen:
        walk = _Walk(env, seed, screen)
        for key in keys:
            if key in ("q", "end"):
                break
            walk.press(key)
    return 0


class _Walk:
    """A person's way through mazes: the present one, and how it looks."""

    def __init__(self, env: TMazeEnv, seed: int | None, screen: Screen) -> None:
        self._env, self._screen = env, screen
        self._obs = np.zeros(env.task_spec.obs_dim, np.float32)
        self._reward: float | None = None
        self._over = False
        self._begin(seed)

    def press(self, key: str) -> None:
        """Does what a key says; keys without a meaning do nothing."""
        if key == "r" or (self._over and key in ("\n", "\r", " ")):
            self._begin(None)
        elif key in MOVES and not self._over:
            self._obs, self._reward, self._over, _, _ = self._env.step(MOVES[key])
            self._show()

    def _begin(self, seed: int | None) -> None:
        self._obs, _ = self._env.reset(seed=seed)
        self._reward, self._over = None, False
        self._show()

    def _show(self) -> None:
        maze, spec = self._env.maze, self._env.task_spec
        scene = Scene.from_observation(
            spec, (maze.x, maze.y, maze.t, maze.goal_y), self._obs.tolist()
        )
        so_far = maze.statistics()
        reward = "-" if self._reward is None else f"{self._reward:+.3g}"
        lines = [
            _what_is_seen(spec, self._obs.tolist(), scene.cue),
            f"reward {reward}   return {so_far.episode_return:+.3g}   "
            f"steps left {spec.episode_length - maze.t}",
            f"{_verdict(so_far)} Enter: new maze   q: quit" if self._over else _KEYS,
        ]
        self._screen.show(_page(spec, scene, self._screen, lines, show_goal=self._over))


def replay(run: Path, *, seed: int = 0, length: int | None = None, fps: float = 6.0) -> int:
    """Shows one greedy episode of a trained agent.

    Args:
        run: a run's directory, or a checkpoint file.
        seed: of the maze.
        length: another corridor length than the agent was trained on.
        fps: frames a second; 0 for no pause.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: `fps` is negative.
        ImportError: torch is missing; the message says what to install.
    """
    if not 0 <= fps < float("inf"):
        raise ValueError(f"fps: expected a number >= 0, got {fps}")
    from fastmaze.training import greedy_episode

    episode = greedy_episode(run, seed=seed, length=length)
    pause = 1 / fps if fps > 0 and sys.stdout.isatty() else 0.0
    with Screen(sys.stdout) as screen:
        for text in _frames(episode, screen):
            screen.show(text)
            time.sleep(pause)
    return 0


def _frames(episode: GreedyEpisode, screen: Screen) -> Iterator[str]:
    """The text of each time of an episode, 0 to T."""
    spec, total = episode.spec, 0.0
    is_maze = isinstance(spec, TMazeSpec)
    names = ARROWS if is_maze else spec.action_names
    renderer = FAMILIES[spec.family].load("renderer")(spec, "ansi")
    for t, env in enumerate(episode.replayed()):
        total += float(episode.rewards[t - 1]) if t else 0.0
        lines = [f"return {total:+.3g}   steps left {spec.episode_length - t}"]
        if t < len(episode.actions):
            chosen = int(episode.actions[t])
            values = zip(names, episode.q_values[t].tolist(), strict=True)
            ranked = "   ".join(f"{name} {value:+.3f}" for name, value in values)
            lines.append(f"goes {names[chosen]}   values {ranked}")
        elif is_maze:
            lines.append("reached the goal." if episode.success else "missed the goal.")
        else:
            lines.append("success." if episode.success else "no success.")
        if isinstance(spec, TMazeSpec):
            obs = episode.obs[t].tolist()
            scene = Scene.from_observation(spec, (env.x, env.y, t, env.goal_y), obs)
            lines.insert(0, _what_is_seen(spec, obs, scene.cue))
            yield _page(spec, scene, screen, lines, show_goal=True)
        else:
            width = shutil.get_terminal_size().columns - 1
            text = [*renderer.frame(env).split("\n"), *lines]
            yield "\n".join(line[:width] for line in text)


def _page(
    spec: TMazeSpec, scene: Scene, screen: Screen, lines: list[str], *, show_goal: bool
) -> str:
    """The maze and the lines below it, all within the terminal's width.

    Where the terminal is too narrow even for the landmarks, it says so in place of the maze, until
    someone widens it.
    """
    # A line that the terminal wrapped would spoil the count of lines to go back.
    width = shutil.get_terminal_size().columns - 1
    columns = min(columns_within(width), MAX_COLUMNS)
    least = least_columns(spec)
    if columns < least:
        picture, below = [], [f"{text_width(least) + 1} columns needed"]
    else:
        style = COLOURED if screen.colours else PLAIN
        drawn = draw_text(spec, scene, style, show_goal=show_goal, max_columns=columns)
        *picture, times = drawn.split("\n")
        below = [times]
    return "\n".join([*picture, *(line[:width] for line in (*below, *lines))])


def _what_is_seen(spec: TMazeSpec, obs: Sequence[float], cue: int) -> str:
    """The observation, and what it means."""
    numbers = ", ".join(f"{entry:g}" for entry in obs)
    if cue:
        meaning = f"the cue: the goal is {'up' if cue > 0 else 'down'}"
    elif spec.ambiguous_position:
        places = {0: "the junction", 1: "the upper arm", -1: "the lower arm"}
        meaning = places[int(obs[1])] if obs[0] else "a corridor"
    else:
        meaning = "the position"
    return f"observes [{numbers}]: {meaning}"


def _verdict(episode: Episode) -> str:
    if episode.success:
        return "You reached the goal."
    return "You missed the goal."


@contextlib.contextmanager
def _lines(stream: TextIO) -> Iterator[Iterator[str]]:
    """Single keys from lines, for input that is no terminal; as `keyboard`."""
    yield _read_lines(stream)


def _read_lines(stream: TextIO) -> Iterator[str]:
    for line in stream:
        for word in line.split():
            if word in MOVES:
                yield word
            else:
                yield from word
    yield "end"
