"""What stands in the sections of a report, as plain data: what is shown how is the templates'."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report.columns import Column, accuracy_text, best_of, columns
from benchmarks.report.table import difference_text, published_text
from benchmarks.report.tables import Cell, Line, Table, cell
from benchmarks.results.measures import (
    LINKS,
    Estimate,
    accuracy_within,
    area_under_curve,
    client_spread,
    final_accuracy,
    mean_of_all,
    transfer_seconds,
)
from benchmarks.results.published import Meeting
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData
from benchmarks.units import bytes_text, count_text, duration_text, percent_text, ratio_text
from server.health import Standing

Groups = Mapping[str, Sequence[RunData]]
"""The repetitions of each method, in the table's order."""


@dataclass(frozen=True)
class Budgets:
    """Accuracy within byte budgets; whose bytes they are parts of, and the area's two ends."""

    table: Table
    whose: str
    low: int
    high: int


def published(meetings: Sequence[Meeting]) -> Table | None:
    """Return published accuracies beside those reached; None where there are none."""
    headings = ["run", "seeds", "published", "best round", "last round", "difference", "source"]
    lines = [
        Line(
            met.name,
            [
                Cell(str(len(met.seeds)), len(met.seeds)),
                Cell(published_text(met), met.published.accuracy),
                Cell(accuracy_text(met.best), met.best.mean),
                Cell(accuracy_text(met.last), met.last.mean),
                Cell(difference_text(met), met.difference, met.verdict),
                Cell(met.published.source, met.published.source),
            ],
        )
        for met in meetings
    ]
    return Table(headings, lines) if lines else None


def facts(run: RunData) -> dict[str, str]:
    """Return the figures of one run."""
    last, summary = run.rounds[-1], run.summary
    rejected = sum(sum(line.rejected.values()) for line in run.rounds)
    found = {
        "test accuracy": percent_text(final_accuracy(run)),
        "density": ratio_text(last.density),
        "density, all parameters": ratio_text(last.density_all_parameters),
        "uplink": bytes_text(last.uplink_bytes),
        "downlink": bytes_text(last.downlink_bytes),
        "total": bytes_text(last.total_bytes),
        "rounds": str(last.round),
        "parameters": count_text(summary.parameters),
        "surviving": count_text(summary.surviving_parameters),
        "wall time": duration_text(summary.seconds),
        "peak memory": bytes_text(summary.peak_memory_bytes),
        "rejected replies": str(rejected or "–"),
        "rounds that counted": _counted(run),
    }
    return {name: text for name, text in found.items() if text != "–"}


def _counted(run: RunData) -> str:
    """Return rounds that counted of those that were run, phase by phase."""
    rounds = Standing.of(run.rounds).rounds
    return ", ".join(f"{phase} {good} of {every}" for phase, (good, every) in rounds.items())


def methods(rows: Sequence[Row], baseline: str) -> Table:
    """Return the comparison table of one setting, with all columns."""
    first, *others = (column for column in columns(baseline) if column.heading)
    best = {column.csv: best_of(column, rows) for column in others}
    lines = [
        Line(
            row.variant,
            [_method_cell(column, row, best[column.csv]) for column in others],
            row_classes(row, baseline),
        )
        for row in rows
    ]
    return Table([first.heading, *(column.heading for column in others)], lines)


def row_classes(row: Row, baseline: str) -> str:
    """Return the CSS classes of a row: what is marked in every table."""
    marks = {
        "front": row.on_front,
        "baseline": row.label == baseline,
        "failed": row.failed > 0,
    }
    return " ".join(name for name, on in marks.items() if on)


def _method_cell(column: Column, row: Row, best: Collection[str]) -> Cell:
    value = column.value(row)
    key = value
    if isinstance(value, Estimate):
        key = None if row.failed else value.mean
    elif isinstance(value, tuple):
        key = len(value)
    return Cell(column.text(value, row), key, column.small(value), row.method in best)


def budgets(groups: Groups, baseline: str) -> Budgets | None:
    """Return accuracy within parts of the baseline's bytes; None where nothing is sent."""
    sending = {name: group for name, group in groups.items() if not group[0].is_ceiling}
    every = [run for group in sending.values() for run in group]
    if not every:
        return None
    reference = [run for run in every if run.label == baseline]
    full = max(run.total_bytes for run in reference or every)
    parts = (full / 100, full / 10, full)
    low = min(run.evaluated[0].total_bytes for run in every if run.evaluated)
    high = max(run.total_bytes for run in every)
    lines = []
    for name, group in sending.items():
        shares = [mean_of_all([accuracy_within(run, part) for run in group]) for part in parts]
        areas = [area_under_curve(run, low, high) for run in group] if low < high else []
        cells = [cell(share, percent_text) for share in shares]
        cells.append(cell(mean_of_all(areas), ratio_text))
        lines.append(Line(name, cells, "baseline" if group[0].label == baseline else ""))
    headings = ["method", *(f"within {bytes_text(part)}" for part in parts), "area under curve"]
    whose = f"{baseline}'s" if reference else "the dearest run's"
    return Budgets(Table(headings, lines), whose, low, high)


def models(groups: Groups) -> Table:
    """Return size and cost of the final models, and the clients' spread."""
    return _known_columns(
        groups,
        {
            "surviving parameters": _surviving,
            "MACs dense": lambda group: cell(_figure(group[0], "macs_dense"), count_text),
            "MACs masked": lambda group: cell(_figure(group[0], "macs_masked"), count_text),
            "MACs compacted": lambda group: cell(_figure(group[0], "macs_compacted"), count_text),
            "accuracy over clients": lambda group: _spread(group[0]),
        },
    )


def times(groups: Groups) -> Table:
    """Return what the runs took: the one table that differs when the same work is done again."""
    return _known_columns(
        groups,
        {
            "wall time": lambda group: cell(
                mean_of_all([_figure(run, "seconds") for run in group]), duration_text
            ),
            "peak memory": lambda group: cell(_figure(group[0], "peak_memory_bytes"), bytes_text),
        },
    )


def transfers(groups: Groups) -> Table:
    """Return the modelled time that transfers take over each of `LINKS`."""
    lines = []
    for name, group in groups.items():
        if not group[0].is_ceiling:
            modelled = ([transfer_seconds(run, link) for run in group] for link in LINKS)
            cells = [cell(mean_of_all(seconds), duration_text) for seconds in modelled]
            lines.append(Line(name, cells))
    return Table(["method", *(link.name for link in LINKS)], lines)


def _known_columns(
    groups: Groups, makers: Mapping[str, Callable[[Sequence[RunData]], Cell]]
) -> Table:
    """Return a line a group, of the columns that hold anything; no line where none does."""
    made = {head: [make(group) for group in groups.values()] for head, make in makers.items()}
    known = {head: cells for head, cells in made.items() if any(cell.text != "–" for cell in cells)}
    lines = [Line(name, cells) for name, *cells in zip(groups, *known.values(), strict=True)]
    return Table(["method", *known], lines if known else [])


def _surviving(group: Sequence[RunData]) -> Cell:
    count = mean_of_all([_figure(run, "surviving_parameters") for run in group])
    every = _figure(group[0], "parameters")
    if count is None or every is None:
        return Cell()
    return Cell(count_text(count), count, f"of {count_text(every)}")


def _spread(run: RunData) -> Cell:
    spread = client_spread(run)
    if spread is None:
        return Cell()
    highest = f"to {percent_text(spread.highest, 1)}"
    return Cell(percent_text(spread.lowest, 1), spread.lowest, highest)


def _figure(run: RunData, key: str) -> float | None:
    value = getattr(run.summary, key)
    return None if value is None else float(value)
