"""The comparison table as CSV, LaTeX and terminal text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks.results.measures import Estimate
from benchmarks.results.rows import Row
from benchmarks.units import bytes_text, percent_text, ratio_text


@dataclass(frozen=True)
class Column:
    """One column: its heading with unit, its text, and its exact value."""

    key: str
    heading: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | int | str | None]


def accuracy_text(estimate: Estimate) -> str:
    """Return an accuracy in per cent with the half width of its interval."""
    half = estimate.half_width
    if half is None:
        return percent_text(estimate.mean)
    return f"{100 * estimate.mean:.2f} ± {100 * half:.2f} %"


def to_target_text(row: Row) -> str:
    """Return the bytes to the target, or in how many seeds it was reached."""
    if row.ceiling or row.target is None:
        return "–"
    if row.bytes_to_target is None:
        return "not reached" if not row.reached else f"{row.reached} of {len(row.seeds)} seeds"
    return bytes_text(row.bytes_to_target)


def columns(baseline: str) -> tuple[Column, ...]:
    """Return the table's columns; the headings name the baseline."""

    def own(value: Callable[[Row], float]) -> Callable[[Row], str]:
        return lambda row: "–" if row.ceiling else bytes_text(value(row))

    return (
        Column("method", "method", lambda r: r.method, lambda r: r.method),
        Column("seeds", "seeds", lambda r: str(len(r.seeds)), lambda r: len(r.seeds)),
        Column(
            "test_accuracy",
            "test accuracy",
            lambda r: accuracy_text(r.accuracy),
            lambda r: r.accuracy.mean,
        ),
        Column("density", "density", lambda r: ratio_text(r.density), lambda r: r.density),
        Column("uplink_bytes", "uplink", own(lambda r: r.uplink_bytes), lambda r: r.uplink_bytes),
        Column(
            "downlink_bytes",
            "downlink",
            own(lambda r: r.downlink_bytes),
            lambda r: r.downlink_bytes,
        ),
        Column("total_bytes", "total bytes", own(lambda r: r.total_bytes), lambda r: r.total_bytes),
        Column(
            "total_ratio",
            f"total / {baseline}",
            lambda r: ratio_text(r.ratio and r.ratio.mean),
            lambda r: r.ratio and r.ratio.mean,
        ),
        Column("bytes_to_target", "bytes to target", to_target_text, lambda r: r.bytes_to_target),
        Column(
            "target_ratio",
            f"to target / {baseline}",
            lambda r: ratio_text(r.ratio_at_target and r.ratio_at_target.mean),
            lambda r: r.ratio_at_target and r.ratio_at_target.mean,
        ),
    )


def table_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV: shares and exact byte counts, intervals in columns of their own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_HEADINGS)
    writer.writerows([_csv_value(value) for value in _csv_row(row)] for row in rows)
    return out.getvalue()


_CSV_HEADINGS = (
    "method",
    "seeds",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "density",
    "density_all_parameters",
    "uplink_bytes",
    "downlink_bytes",
    "total_bytes",
    "total_ratio",
    "total_ratio_low",
    "total_ratio_high",
    "target_accuracy",
    "seeds_reaching_target",
    "bytes_to_target",
    "target_ratio",
    "target_ratio_low",
    "target_ratio_high",
    "pareto",
)


def _csv_row(row: Row) -> tuple[object, ...]:
    return (
        row.method,
        " ".join(map(str, row.seeds)),
        *_ends(row.accuracy),
        row.density,
        row.density_all_parameters,
        row.uplink_bytes,
        row.downlink_bytes,
        row.total_bytes,
        *_ends(row.ratio),
        row.target,
        "" if row.ceiling or row.target is None else row.reached,
        row.bytes_to_target,
        *_ends(row.ratio_at_target),
        "" if row.ceiling else int(row.on_front),
    )


def _ends(estimate: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (estimate.mean, estimate.low, estimate.high) if estimate else (None, None, None)


def _csv_value(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) >= 1000 else f"{value:.9g}"
    return value


_TEX = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
}


def table_tex(rows: Sequence[Row], baseline: str = "fedavg") -> str:
    """Return the rows as a LaTeX ``tabular`` (needs the package booktabs)."""
    shown = columns(baseline)
    lines = [
        r"\begin{tabular}{l" + "r" * (len(shown) - 1) + "}",
        r"\toprule",
        " & ".join(_tex(column.heading) for column in shown) + r" \\",
        r"\midrule",
        *(" & ".join(_tex(column.text(row)) for column in shown) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def table_text(rows: Sequence[Row], baseline: str = "fedavg") -> Table:
    """Return the rows as a rich table for the terminal, narrow enough for 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    shown = [column for column in columns(baseline) if column.key != "seeds"]
    for column in shown:
        first = column.key == "method"
        heading = _SHORT.get(column.key, column.heading).replace("BASELINE", baseline)
        table.add_column(heading, justify="left" if first else "right", no_wrap=not first)
    for row in rows:
        table.add_row(*(_short(column.text(row)) for column in shown))
    most = max(len(row.seeds) for row in rows)
    if most > 1:
        table.caption = f"Mean over {most} seeds, ± 95 % interval."
        table.caption_justify = "left"
    return table


_SHORT = {
    "test_accuracy": "test\nacc. %",
    "uplink_bytes": "up",
    "downlink_bytes": "down",
    "total_bytes": "total",
    "total_ratio": "total\n/BASELINE",
    "bytes_to_target": "to\ntarget",
    "target_ratio": "target\n/BASELINE",
}


def _short(text: str) -> str:
    text = text.removesuffix(" %").removesuffix(" seeds").replace(" ± ", "±")
    return "missed" if text == "not reached" else text
