"""What a specification env on a grid tells its renderer."""

from __future__ import annotations

from abc import abstractmethod

from fastmaze.reference.base import SpecificationEnv


class GridEnv(SpecificationEnv):
    """A specification env that can be drawn as a grid of characters.

    The characters are those of `fastmaze.envs.grid_rendering`, which gives each a colour and a
    shape. A grid may be large: only the cells around the player are asked for.
    """

    @property
    @abstractmethod
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns; the same in every episode of a task."""

    @property
    @abstractmethod
    def player_cell(self) -> tuple[int, int]:
        """Row and column that the picture must show."""

    @abstractmethod
    def character(self, row: int, column: int) -> str:
        """What stands on a cell, the player included."""

    def is_in_view(self, row: int, column: int) -> bool:
        """Whether the present observation shows the cell."""
        return True

    def caption(self) -> str:
        """A line beside the time, of what the picture does not show."""
        return ""
