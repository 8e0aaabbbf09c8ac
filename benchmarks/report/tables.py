"""Tables of a page as plain data: what is shown how is the templates'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what its column is sorted by, an addition in small print.

    The best of its column is marked.
    """

    text: str = "–"
    value: object = None
    small: str = ""
    best: bool = False

    @property
    def key(self) -> str:
        """What the column is sorted by, as text; empty where there is nothing."""
        if self.value is None:
            return ""
        return f"{self.value:.12g}" if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True)
class Line:
    """A line of a table: its name in the first column, the cells after it, its CSS classes."""

    name: str
    cells: Sequence[Cell]
    classes: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the headings of all columns, and its lines."""

    headings: Sequence[str]
    lines: Sequence[Line]


def cell(value: Any, text: Callable[[Any], str], small: str = "") -> Cell:
    """Return a cell that is sorted by its value; an empty one for None."""
    return Cell() if value is None else Cell(text(value), value, small)
