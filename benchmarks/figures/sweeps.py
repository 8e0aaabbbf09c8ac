"""What a swept key does: accuracy and bytes over its values, one line per method."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.figures.groups import without_idle_keys
from benchmarks.figures.style import (
    MUTED,
    Picture,
    Style,
    byte_axis,
    legend_below,
    method_styles,
    new_figure,
    percent_axis,
    picture,
    styled,
    variant,
)
from benchmarks.results.measures import final_accuracy, group_runs, mean_interval
from benchmarks.results.rundata import RunData
from benchmarks.units import bytes_text, percent_text

_CLOSE = 0.09
"""Ticks closer than this share of the axis share one label."""


@dataclass(frozen=True)
class _Point:
    """One swept value, and what each seed measured there."""

    value: Any
    accuracies: Sequence[float]
    bytes: Sequence[int]


@dataclass(frozen=True)
class _Line:
    """One method, all other swept keys fixed."""

    name: str
    style: Style
    points: Sequence[_Point]
    is_ceiling: bool


def sweep_pictures(runs: Sequence[RunData], baseline: str) -> list[Picture]:
    """Return a figure for every key that has at least two values in these runs."""
    made = (_sweep_picture(key, runs, baseline) for key in _swept_keys(runs))
    return [item for item in made if item is not None]


def _swept_keys(runs: Sequence[RunData]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.sweep)
    return [key for key in keys if len({str(r.sweep[key]) for r in runs if key in r.sweep}) > 1]


@styled
def _sweep_picture(key: str, runs: Sequence[RunData], baseline: str) -> Picture | None:
    lines = _lines(key, [run for run in runs if key in run.sweep], baseline)
    values = sorted({point.value for line in lines for point in line.points}, key=_order)
    places = _places(values)
    figure, axes = new_figure(4.9, rows=2, sharex=True)
    accuracy, cost = axes[0, 0], axes[1, 0]
    numeric = all(map(_is_number, values))
    for index, line in enumerate(lines):
        nudge = 0.0 if numeric else 0.5 * ((index + 0.5) / len(lines) - 0.5)
        x = [places[str(point.value)] + nudge for point in line.points]
        _draw(accuracy, x, [point.accuracies for point in line.points], line, numeric)
        if not line.is_ceiling:
            _draw(cost, x, [point.bytes for point in line.points], line, numeric)
    accuracy.set_ylabel("final test accuracy (%)")
    cut = _cut_axis(accuracy)
    percent_axis(accuracy.yaxis)
    cost.set_ylabel("total bytes (log scale)")
    if all(line.is_ceiling for line in lines):
        cost.set_visible(False)
    else:
        byte_axis(cost.yaxis)
    logarithmic = _ticks(cost, values, places)
    cost.set_xlabel(key + (" (log scale)" if logarithmic else ""))
    figure.align_ylabels()
    legend_below(figure, accuracy)
    return picture(
        figure,
        f"sweep_{re.sub(r'[^A-Za-z0-9]+', '_', key)}",
        f"Accuracy and bytes against {key}",
        f"Above: test accuracy at the end{cut}. Below: bytes of all messages (log scale). "
        f"{_interval_words(lines, numeric)}{_ceiling_words(lines)}",
        f"Final test accuracy and total bytes over {key}. " + "; ".join(map(_words, lines)) + ".",
    )


def _cut_axis(axes: Any) -> str:
    """Show accuracies from 0, or only their range where it is narrow; returns words about it."""
    low, high = axes.dataLim.intervaly
    if low < 0.6 * high:
        axes.set_ylim(0, min(1.03, 1.08 * high))
        return ""
    room = max(0.01, 0.15 * (high - low))
    axes.set_ylim(low - room, high + room)
    return " (the axis does not start at 0)"


def _lines(key: str, runs: Sequence[RunData], baseline: str) -> list[_Line]:
    """Return the lines in order of method, each method's own together."""
    styles = method_styles((run.label for run in runs), baseline)
    found: dict[tuple[str, str], list[_Point]] = {}
    ceilings: dict[tuple[str, str], bool] = {}
    for group in group_runs(without_idle_keys(runs, but=key)).values():
        first = group[0]
        rest = {name: value for name, value in first.sweep.items() if name != key}
        name = " ".join([first.label, *(f"{k.rpartition('.')[2]}={v}" for k, v in rest.items())])
        line = (first.label, name)
        accuracies, sent = map(final_accuracy, group), [run.total_bytes for run in group]
        point = _Point(first.sweep[key], list(accuracies), sent)
        found.setdefault(line, []).append(point)
        ceilings[line] = all(run.is_ceiling for run in group)
    result = []
    for label, members in itertools.groupby(sorted(found, key=_reading_order), lambda m: m[0]):
        for index, line in enumerate(members):
            points = sorted(found[line], key=lambda point: _order(point.value))
            result.append(_Line(line[1], variant(styles[label], index), points, ceilings[line]))
    return sorted(result, key=lambda line: line.is_ceiling)


def _reading_order(line: tuple[str, str]) -> tuple[str, list[Any]]:
    """Sort numbers inside names as numbers."""
    parts = re.split(r"(\d+(?:\.\d+)?)", line[1])
    return line[0], [(0, float(p), "") if i % 2 else (1, 0.0, p) for i, p in enumerate(parts)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if _is_number(value) else (True, 0.0, str(value))


def _places(values: Sequence[Any]) -> Mapping[str, float]:
    """Return where values are drawn: numbers at themselves, anything else side by side."""
    numeric = all(map(_is_number, values))
    return {str(v): float(v) if numeric else float(i) for i, v in enumerate(values)}


def _draw(
    axes: Any, x: Sequence[float], seeds: Sequence[Sequence[float]], line: _Line, numeric: bool
) -> None:
    """Draw the means and their intervals; each seed where two are too few for an interval."""
    style, estimates = line.style, [mean_interval(values) for values in seeds]
    axes.plot(
        x,
        [estimate.mean for estimate in estimates],
        color=MUTED if line.is_ceiling else style.color,
        marker=style.marker,
        ls=style.line if numeric else "",
        label=line.name,
        zorder=3,
    )
    for place, values in zip(x, seeds, strict=True):
        if len(values) == 2:
            axes.plot([place] * 2, values, color=style.color, marker=".", ls="", ms=4, alpha=0.7)
    if any(len(values) < 3 for values in seeds):
        return
    # A bound of nothing or less has no place on a log axis.
    low = [max(e.low or 0.0, 0.01 * e.mean) for e in estimates]
    high = [e.high or e.mean for e in estimates]
    if numeric:
        axes.fill_between(x, low, high, color=style.color, alpha=0.16, lw=0, zorder=2)
    else:
        axes.vlines(x, low, high, color=style.color, lw=1.4, zorder=2)


def _ticks(axes: Any, values: Sequence[Any], places: Mapping[str, float]) -> bool:
    """Put a tick at every value, labelled where there is room; returns whether in log scale."""
    where = [places[str(value)] for value in values]
    logarithmic = all(map(_is_number, values)) and min(where) > 0 and max(where) / min(where) >= 5
    if logarithmic:
        axes.set_xscale("log")
    scaled = [math.log(place) for place in where] if logarithmic else where
    room = _CLOSE * (scaled[-1] - scaled[0]) * (all(map(_is_number, values)))
    labels, last = [], -math.inf
    for value, place in zip(values, scaled, strict=True):
        shown = place - last >= room
        labels.append(_value_text(value) if shown else "")
        last = place if shown else last
    axes.set_xticks(where, labels)
    axes.set_xticks([], minor=True)
    if sum(map(len, labels)) > 50:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    return logarithmic


def _value_text(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else str(value)


def _interval_words(lines: Sequence[_Line], numeric: bool) -> str:
    counts = {len(point.accuracies) for line in lines for point in line.points}
    if max(counts) == 1:
        return "One seed."
    if max(counts) == 2:
        return "Mean of two seeds; dots: each seed."
    shape = "band" if numeric else "bar"
    return f"Mean over seeds ({max(counts)}); {shape}: 95 % t-interval."


def _ceiling_words(lines: Sequence[_Line]) -> str:
    names = [line.name for line in lines if line.is_ceiling]
    return f" {', '.join(names)}: a reference that sends nothing." if names else ""


def _words(line: _Line) -> str:
    parts = (
        f"{_value_text(point.value)}: {percent_text(fmean(point.accuracies), 1)}"
        + ("" if line.is_ceiling else f" for {bytes_text(fmean(point.bytes))}")
        for point in line.points
    )
    return f"{line.name}: " + ", ".join(parts)
