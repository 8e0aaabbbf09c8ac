"""Groups of runs as figures draw them: repetitions of a method, in the table's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.analysis import Row, RunData, group_runs
from benchmarks.figure_style import Style, method_styles, variant


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


def drawn_groups(runs: Sequence[RunData], rows: Sequence[Row], baseline: str) -> list[Group]:
    """Return the groups in the order of the table, each with its style."""
    groups = group_runs(runs)
    styles = method_styles((run.label for run in runs), baseline)
    drawn: list[Group] = []
    seen: dict[str, int] = {}
    for row in rows:
        label = groups[row.method][0].label
        style = variant(styles[label], seen.get(label, 0))
        seen[label] = seen.get(label, 0) + 1
        drawn.append(Group(row.method, groups[row.method], style))
    return drawn
