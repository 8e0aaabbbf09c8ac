"""The comparison table as CSV, LaTeX and terminal text."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from math import isnan
from typing import Any

from rich.table import Table
from rich.text import Text

from benchmarks.report.columns import Column, accuracy_text, best_of, columns
from benchmarks.results.published import Meeting
from benchmarks.results.rows import Row, by_setting
from benchmarks.units import percent_text, printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV: shares and exact byte counts, intervals in columns of their own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shown = columns("")
    writer.writerow(heading for column in shown for heading in _csv_headings(column))
    for row in rows:
        writer.writerow(_csv_text(value) for column in shown for value in _csv_values(column, row))
    return out.getvalue()


def _csv_headings(column: Column) -> list[str]:
    return [column.csv + end for end in ("", "_low", "_high")] if column.ends else [column.csv]


def _csv_values(column: Column, row: Row) -> list[Any]:
    value = column.value(row)
    if not column.ends:
        return [value]
    return [value.mean, value.low, value.high] if value else [None] * 3


def _csv_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, float):
        if isnan(value):
            return ""
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.9g}"
    return spreadsheet_text(str(value))


def spreadsheet_text(text: str) -> str:
    """Return a name as a spreadsheet shows it: what it would take for a formula gets a quote.

    Examples
    --------
    >>> spreadsheet_text("=cmd()"), spreadsheet_text("mpfl")
    ("'=cmd()", 'mpfl')
    """
    return printable(f"'{text}" if text.startswith(_FORMULA) else text)


_TEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "×": r"$\times$", "–": "--"}
)


def table_tex(rows: Sequence[Row], baseline: str = "fedavg") -> str:
    """Return the rows as a LaTeX ``tabular``, the best of a setting bold (needs booktabs)."""
    shown = [column for column in columns(baseline) if column.heading]
    lines = [
        r"\begin{tabular}{l" + "r" * (len(shown) - 1) + "}",
        r"\toprule",
        _tex_line([column.heading for column in shown]),
    ]
    for setting, part in by_setting(rows).items():
        lines.append(r"\midrule")
        if setting:
            lines.append(rf"\multicolumn{{{len(shown)}}}{{l}}{{{setting.translate(_TEX)}}} \\")
        best = {column.csv: best_of(column, part) for column in shown}
        for row in part:
            texts = [_tex_text(column, row, best[column.csv]) for column in shown]
            lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex_text(column: Column, row: Row, best: Collection[str]) -> str:
    name = column.csv == "method"
    text = row.variant if name else column.text(column.value(row), row)
    return rf"\textbf{{{text.translate(_TEX)}}}" if row.method in best else text.translate(_TEX)


def _tex_line(texts: Sequence[str]) -> str:
    return " & ".join(text.translate(_TEX) for text in texts) + r" \\"


def table_text(rows: Sequence[Row], baseline: str = "fedavg") -> Table:
    """Return the rows as a rich table for the terminal, narrow enough for 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    shown = [column for column in columns(baseline) if column.short]
    table.add_column(shown[0].short, justify="left", overflow="fold")
    for column in shown[1:]:
        table.add_column(column.short, justify="right", no_wrap=True)
    parts = by_setting(rows)
    for setting, part in parts.items():
        if len(parts) > 1:
            table.add_row(Text(setting, style="italic"))
        for row in part:
            texts = [_short(column.text(column.value(row), row)) for column in shown[1:]]
            table.add_row(row.variant, *texts)
        if len(parts) > 1:
            table.add_section()
    most = max(len(row.seeds) for row in rows)
    if most > 1:
        table.caption = f"Mean over {most} seeds, ± 95 % interval."
        table.caption_justify = "left"
    return table


def published_text(met: Meeting) -> str:
    """Return a published accuracy in per cent, with its deviation where that is known."""
    figure = percent_text(met.published.accuracy)
    return f"{figure} (std {100 * met.published.std:.2f})" if met.published.std else figure


def difference_text(met: Meeting) -> str:
    """Return how far what was reached is from what was published, in points, and the allowance."""
    return f"{100 * met.difference:+.2f} of ±{100 * met.published.allowed:.2f}"


def meetings_text(meetings: Sequence[Meeting]) -> Table:
    """Return published accuracies beside those reached as a rich table for the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", justify="left", overflow="fold")
    for heading in ("published\nacc. %", "best\nround", "last\nround", "difference", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for met in meetings:
        figures = published_text(met), accuracy_text(met.best), accuracy_text(met.last)
        shown = [text.replace(" %", "").replace("std ", "±") for text in figures]
        table.add_row(met.name, *shown, difference_text(met), met.verdict)
    return table


def _short(text: str) -> str:
    text = text.removesuffix(" %").removesuffix(" seeds").replace(" ± ", "±")
    text = text.replace(" × fewer", " ×")
    return "missed" if text == "not reached" else text
