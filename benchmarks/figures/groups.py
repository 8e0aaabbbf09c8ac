"""Groups of runs as figures draw them: repetitions of a method, in the table's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures.style import Style, method_styles, variant
from benchmarks.results.measures import Tested, common_rounds, group_runs
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData


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


def drawn_groups(runs: Sequence[RunData], rows: Sequence[Row], baseline: str) -> list[Group]:
    """Return the groups in the order of the table, each with its style.

    A swept key that changes nothing about a method (say a density for one that never prunes) would
    draw the same curve again and again: such a method is drawn once, without the key in its name.
    """
    groups = group_runs(without_idle_keys(runs))
    table = group_runs(runs)
    names = dict.fromkeys(_group_of(table[row.method][0], groups) for row in rows)
    styles = method_styles((run.label for run in runs), baseline)
    drawn: list[Group] = []
    seen: dict[str, int] = {}
    for name in names:
        label = groups[name][0].label
        style = variant(styles[label], seen.get(label, 0))
        seen[label] = seen.get(label, 0) + 1
        drawn.append(Group(name, groups[name], style))
    return drawn


def without_idle_keys(runs: Sequence[RunData], but: str = "") -> list[RunData]:
    """Return the runs with every swept key taken out of the methods that it changes nothing about.

    Of runs that are equal without the key the first is kept. The key `but` stays everywhere.
    """
    kept = list(runs)
    for key in dict.fromkeys(key for run in runs for key in run.sweep if key != but):
        for label in dict.fromkeys(run.label for run in runs):
            mine = [run for run in kept if run.label == label and key in run.sweep]
            twins: dict[tuple[str, int], list[RunData]] = {}
            for run in mine:
                rest = {name: value for name, value in run.sweep.items() if name != key}
                plain = replace(run, sweep=rest)
                twins.setdefault((plain.name, run.seed), []).append(plain)
            idle = [len(same) > 1 and len(set(map(_outcome, same))) == 1 for same in twins.values()]
            if mine and all(idle):
                kept = [run for run in kept if run.label != label or key not in run.sweep]
                kept += [same[0] for same in twins.values()]
    return kept


def _outcome(run: RunData) -> tuple[object, ...]:
    """Return everything figures show of a run."""
    curve = [(n.round, n.test_accuracy, n.density, n.total_bytes) for n in run.rounds]
    sums = [int(values.sum()) for values in run.ledger.kinds.values()]
    return (*curve, *sums, *run.client_accuracy)


def _group_of(run: RunData, groups: Mapping[str, Sequence[RunData]]) -> str:
    """Return the name of the group that a run of the table is drawn with."""
    return next(
        name
        for name, group in groups.items()
        if group[0].label == run.label and group[0].sweep.items() <= run.sweep.items()
    )
