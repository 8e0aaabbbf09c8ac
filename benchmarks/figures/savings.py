"""Bytes to the target as bars, and the steps that lead from the baseline's to the method's."""

from __future__ import annotations

from typing import Any

from benchmarks.figures.groups import Panel
from benchmarks.figures.palette import BLUE, INK, MUTED, VERMILION
from benchmarks.figures.style import (
    Picture,
    Spot,
    byte_axis,
    name_in,
    new_figure,
    picture,
    row_height,
    row_names,
    styled,
    where,
)
from benchmarks.results.ladder import Ladder, Rung
from benchmarks.results.rows import Row
from benchmarks.units import bytes_text, fewer_ends, fewer_text, percent_text


@styled
def target_bars(panel: Panel, baseline: str) -> Picture | None:
    """Draw what each method needs to the target, fewest first; None where none reaches it."""
    rows = [row for row in panel.rows if not row.ceiling and not row.failed and row.target]
    rows.sort(key=lambda row: (row.bytes_to_target is None, row.bytes_to_target or 0))
    spent = [row.bytes_to_target for row in rows if row.bytes_to_target]
    if not spent or len(rows) < 2:
        return None
    colors = {group.name: group.style.color for group in panel.groups}
    figure, axes = new_figure(0.65 + row_height([row.variant for row in rows], 0.24))
    low = min(spent) / 2.2
    axes.set(xscale="log", xlim=(low, max(spent) * 12))
    for place, row in enumerate(rows):
        if row.bytes_to_target is None:
            axes.text(low * 1.1, place, f"misses it ({_reached(row)})", va="center", fontsize=6.5)
            continue
        width = row.bytes_to_target - low
        axes.barh(place, width, left=low, height=0.6, color=colors[row.variant], lw=0)
        axes.annotate(
            _worth(row, baseline),
            (row.bytes_to_target, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
        )
    byte_axis(axes.xaxis)
    axes.set_xlabel("bytes to the target (log scale)")
    row_names(axes, [row.variant for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    target = percent_text(rows[0].target, 1)
    held = "validation" if panel.by_validation else "test"
    words = "; ".join(
        f"{row.variant} "
        + (bytes_text(row.bytes_to_target) if row.bytes_to_target else "misses it")
        for row in rows
    )
    return picture(
        figure,
        name_in("bytes_to_target", panel.setting),
        f"Bytes to the target{where(panel.setting)}",
        f"All bytes until the {held} accuracy first reaches {target}, mean over seeds. Log scale: "
        "the bars' ends compare, their lengths do not.",
        f"Bars of bytes to the target of {target}{where(panel.setting)}: {words}.",
        [
            Spot(axes, row.bytes_to_target, place, f"{row.variant}: {_told(row, baseline)}")
            for place, row in enumerate(rows)
            if row.bytes_to_target
        ],
    )


def _reached(row: Row) -> str:
    return f"{row.reached} of {row.judged} seeds reach it" if row.reached else "every seed"


def _worth(row: Row, baseline: str) -> str:
    if row.label == baseline or row.ratio_at_target is None:
        return bytes_text(row.bytes_to_target)
    return f"{bytes_text(row.bytes_to_target)}, {fewer_text(row.ratio_at_target.mean)}"


def _told(row: Row, baseline: str) -> str:
    ratio = row.ratio_at_target
    ends = fewer_ends(ratio.low, ratio.mean, ratio.high) if ratio else ""
    return f"{_worth(row, baseline)} {ends}".strip()


@styled
def waterfall(ladder: Ladder) -> Picture:
    """Draw the bytes that each step saves, from the first to the last, on a log axis."""
    names = [f"{rung.step}: {rung.label}" for rung in ladder.rungs]
    figure, axes = new_figure(0.65 + row_height(names, 0.3))
    spent = [rung.bytes.mean for rung in ladder.rungs]
    low, high = min(spent) / 2.2, max(spent) * 4
    axes.set(xscale="log", xlim=(low, high))
    before: Rung | None = None
    for place, rung in enumerate(ladder.rungs):
        _step(axes, place, before, rung, low)
        before = rung
    byte_axis(axes.xaxis)
    axes.set_xlabel("bytes to the target (log scale)")
    row_names(axes, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    seeds = ladder.rungs[0].bytes.count
    return picture(
        figure,
        name_in("waterfall", ladder.setting),
        f"What saves the bytes{where(ladder.setting)}",
        f"{ladder.product}. Bytes to {percent_text(ladder.target, 1)}, log scale; each bar is what "
        "a step takes away from the one above, so that equal lengths are equal factors. "
        + (f"Whiskers: 95 % t-interval over {seeds} seeds." if seeds > 1 else "One seed."),
        f"Waterfall of bytes to the target{where(ladder.setting)}: "
        + "; ".join(f"{rung.label} {bytes_text(rung.bytes.mean)}" for rung in ladder.rungs)
        + f". {ladder.product}.",
        [
            Spot(axes, rung.bytes.mean, place, _rung_words(rung))
            for place, rung in enumerate(ladder.rungs)
        ],
    )


def _step(axes: Any, place: int, before: Rung | None, rung: Rung, low: float) -> None:
    """Draw one row: the first from the left edge, others as what they take away or add."""
    end = rung.bytes.mean
    start = low if before is None else before.bytes.mean
    color = MUTED if before is None else (BLUE if end <= start else VERMILION)
    axes.barh(place, abs(end - start), left=min(start, end), height=0.55, color=color, lw=0)
    if before is not None:
        axes.plot([start, start], [place - 1, place], color=MUTED, lw=0.6, zorder=1)
    if rung.bytes.low is not None and rung.bytes.high is not None:
        axes.plot([max(rung.bytes.low, low), rung.bytes.high], [place] * 2, color=INK, lw=0.9)
    text = bytes_text(end)
    if rung.ratio is not None:
        text = f"{fewer_text(rung.ratio.mean)} = {text}"
    right = max(start, end, rung.bytes.high or 0.0)
    look = {"textcoords": "offset points", "va": "center", "fontsize": 6.5}
    axes.annotate(text, (right, place), (4, 0), **look)


def _rung_words(rung: Rung) -> str:
    spread = rung.bytes
    ends = "" if spread.low is None else f" [{bytes_text(spread.low)}, {bytes_text(spread.high)}]"
    saved = "" if rung.ratio is None else f", {fewer_text(rung.ratio.mean)} than the step before"
    return f"{rung.step} ({rung.label}): {bytes_text(spread.mean)}{ends}{saved}"
