"""What a swept number does: accuracy and bytes over its values, one line per method.

A key whose values are words is no scale: these are variants, or settings with panels of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.figures.palette import MUTED, Style, variant_styles
from benchmarks.figures.style import (
    Picture,
    byte_axis,
    legend_below,
    new_figure,
    percent_axis,
    picture,
    styled,
)
from benchmarks.results.measures import final_accuracy, group_runs, mean_interval
from benchmarks.results.rundata import RunData, run_name
from benchmarks.results.settings import reading_order, without_idle_keys
from benchmarks.units import bytes_text, percent_text

_CLOSE = 0.09
"""Ticks closer than this share of the axis share one label."""


@dataclass(frozen=True)
class _Point:
    """One swept value, and what each seed measured there."""

    value: float
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
    """Return a figure for every key with at least two values in these runs, all of them numbers."""
    made = (_sweep_picture(key, runs, baseline) for key in _swept_keys(runs))
    return [item for item in made if item is not None]


def _swept_keys(runs: Sequence[RunData]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.sweep)
    values = {
        key: {str(r.sweep[key]): r.sweep[key] for r in runs if key in r.sweep} for key in keys
    }
    return [key for key, n in values.items() if len(n) > 1 and all(map(_is_number, n.values()))]


@styled
def _sweep_picture(key: str, runs: Sequence[RunData], baseline: str) -> Picture | None:
    lines = _lines(key, [run for run in runs if key in run.sweep], baseline)
    values = sorted({point.value for line in lines for point in line.points})
    figure, axes = new_figure(3.9, rows=2, sharex=True)
    accuracy, cost = axes[0, 0], axes[1, 0]
    for line in lines:
        _draw(accuracy, [point.accuracies for point in line.points], line)
        if not line.is_ceiling:
            _draw(cost, [point.bytes for point in line.points], line)
    accuracy.set_ylabel("final test accuracy (%)")
    cut = _cut_axis(accuracy)
    percent_axis(accuracy.yaxis)
    cost.set_ylabel("total bytes (log scale)")
    if all(line.is_ceiling for line in lines):
        cost.set_visible(False)
    else:
        byte_axis(cost.yaxis)
    logarithmic = _ticks(cost, values)
    cost.set_xlabel(key + (" (log scale)" if logarithmic else ""))
    figure.align_ylabels()
    legend_below(figure, accuracy)
    return picture(
        figure,
        f"sweep_{re.sub(r'[^A-Za-z0-9]+', '_', key)}",
        f"Accuracy and bytes against {key}",
        f"Above: test accuracy at the end{cut}. Below: bytes of all messages (log scale). "
        f"{_interval_words(lines)}{_ceiling_words(lines)}",
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
    found: dict[str, list[Sequence[RunData]]] = {}
    for group in group_runs(without_idle_keys(runs, but=key)).values():
        rest = {name: value for name, value in group[0].sweep.items() if name != key}
        found.setdefault(run_name(group[0].label, rest), []).append(group)
    styles = variant_styles({name: of[0][0].label for name, of in found.items()}, baseline)
    lines = [
        _Line(
            name,
            styles[name],
            sorted((_point(key, group) for group in groups), key=lambda point: point.value),
            all(run.is_ceiling for group in groups for run in group),
        )
        for name, groups in sorted(found.items(), key=lambda item: reading_order(item[0]))
    ]
    return sorted(lines, key=lambda line: line.is_ceiling)


def _point(key: str, group: Sequence[RunData]) -> _Point:
    sent = [run.total_bytes for run in group]
    return _Point(group[0].sweep[key], [final_accuracy(run) for run in group], sent)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(axes: Any, seeds: Sequence[Sequence[float]], line: _Line) -> None:
    """Draw the means and their intervals; each seed where two are too few for an interval."""
    x = [point.value for point in line.points]
    style, estimates = line.style, [mean_interval(values) for values in seeds]
    axes.plot(
        x,
        [estimate.mean for estimate in estimates],
        color=MUTED if line.is_ceiling else style.color,
        marker=style.marker,
        ls=style.line,
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
    axes.fill_between(x, low, high, color=style.color, alpha=0.16, lw=0, zorder=2)


def _ticks(axes: Any, values: Sequence[float]) -> bool:
    """Put a tick at every value, labelled where there is room; returns whether in log scale."""
    logarithmic = values[0] > 0 and values[-1] / values[0] >= 5
    if logarithmic:
        axes.set_xscale("log")
    scaled = [math.log(value) for value in values] if logarithmic else list(values)
    room = _CLOSE * (scaled[-1] - scaled[0])
    labels, last = [], -math.inf
    for value, place in zip(values, scaled, strict=True):
        shown = place - last >= room
        labels.append(f"{value:g}" if shown else "")
        last = place if shown else last
    axes.set_xticks(values, labels)
    axes.set_xticks([], minor=True)
    return logarithmic


def _interval_words(lines: Sequence[_Line]) -> str:
    counts = {len(point.accuracies) for line in lines for point in line.points}
    if max(counts) == 1:
        return "One seed."
    if max(counts) == 2:
        return "Mean of two seeds; dots: each seed."
    return f"Mean over seeds ({max(counts)}); band: 95 % t-interval."


def _ceiling_words(lines: Sequence[_Line]) -> str:
    names = [line.name for line in lines if line.is_ceiling]
    return f" {', '.join(names)}: a reference that sends nothing." if names else ""


def _words(line: _Line) -> str:
    parts = (
        f"{point.value:g}: {percent_text(fmean(point.accuracies), 1)}"
        + ("" if line.is_ceiling else f" for {bytes_text(fmean(point.bytes))}")
        for point in line.points
    )
    return f"{line.name}: " + ", ".join(parts)
