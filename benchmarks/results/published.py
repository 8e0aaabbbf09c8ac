"""Accuracies that others published, beside those that were reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.results.measures import Estimate, final_accuracy, group_runs, mean_interval
from benchmarks.results.rundata import RunData
from mpfl.errors import InputError, shown
from mpfl.nested import build, value_at


@dataclass(frozen=True)
class Published:
    """An accuracy that others reached: an entry of ``[[compare.published]]``."""

    when: dict[str, Any]
    """Dotted keys, and ``label``, with the values of the cells that it belongs to."""
    accuracy: float
    """Mean test accuracy, a share between 0 and 1."""
    source: str
    """Who published it, and where."""
    std: float = 0.0
    """Its standard deviation over their seeds (0: not said)."""
    tolerance: float = 0.0
    """How far from it one may end (0: two deviations, or half a point where that is more)."""
    round: str = "best"
    """What they report: the ``best`` test round, or the ``last``."""

    @property
    def allowed(self) -> float:
        """How far from the published accuracy one may end, a share."""
        return self.tolerance or max(2 * self.std, 0.005)


def matches(when: Mapping[str, Any], label: str, table: Mapping[str, Any]) -> bool:
    """Return whether a cell's tables and label have all the values asked for.

    Raises
    ------
    InputError
        For a key that the tables do not have, or that is a table itself.
    """
    whole = {**table, "label": label}
    found = {key: value_at(whole, key) for key in when}
    for key, value in found.items():
        if isinstance(value, Mapping):
            raise InputError(f"unknown key {shown(key)}; that is a table")
    return found == when


@dataclass(frozen=True)
class Meeting:
    """A published accuracy and what was reached in its place.

    Attributes
    ----------
    name
        Method or variant, with swept values.
    best, last
        Accuracy of the best test round and of the last one: mean over seeds, of runs that are done.
    seeds
        The seeds, ascending.
    """

    name: str
    published: Published
    best: Estimate
    last: Estimate
    seeds: tuple[int, ...]

    @property
    def reached(self) -> Estimate:
        """What is measured as the others measured: the best round or the last one."""
        return self.best if self.published.round == "best" else self.last

    @property
    def difference(self) -> float:
        """Reached minus published, a share."""
        return self.reached.mean - self.published.accuracy

    @property
    def verdict(self) -> Literal["met", "above", "below"]:
        """Whether the two are no further apart than is allowed, or which way they are."""
        if abs(self.difference) <= self.published.allowed + 1e-9:
            return "met"
        return "above" if self.difference > 0 else "below"


def meetings(runs: Sequence[RunData], settings: Mapping[str, Any]) -> list[Meeting]:
    """Return every published accuracy that finished runs belong to, in the order of the settings.

    Parameters
    ----------
    runs
        Those that failed count nowhere.
    settings
        The table ``[compare]``; see `Published`.
    """
    groups = group_runs([run for run in runs if not run.failed and run.evaluated])
    return [
        _meeting(name, entry, group)
        for entry in (build(Published, each) for each in settings.get("published", []))
        for name, group in groups.items()
        if all(matches(entry.when, run.label, run.config) for run in group)
    ]


def _meeting(name: str, published: Published, group: Sequence[RunData]) -> Meeting:
    best = [max(line.test_accuracy or 0.0 for line in run.evaluated) for run in group]
    last = [final_accuracy(run) for run in group]
    seeds = tuple(run.seed for run in group)
    return Meeting(name, published, mean_interval(best), mean_interval(last), seeds)
