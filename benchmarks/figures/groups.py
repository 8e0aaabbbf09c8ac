"""Groups of runs as figures draw them: a method's repetitions, in the table's order, by setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures.palette import Style, variant_styles
from benchmarks.results.measures import Tested, common_rounds, group_runs
from benchmarks.results.rows import Row, place
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import (
    reading_order,
    setting_keys,
    split_settings,
    without_idle_keys,
)


@dataclass(frozen=True)
class Group:
    """The repetitions of one method, and how they are drawn."""

    name: str
    runs: Sequence[RunData]
    style: Style

    @property
    def is_ceiling(self) -> bool:
        """Whether the group is a reference that sends nothing."""
        return all(run.is_ceiling for run in self.runs)

    @property
    def curve(self) -> Sequence[Tested]:
        """What was measured in the rounds that all repetitions evaluated."""
        return common_rounds(self.runs)


@dataclass(frozen=True)
class Panel:
    """One setting of a comparison.

    Attributes
    ----------
    setting
        Its swept values; empty where none is swept.
    groups
        What is drawn, in the table's order.
    rows
        The rows of the table, of these groups alone.
    """

    setting: str
    groups: Sequence[Group]
    rows: Sequence[Row]

    @property
    def by_validation(self) -> bool:
        """Whether targets go by validation samples."""
        runs = (run for group in self.groups for run in group.runs)
        return any(run.summary.validation_accuracy is not None for run in runs)


def panels(
    runs: Sequence[RunData],
    rows: Sequence[Row],
    baseline: str,
    every: Sequence[RunData] | None = None,
) -> list[Panel]:
    """Return the settings in reading order, in all of which a variant looks the same.

    A swept key that changes nothing about a method (say a density for one that never prunes) would
    draw the same curve again and again: such a method is drawn once, without the key in its name.
    Settings are those of `every` run, the failed ones among them, as in the rows.
    """
    keys = setting_keys(every or runs, baseline)
    parts = {
        setting: without_idle_keys(part) for setting, part in split_settings(runs, keys).items()
    }
    labels = {run.name: run.label for part in parts.values() for run in part}
    styles = variant_styles(labels, baseline)
    return [
        _panel(setting, parts[setting], rows, styles)
        for setting in sorted(parts, key=reading_order)
    ]


def _panel(
    setting: str, runs: Sequence[RunData], rows: Sequence[Row], styles: Mapping[str, Style]
) -> Panel:
    groups = group_runs(runs)
    mine: dict[str, Row] = {}
    for row in sorted(rows, key=place):
        for name, group in groups.items() if row.setting in (setting, "") else ():
            if row.label == group[0].label and group[0].sweep.items() <= row.sweep.items():
                mine.setdefault(name, replace(row, variant=name))
    drawn = [Group(name, groups[name], styles[name]) for name in mine]
    return Panel(setting, drawn, list(mine.values()))
