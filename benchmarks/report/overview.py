"""The tables of the first screen and of equal accuracy, setting by setting."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from benchmarks.figures.groups import Panel
from benchmarks.report.columns import (
    Column,
    best_of,
    bits_text,
    columns,
    missed_text,
    ratio_ends,
)
from benchmarks.report.sections import row_classes
from benchmarks.report.tables import Cell, Line, Table
from benchmarks.results.measures import Estimate
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData
from benchmarks.results.targets import Reach
from benchmarks.units import bytes_text, fewer_text, percent_text

_FIRST = (
    "bytes_to_target",
    "total_bytes",
    "test_accuracy",
    "density",
)
_RATIOS = {"bytes_to_target": "ratio_at_target", "total_bytes": "ratio"}


def first_table(panel: Panel, baseline: str) -> Table:
    """Return what matters of a setting: bytes to the target and in total, each with its ratio."""
    known = {column.csv: column for column in columns(baseline)}
    shown = [known[name] for name in _FIRST]
    best = {column.csv: best_of(column, panel.rows) for column in shown}
    lines = [
        Line(
            row.variant,
            [*(_cell(c, row, baseline, best[c.csv]) for c in shown), _bits(row)],
            row_classes(row, baseline),
        )
        for row in panel.rows
    ]
    headings = ["method", *(column.heading for column in shown), "bits / parameter"]
    return Table(headings, lines)


def _bits(row: Row) -> Cell:
    """Return bits per parameter of both directions; sorted by their sum."""
    if row.failed or row.uplink_bits is None or row.downlink_bits is None:
        return Cell()
    up, down = bits_text(row.uplink_bits), bits_text(row.downlink_bits)
    return Cell(f"{up} ↑ {down} ↓", row.uplink_bits + row.downlink_bits)


def _cell(column: Column, row: Row, baseline: str, best: Collection[str]) -> Cell:
    value = column.value(row)
    small = ""
    if column.csv in _RATIOS and row.label != baseline:
        small = ratio_words(getattr(row, _RATIOS[column.csv]))
    key = value.mean if isinstance(value, Estimate) else value
    return Cell(column.text(value, row), None if row.failed else key, small, row.method in best)


def ratio_words(ratio: Estimate | None) -> str:
    """Return how many times fewer or more, with the interval."""
    if ratio is None:
        return ""
    parts = fewer_text(ratio.mean), ratio_ends(ratio)
    return " ".join(part.replace(" ", "\u00a0") for part in parts if part)  # breaks between them


def equal_accuracy(panel: Panel, baseline: str) -> Table:
    """Return the bytes that each method needs for each target, against one or two baselines."""
    rivals = [row for row in panel.rows if not row.ceiling and not row.failed and row.reaches]
    if not rivals:
        return Table(["method"], [])
    margins = [reach.margin for reach in rivals[0].reaches if reach.target is not None]
    best = {margin: _cheapest(rivals, margin) for margin in margins}
    lines = [
        Line(
            row.variant,
            [_reach_cell(row, row.reach_at(margin), baseline, best[margin]) for margin in margins],
            row_classes(row, baseline).replace("front", "").strip(),
        )
        for row in rivals
    ]
    return Table(["method", *(_target(rivals[0].reach_at(m)) for m in margins)], lines)


def _cheapest(rows: Sequence[Row], margin: float) -> str:
    spent = {row.method: row.reach_at(margin).bytes_to_target for row in rows}
    able = {name: count for name, count in spent.items() if count is not None}
    return min(able, key=lambda name: able[name]) if len(able) > 1 else ""


def _target(reach: Reach) -> str:
    less = f"−{100 * reach.margin:g} points" if reach.margin else "no margin"
    return f"to {percent_text(reach.target, 1)} ({less})"


def _reach_cell(row: Row, reach: Reach, baseline: str, best: Collection[str]) -> Cell:
    if reach.bytes_to_target is None:
        return Cell(missed_text(reach.reached, reach.judged))
    words = "" if row.label == baseline else ratio_words(reach.ratio)
    if reach.best and reach.best_ratio is not None and row.label != reach.best:
        words += f"{'; ' * bool(words)}{ratio_words(reach.best_ratio)} than {reach.best}"
    spent = reach.bytes_to_target
    return Cell(bytes_text(spent), spent, words, row.method == best)


def sampling_error(panels: Sequence[Panel], baseline: str) -> str:
    """Say how far a test accuracy may be off because the test set is a sample; empty if unknown."""
    for panel in panels:
        for group in panel.groups:
            if group.runs[0].label == baseline and group.curve:
                return _sampling_words(group.curve[-1].accuracy.mean, _test_samples(group.runs[0]))
    return ""


def _test_samples(run: RunData) -> int | None:
    """Return how many there are: as recorded or, in older runs, as configured."""
    limit = run.config.get("data", {}).get("test_samples")
    return run.summary.test_predictions or limit or None


def _sampling_words(accuracy: float, samples: int | None) -> str:
    if samples is None:
        return ""
    error = math.sqrt(accuracy * (1 - accuracy) / samples)
    return (
        f"Sampling error of the test set: {percent_text(accuracy, 1)} right of {samples:,} has a "
        f"binomial standard error of {100 * error:.2f} points, which intervals over seeds do not "
        "contain."
    )
