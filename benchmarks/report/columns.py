"""The columns of the comparison table: what they hold, how it reads, what is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from operator import attrgetter
from typing import Any

from benchmarks.results.measures import Estimate
from benchmarks.results.rows import Row
from benchmarks.results.targets import Reach
from benchmarks.units import bytes_text, fewer_ends, fewer_text, percent_text, ratio_text


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
    better
        1 where more is better, -1 where less is: the best of a setting stands out.
    """

    csv: str
    value: Callable[[Row], Any]
    heading: str = ""
    short: str = ""
    text: Callable[[Any, Row], str] = lambda value, row: str(value)
    ends: bool = False
    small: Callable[[Any], str] = lambda value: ""
    better: int = 0


def columns(baseline: str) -> tuple[Column, ...]:
    """Return the table's columns; some headings name the baseline."""
    own = attrgetter

    def ratio(csv: str, value: str, heading: str, short: str = "") -> Column:
        def text(found: Estimate | None, row: Row) -> str:
            return "–" if found is None or row.label == baseline else fewer_text(found.mean)

        title = f"{heading}, against {baseline}"
        return Column(csv, own(value), title, short, text, True, ratio_ends)

    return (
        Column("method", own("method"), "method", "method"),
        Column("setting", own("setting")),
        Column("seeds", own("seeds"), "seeds", "", lambda seeds, row: str(len(seeds))),
        Column(
            "test_accuracy",
            own("accuracy"),
            "test accuracy",
            "test\nacc. %",
            _accuracy,
            True,
            better=1,
        ),
        Column(
            "density", own("density"), "density", "density", lambda share, row: ratio_text(share)
        ),
        Column("density_all_parameters", own("density_all_parameters")),
        Column("uplink_bytes", own("uplink_bytes"), "uplink", "", _sent, better=-1),
        Column("downlink_bytes", own("downlink_bytes"), "downlink", "", _sent, better=-1),
        Column("total_bytes", own("total_bytes"), "total bytes", "total", _sent, better=-1),
        Column(
            "uplink_bits_per_parameter",
            own("uplink_bits"),
            "bits / parameter, up",
            "bits\nup",
            _bits,
            better=-1,
        ),
        Column(
            "downlink_bits_per_parameter",
            own("downlink_bits"),
            "bits / parameter, down",
            "bits\ndown",
            _bits,
            better=-1,
        ),
        ratio("total_ratio", "ratio", "total", "total\nfewer"),
        Column(
            "total_bytes_with_transport",
            own("transport_bytes"),
            "total with transport",
            "",
            _sent,
            better=-1,
        ),
        ratio("total_ratio_with_transport", "transport_ratio", "with transport"),
        Column("target_accuracy", own("target")),
        Column("seeds_reaching_target", _seeds_reaching),
        Column(
            "bytes_to_target",
            own("bytes_to_target"),
            "bytes to target",
            "to\ntarget",
            _spent,
            better=-1,
        ),
        ratio("target_ratio", "ratio_at_target", "to target", "target\nfewer"),
        Column("baseline_accuracy", lambda row: row.reach_at(0.0).target),
        Column("bytes_to_baseline_accuracy", lambda row: row.reach_at(0.0).bytes_to_target),
        Column("baseline_accuracy_ratio", lambda row: row.reach_at(0.0).ratio, ends=True),
        Column("best_baseline", lambda row: _main_reach(row).best),
        Column("target_ratio_to_best", lambda row: _main_reach(row).best_ratio, ends=True),
        Column("pareto", lambda row: None if row.ceiling or row.failed else int(row.on_front)),
        Column("failed", own("failed")),
    )


def _main_reach(row: Row) -> Reach:
    """Return what was needed for the target of the table."""
    return next((r for r in row.reaches if r.target == row.target), Reach(0.0))


def best_of(column: Column, rows: Sequence[Row]) -> frozenset[str]:
    """Return the methods with the best value of a setting's rows; none where all are alike.

    References that send nothing and rows with a failure are not compared.
    """
    rivals = [row for row in rows if not row.ceiling and not row.failed]
    if not column.better:
        return frozenset()
    known = {row.method: column.better * _number(column.value(row)) for row in rivals}
    able = {name: value for name, value in known.items() if not isnan(value)}
    top = max(able.values(), default=0.0)
    found = frozenset(name for name, value in able.items() if value == top)
    return found if len(found) < len(able) else frozenset()


def _number(value: Any) -> float:
    if isinstance(value, Estimate):
        return value.mean
    return nan if value is None else float(value)


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


def ratio_ends(ratio: Estimate | None) -> str:
    """Return the ends of a ratio's interval, unless it is too narrow to be seen."""
    return fewer_ends(ratio.low, ratio.mean, ratio.high) if ratio else ""


def _bits(bits: float | None, row: Row) -> str:
    return bits_text(bits)


def bits_text(bits: float | None) -> str:
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
        return missed_text(row.reached, row.judged)
    return bytes_text(count)


def missed_text(reached: int, judged: int) -> str:
    """Say of a target that not every seed reaches how many of those that have one do."""
    if not judged:
        return "–"
    return f"{reached} of {judged} seeds" if reached else "not reached"


def _seeds_reaching(row: Row) -> int | None:
    return None if row.ceiling or row.failed or row.target is None else row.reached
