"""Tuning trials beside a comparison, as far as a figure shows them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.figures.errors import Dot
from benchmarks.results.settings import COMPARISON, setting_text

TRIALS = "trials.csv"


@dataclass(frozen=True)
class Trial:
    """Where a trial ended.

    Attributes
    ----------
    label
        The method or variant that was tuned.
    bytes
        Total bytes.
    accuracy
        What tuning went by at the end (validation samples), a share.
    swept
        The swept values it was tuned under, as `setting_text` writes them.
    """

    label: str
    bytes: float
    accuracy: float
    swept: tuple[str, ...] = ()

    @property
    def dot(self) -> Dot:
        """What a figure shows of it."""
        return Dot(self.label, self.bytes, 1 - self.accuracy)

    def is_of(self, setting: str) -> bool:
        """Return whether it was tuned in a setting; what is no part of settings is passed over."""
        parts = f", {setting}, "
        names = [text for text in self.swept if f", {text.partition('=')[0]}=" in parts]
        return all(f", {text}, " in parts for text in names)


def load_trials(folders: Sequence[Path], comparisons: Mapping[Path, str]) -> list[Trial]:
    """Return the trials beside these comparisons; none where there are none, or no such columns.

    They belong to their comparison alone, if it has one of the names of `comparisons`.
    """
    found = []
    for folder in folders:
        name = comparisons.get(folder.resolve())
        own = (f"{COMPARISON}={name}",) if name else ()
        found += [replace(trial, swept=(*trial.swept, *own)) for trial in _read(folder / TRIALS)]
    return found


def _read(file: Path) -> list[Trial]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        found = [_trial(row) for row in csv.DictReader(lines)]
    return [trial for trial in found if trial is not None]


def _trial(row: dict[str, str]) -> Trial | None:
    """Return a trial; None for one that came to no result, or for a file of something else."""
    columns = list(row)
    try:
        keys = columns[1 : columns.index("trial")]
        swept = tuple(setting_text(row, [key]) for key in keys)
        return Trial(row["label"], float(row["total_bytes"]), float(row["accuracy"]), swept)
    except (KeyError, TypeError, ValueError):
        return None
