"""The comparison table: its columns, and all of it as CSV, LaTeX and terminal text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from operator import attrgetter
from typing import Any

from rich.table import Table

from benchmarks.results.measures import Estimate
from benchmarks.results.published import Meeting
from benchmarks.results.rows import Row
from benchmarks.units import bytes_text, percent_text, printable, ratio_text


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    csv
        Its heading in the CSV file.
    value
        What a row holds there, exactly.
    heading, short
        Its headings in the page and LaTeX, and in the terminal; it is left out where it has none.
    text
        (value, row) -> what people read.
    ends
        Whether the value is an `Estimate`, whose interval has columns of its own in the CSV file.
    small
        (value) -> what the page adds in small print.
    """

    csv: str
    value: Callable[[Row], Any]
    heading: str = ""
    short: str = ""
    text: Callable[[Any, Row], str] = lambda value, row: str(value)
    ends: bool = False
    small: Callable[[Any], str] = lambda value: ""


def columns(baseline: str) -> tuple[Column, ...]:
    """Return the table's columns; some headings name the baseline."""
    own, ratio = attrgetter, (_ratio, True, _interval)
    return (
        Column("method", own("method"), "method", "method"),
        Column("seeds", own("seeds"), "seeds", "", lambda seeds, row: str(len(seeds))),
        Column("test_accuracy", own("accuracy"), "test accuracy", "test\nacc. %", _accuracy, True),
        Column(
            "density", own("density"), "density", "density", lambda share, row: ratio_text(share)
        ),
        Column("density_all_parameters", own("density_all_parameters")),
        Column("uplink_bytes", own("uplink_bytes"), "uplink", "", _sent),
        Column("downlink_bytes", own("downlink_bytes"), "downlink", "", _sent),
        Column("total_bytes", own("total_bytes"), "total bytes", "total", _sent),
        Column(
            "uplink_bits_per_parameter",
            own("uplink_bits"),
            "uplink, bits / parameter",
            "bits\nup",
            _bits,
        ),
        Column(
            "downlink_bits_per_parameter",
            own("downlink_bits"),
            "downlink, bits / parameter",
            "bits\ndown",
            _bits,
        ),
        Column("total_ratio", own("ratio"), f"total / {baseline}", f"total\n/{baseline}", *ratio),
        Column(
            "total_bytes_with_transport", own("transport_bytes"), "total with transport", "", _sent
        ),
        Column(
            "total_ratio_with_transport",
            own("transport_ratio"),
            f"with transport / {baseline}",
            "",
            *ratio,
        ),
        Column("target_accuracy", own("target")),
        Column("seeds_reaching_target", _seeds_reaching),
        Column("bytes_to_target", own("bytes_to_target"), "bytes to target", "to\ntarget", _spent),
        Column(
            "target_ratio",
            own("ratio_at_target"),
            f"to target / {baseline}",
            f"target\n/{baseline}",
            *ratio,
        ),
        Column("pareto", lambda row: None if row.ceiling or row.failed else int(row.on_front)),
        Column("failed", own("failed")),
    )


def accuracy_text(estimate: Estimate) -> str:
    """Return an accuracy in per cent with the half width of its interval."""
    half = estimate.half_width
    if half is None:
        return percent_text(estimate.mean)
    return f"{100 * estimate.mean:.2f} ± {100 * half:.2f} %"


def _accuracy(estimate: Estimate, row: Row) -> str:
    """Return the accuracy, or that there is none: a model that failed has no figure to read."""
    if not row.failed:
        return accuracy_text(estimate)
    return "failed" if row.failed >= len(row.seeds) else f"{row.failed} of {len(row.seeds)} failed"


def _ratio(ratio: Estimate | None, row: Row) -> str:
    return ratio_text(ratio.mean if ratio else None)


def _interval(ratio: Estimate | None) -> str:
    """Return the ends of a ratio's interval, unless it is too narrow to be seen."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return ""
    if ratio.high - ratio.low < 5e-4 * ratio.mean:
        return ""
    return f"[{ratio_text(ratio.low)}, {ratio_text(ratio.high)}]"


def _bits(bits: float | None, row: Row) -> str:
    """Return bits per parameter in four characters or, where they are few, a little more."""
    if bits is None or bits < 0.1 or bits >= 9.995:
        return ratio_text(bits)
    return f"{bits:.2f}"


def _sent(count: float, row: Row) -> str:
    return "–" if row.ceiling or isnan(count) else bytes_text(count)


def _spent(count: float | None, row: Row) -> str:
    """Return the bytes to the target, or with how many seeds it was reached."""
    if row.ceiling or row.failed or row.target is None:
        return "–"
    if count is None:
        return "not reached" if not row.reached else f"{row.reached} of {len(row.seeds)} seeds"
    return bytes_text(count)


def _seeds_reaching(row: Row) -> int | None:
    return None if row.ceiling or row.failed or row.target is None else row.reached


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
    | {"±": r"$\pm$", "–": "--"}
)


def table_tex(rows: Sequence[Row], baseline: str = "fedavg") -> str:
    """Return the rows as a LaTeX ``tabular`` (needs the package booktabs)."""
    shown = [column for column in columns(baseline) if column.heading]
    lines = [
        r"\begin{tabular}{l" + "r" * (len(shown) - 1) + "}",
        r"\toprule",
        _tex_line([column.heading for column in shown]),
        r"\midrule",
        *(_tex_line([column.text(column.value(row), row) for column in shown]) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _tex_line(texts: Sequence[str]) -> str:
    return " & ".join(text.translate(_TEX) for text in texts) + r" \\"


def table_text(rows: Sequence[Row], baseline: str = "fedavg") -> Table:
    """Return the rows as a rich table for the terminal, narrow enough for 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    shown = [column for column in columns(baseline) if column.short]
    table.add_column(shown[0].short, justify="left", overflow="fold")
    for column in shown[1:]:
        table.add_column(column.short, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_short(column.text(column.value(row), row)) for column in shown))
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
    return "missed" if text == "not reached" else text
