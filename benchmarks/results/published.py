"""Accuracies that others published, beside those that were reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.results.measures import Estimate, final_accuracy, group_runs, mean_interval
from benchmarks.results.rundata import RunData
from benchmarks.running.compare_config import Published, matches
from mpfl.nested import build


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
