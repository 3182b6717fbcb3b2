"""One call that counts in several cells: its series', and those of its facets.

Adding to each cell costs each call; so calls that belong to the same cells are summed up first, from the second one
of an epoch on, and their sum is merged into all of them at its end.
"""

from collections.abc import Callable
from typing import Any

from streamlens.cell import Cell


class Spread:
    """Looks like a `Cell` to who counts. `fold` must come before the cells are read."""

    __slots__ = ("_sum", "add", "capped", "cells")

    add: Callable[..., None]

    def __init__(self, cells: tuple[Cell, ...], capped: tuple[str, ...]) -> None:
        """`capped` are the labels by which these calls count under another name than theirs."""
        self.cells = cells
        self.capped = capped
        self._sum: Cell | None = None
        self.add = self._first

    def _first(self, *call: Any) -> None:
        for cell in self.cells:
            cell.add(*call)
        self.add = self._second

    def _second(self, *call: Any) -> None:
        self._sum = Cell()
        self._sum.add(*call)
        self.add = self._sum.add

    def fold(self) -> int:
        """Bring the cells up to date; returns how many calls were added. Afterwards it takes no more."""
        del self.add
        if self._sum is None:
            return 1
        for cell in self.cells:
            cell.merge(self._sum)
        return 1 + self._sum.calls
