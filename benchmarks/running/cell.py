"""One cell of a comparison or of a tuning: what is run, under which name, into which folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.running.experiment import resume, run, validate
from mpfl.config import Experiment
from mpfl.data import load_data
from mpfl.errors import RunError
from mpfl.world import Loader
from server.runfolder import CONFIG

CELLS = "cells"

Sweep = tuple[tuple[str, Any], ...]
"""Swept dotted keys, each with one of its values."""

OnCell = Callable[["Cell", dict[str, Any] | None], None]
"""Sees (cell, record) after every round and (cell, None) when the cell is finished."""


@dataclass(frozen=True)
class Cell:
    """One run among many.

    Attributes
    ----------
    load
        Reads the data set, once for all cells.
    ignored
        Keys of the configuration without effect → why.
    same_as
        Name of an earlier cell that does the same run, down to settings that are never read; its
        results are this one's. Empty where there is none.
    """

    label: str
    seed: int
    sweep: Sweep
    experiment: Experiment
    load: Loader = field(default=load_data, compare=False, repr=False)
    ignored: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    same_as: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Folder name of the cell."""
        parts = [self.label, *(f"{key}={value}" for key, value in self.sweep)]
        return "__".join([*parts, f"seed{self.seed}"]).replace("/", "-")

    @property
    def tags(self) -> dict[str, Any]:
        """What the cell's summary says about its place among the others."""
        return {"label": self.label, "sweep": dict(self.sweep)}


def run_cell(cell: Cell, folders: Path, on_cell: OnCell | None, workers: int | None = None) -> None:
    """Run a cell to its end; one that comes to no result says so in its folder.

    Parameters
    ----------
    folders
        The folder of all cells' folders.
    """
    folder = folders / cell.name
    on_round = None if on_cell is None else lambda record: on_cell(cell, record)
    with suppress(RunError):
        if (folder / CONFIG).is_file():
            resume(folder, on_round, cell.tags, workers, cell.load)
        else:
            world = validate(cell.experiment, cell.load)
            run(cell.experiment, folder, on_round, cell.tags, workers, world)
    if on_cell:
        on_cell(cell, None)
