"""The main figure: test error against bytes, both on log axes, one small panel a setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from benchmarks.figures.groups import Group, Panel
from benchmarks.figures.labels import End, label_ends, label_level
from benchmarks.figures.palette import INK, MUTED
from benchmarks.figures.style import (
    COLUMN,
    Picture,
    Spot,
    byte_axis,
    draw_line,
    name_in,
    new_figure,
    picture,
    settle,
    styled,
    where,
)
from benchmarks.units import bytes_text, percent_text

_FAR = 4.0
"""A method that ends with this many times the error of the best is above the panel."""


@dataclass(frozen=True)
class Dot:
    """Where a tuning trial of a method or variant ended."""

    label: str
    bytes: float
    error: float


@dataclass(frozen=True)
class Range:
    """What a panel shows: errors and bytes from low to high."""

    errors: tuple[float, float]
    bytes: tuple[float, float]


@styled
def draw_errors(panels: Sequence[Panel]) -> Figure | None:
    """Draw all settings side by side, three in a row; None where nothing is sent."""
    shown = [panel for panel in panels if _sending(panel)]
    if not shown:
        return None
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(2.6 * rows, COLUMN * columns, rows, columns)
    every = list(np.ravel(axes))
    for place, panel in zip(every, shown, strict=False):
        _draw(place, panel, [])
        place.set_title(panel.setting, loc="left")
    for place in every[len(shown) :]:
        place.set_axis_off()
    settle(figure)
    for place, panel in zip(every, shown, strict=False):
        _label(place, panel)
    return figure


@styled
def error_picture(panel: Panel, trials: Sequence[Dot] = ()) -> Picture | None:
    """Draw one setting; None where nothing is sent."""
    sending = _sending(panel)
    if not sending:
        return None
    figure, axes = new_figure(2.6)
    _draw(axes, panel, trials)
    settle(figure)
    _label(axes, panel)
    top = axes.get_ylim()[1]
    absent = [g.name for g in sending if _error(g.curve[-1].accuracy.mean, g) > top]
    place = where(panel.setting)
    words = "; ".join(
        f"{g.name} ends at {percent_text(g.curve[-1].accuracy.mean, 1)} with "
        f"{bytes_text(g.curve[-1].total_bytes)}"
        for g in sending
    )
    return picture(
        figure,
        name_in("error_bytes", panel.setting),
        f"Test error against total bytes{place}",
        f"Log scales{_cut_words(panel)}. {_seeds_words(sending)}"
        + _targets_words(panel)
        + (" Dashed: sends nothing." if len(sending) < len(panel.groups) else "")
        + (" Faint dots: ends of tuning trials, on validation samples." if trials else "")
        + (f" Above the panel: {', '.join(absent)}." if absent else ""),
        f"Curves of test error over total bytes{place}: {words}.",
        [spot for group in sending for spot in _spots(axes, group)],
    )


def _sending(panel: Panel) -> list[Group]:
    return [group for group in panel.groups if group.curve and not group.is_ceiling]


def _cut_words(panel: Panel) -> str:
    return ", cut where the methods part" if len(panel.groups) > 1 else ""


def _seeds_words(groups: Sequence[Group]) -> str:
    most = max(len(group.runs) for group in groups)
    return "One seed." if most == 1 else f"Thick: mean over seeds ({most}); thin: each seed."


def _targets_words(panel: Panel) -> str:
    if not _targets(panel):
        return ""
    others = ", of validation samples, not of these" if panel.by_validation else ""
    return f" Dotted: the targets{others}."


def _error(accuracy: float, group: Group) -> float:
    """Return an error that a log axis can show: one of nothing counts as half a sample."""
    known = group.runs[0].summary.test_predictions
    return max(1 - accuracy, 0.5 / (known or 10_000))


def _targets(panel: Panel) -> list[tuple[float, float]]:
    """Return (margin, error) of the targets that are drawn: as asked, and without a margin."""
    known = [row for row in panel.rows if row.target is not None and row.reaches]
    if not known:
        return []
    found = {reach.margin: reach.target for reach in known[0].reaches if reach.target is not None}
    asked = next(m for m, target in found.items() if target == known[0].target)
    return [(margin, 1 - found[margin]) for margin in dict.fromkeys((asked, 0.0))]


def shown_range(panel: Panel) -> Range:
    """Return the errors and bytes between which the methods of a panel differ.

    Errors: from below the best end or target to above the worst end, with room in proportion to
    what lies between them, so that methods which end within two points fill the panel like
    others. Whatever ends far above (`_FAR` times the best) is left out.
    """
    if len(panel.groups) == 1:
        return _whole(panel.groups[0])
    ends = [_error(g.curve[-1].accuracy.mean, g) for g in panel.groups if g.curve]
    near = [error for error in ends if error <= _FAR * min(ends)]
    near += [error for _, error in _targets(panel) if 0 < error <= _FAR * min(ends)]
    best, worst = min(near), max(near)
    between = max(math.log(worst / best), 0.05)
    low, high = best * math.exp(-0.35 * between), min(1.0, worst * math.exp(1.1 * between))
    seen = [
        point.total_bytes
        for group in _sending(panel)
        for point in group.curve
        if _error(point.accuracy.mean, group) <= high
    ] or [group.curve[-1].total_bytes for group in _sending(panel)]
    room = max(0.12 * math.log(max(seen) / min(seen)), 0.3)
    return Range((low, high), (min(seen) * math.exp(-room), max(seen) * math.exp(2 * room)))


def _whole(group: Group) -> Range:
    """Return all of a single curve."""
    errors = [_error(point.accuracy.mean, group) for point in group.curve]
    spent = [point.total_bytes for point in group.curve]
    return Range((0.8 * min(errors), min(1.0, 1.1 * max(errors))), (min(spent) / 2, 2 * max(spent)))


def _draw(axes: Any, panel: Panel, trials: Sequence[Dot]) -> None:
    """Draw the lines of a panel, its targets and the trials, and frame what differs."""
    shown = shown_range(panel)
    axes.set(xscale="log", yscale="log", xlim=shown.bytes, ylim=shown.errors)
    for group in panel.groups:
        if not group.curve:
            continue
        if group.is_ceiling:
            error = _error(group.curve[-1].accuracy.mean, group)
            axes.axhline(error, color=MUTED, ls="--", lw=0.9, zorder=2.1)
        else:
            _draw_group(axes, group)
    colors = {group.runs[0].label: group.style.color for group in panel.groups}
    for dot in trials:
        color = colors.get(dot.label, MUTED)
        look = {"color": color, "marker": "o", "ms": 2.8, "mew": 0, "alpha": 0.45, "ls": ""}
        axes.plot([dot.bytes], [dot.error], zorder=1.5, **look)
    for _, error in _targets(panel):
        axes.axhline(error, color=INK, ls=":", lw=0.9, zorder=2)
    axes.set(xlabel="total bytes, up + down (log scale)", ylabel="test error (%, log scale)")
    byte_axis(axes.xaxis)
    _error_ticks(axes)


def _draw_group(axes: Any, group: Group) -> None:
    """Draw the mean, and thinly each seed where there are several."""
    x = [point.total_bytes for point in group.curve]
    y = [_error(point.accuracy.mean, group) for point in group.curve]
    every = max(1, len(x) // 6)
    marked = (len(x) - 1) % every, every
    draw_line(axes, x, y, group.style, label=group.name, zorder=3, markevery=marked)
    for run in group.runs if len(group.runs) > 1 else ():
        own = [(n.total_bytes, _error(n.test_accuracy or 0.0, group)) for n in run.evaluated]
        axes.plot(*zip(*own, strict=True), color=group.style.color, lw=0.5, alpha=0.35, zorder=2)


def _error_ticks(axes: Any) -> None:
    """Put four to eight ticks at round errors, however narrow the range is."""
    low, high = axes.get_ylim()
    steps: list[tuple[float, ...]] = [(1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)]
    for heads in steps:
        ticks = [h * 10.0**e for e in range(-6, 1) for h in heads if low <= h * 10.0**e <= high]
        if len(ticks) >= 4:
            break
    else:
        ticks = [t for t in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if t > 0]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def _label(axes: Any, panel: Panel) -> None:
    """Name the targets at the left and every line at its end."""
    low, high = axes.get_ylim()
    for margin, error in _targets(panel):
        if low < error < high:
            less = f"−{100 * margin:g} points" if margin else "no margin"
            label_level(axes, error, f"target {percent_text(1 - error, 1)} ({less})")
    ends = []
    for group in panel.groups:
        at = group.curve[-1] if group.curve else None
        y = _error(at.accuracy.mean, group) if at else math.inf
        if at is None or not low <= y <= high:
            continue
        if group.is_ceiling:
            label_level(axes, y, group.name)
        else:
            ends.append(End(at.total_bytes, y, group.name, group.style.color, group.style.marker))
    label_ends(axes, ends)


def _spots(axes: Any, group: Group) -> list[Spot]:
    seeds = f", mean over {len(group.runs)} seeds" if len(group.runs) > 1 else ""
    return [
        Spot(
            axes,
            point.total_bytes,
            _error(point.accuracy.mean, group),
            f"{group.name}, round {point.round}: {percent_text(point.accuracy.mean)} right with "
            f"{bytes_text(point.total_bytes)}{seeds}",
        )
        for point in group.curve
    ]
