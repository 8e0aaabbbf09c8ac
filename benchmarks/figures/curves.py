"""Curves that compare methods: accuracy against bytes and rounds, density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.figures.groups import Group
from benchmarks.figures.style import (
    INK,
    MUTED,
    Picture,
    byte_axis,
    draw_line,
    drawn,
    legend_below,
    log_share_axis,
    new_figure,
    percent_axis,
    picture,
    round_axis,
    styled,
)
from benchmarks.results.measures import Tested, pareto_front
from benchmarks.results.rows import Row
from benchmarks.units import bytes_text, percent_text


def common_target(rows: Sequence[Row]) -> float | None:
    """Return the target accuracy where all rows of a comparison share it."""
    targets = {round(row.target, 9) for row in rows if row.target is not None}
    return targets.pop() if len(targets) == 1 and len(rows) > 1 else None


def curve_pictures(groups: Sequence[Group], target: float | None = None) -> list[Picture]:
    """Return the figures on accuracy and density that these groups have data for."""
    return drawn(
        accuracy_against_bytes(groups, target),
        accuracy_zoom(groups, target),
        accuracy_per_round(groups),
        density_per_round(groups),
    )


def _interval_words(groups: Sequence[Group]) -> str:
    counts = [len(group.runs) for group in groups]
    if max(counts) == 1:
        return "One seed per method."
    if max(counts) == 2:
        return "Line: mean of two seeds; thin lines: each seed."
    return f"Line: mean over seeds ({max(counts)}); band: 95 % t-interval."


@styled
def draw_accuracy_against_bytes(
    groups: Sequence[Group], target: float | None = None
) -> Figure | None:
    """Draw accuracy over total bytes (log scale); None where no group sends any."""
    if all(group.is_ceiling for group in groups):
        return None
    figure, axes = new_figure(3.1)
    _draw_curves(axes, groups, target)
    _whole_scale(axes)
    legend_below(figure, axes)
    return figure


@styled
def accuracy_against_bytes(groups: Sequence[Group], target: float | None) -> Picture | None:
    """Draw accuracy over total bytes (log scale) with intervals and the Pareto front."""
    rivals = [group for group in groups if not group.is_ceiling]
    figure = draw_accuracy_against_bytes(groups, target)
    if figure is None:
        return None
    words = "; ".join(
        f"{name} ends at {percent_text(end.accuracy.mean, 1)} with {bytes_text(end.total_bytes)}"
        for name, end in _ends(rivals).items()
    )
    return picture(
        figure,
        "accuracy_bytes",
        "Test accuracy against total bytes",
        "Test accuracy after each evaluated round, against all bytes sent until then (both "
        f"directions, all clients, all phases; log scale). {_interval_words(groups)}"
        + (
            " Grey steps: Pareto front, the best accuracy any method here reached for at most "
            "these bytes."
            if len(groups) > 1
            else ""
        )
        + (f" Dotted: the target, {percent_text(target)}." if target else ""),
        f"Curves of test accuracy over total bytes on a log scale: {words}.",
    )


@styled
def accuracy_zoom(groups: Sequence[Group], target: float | None) -> Picture | None:
    """Draw the top of `accuracy_against_bytes`, where the methods part."""
    rivals = [group for group in groups if not group.is_ceiling]
    if target is None or not rivals:
        return None
    figure, axes = new_figure(3.1)
    _draw_curves(axes, groups, target)
    finals = {name: end.accuracy.mean for name, end in _ends(groups).items()}
    top = max(finals.values())
    reach = max(0.02, min(0.15, 1.3 * (top - target), top))
    near = [final for final in finals.values() if final >= target - 0.1]
    low = min(target - 2 * reach, *(final - 0.3 * reach for final in near))
    axes.set_ylim(max(0.0, low), min(1.0, top + 0.5 * reach))
    points = [point for group in rivals for point in group.curve]
    shown = [point.total_bytes for point in points if point.accuracy.mean >= low]
    axes.set_xlim(min(shown) / 1.5, max(shown) * 1.3)
    legend_below(figure, axes)
    absent = [name for name, final in finals.items() if final < low]
    note = f" Below the section: {', '.join(absent)}." if absent else ""
    return picture(
        figure,
        "accuracy_bytes_zoom",
        "The same, close to the target",
        "The section of the figure before around the target accuracy "
        f"({percent_text(target)}, dotted); the vertical axis does not start at 0. Where a curve "
        f"crosses the dotted line, read off its bytes to the target (log scale).{note}",
        "Enlarged section of the accuracy curves around the target of "
        f"{percent_text(target)}; the table's column 'bytes to target' holds the crossings.",
    )


def _ends(groups: Sequence[Group]) -> dict[str, Tested]:
    """Return what each group reached in the end, by its name."""
    return {group.name: group.curve[-1] for group in groups if group.curve}


def _draw_curves(axes: Any, groups: Sequence[Group], target: float | None) -> None:
    """Draw accuracy over bytes, the front of what was reached, and the target."""
    _draw_groups(axes, groups, "total_bytes")
    points = [point for group in groups if not group.is_ceiling for point in group.curve]
    if points:
        axes.set_xscale("log")
    if points and len(groups) > 1:
        _draw_front(axes, [(point.total_bytes, point.accuracy.mean) for point in points])
    if target is not None:
        axes.axhline(target, color=INK, ls=":", lw=1, label="target")
    axes.set(xlabel="total bytes, up + down (log scale)", ylabel="test accuracy (%)")
    byte_axis(axes.xaxis)
    percent_axis(axes.yaxis)


def _draw_front(axes: Any, reached: Sequence[tuple[float, float]]) -> None:
    costs, values = zip(*(reached[index] for index in pareto_front(reached)), strict=True)
    edge = max(cost for cost, _ in reached)
    look = {"color": MUTED, "lw": 6, "alpha": 0.28, "solid_capstyle": "butt", "zorder": 1}
    axes.step([*costs, edge], [*values, values[-1]], where="post", label="Pareto front", **look)


def _draw_groups(axes: Any, groups: Sequence[Group], along: str) -> None:
    """Draw accuracy along an attribute of rounds: ``total_bytes`` or ``round``."""
    for group in groups:
        if group.curve and group.is_ceiling:
            final = group.curve[-1].accuracy.mean
            axes.axhline(final, color=MUTED, ls="--", lw=1.2, label=group.name)
        elif group.curve:
            _draw_group(axes, group, along)


def _draw_group(axes: Any, group: Group, along: str) -> None:
    """Draw the mean and its interval; each seed where two are too few for an interval."""
    color, curve = group.style.color, group.curve
    x = [getattr(point, along) for point in curve]
    means = [point.accuracy.mean for point in curve]
    draw_line(axes, x, means, group.style, label=group.name, zorder=3)
    if len(group.runs) == 2:
        for run in group.runs:
            x = [getattr(line, along) for line in run.evaluated]
            y = [line.test_accuracy for line in run.evaluated]
            axes.plot(x, y, color=color, lw=0.6, alpha=0.6, zorder=2)
    elif len(group.runs) > 2:
        halves = [point.accuracy.half_width or 0.0 for point in curve]
        low = [max(0.0, mean - half) for mean, half in zip(means, halves, strict=True)]
        high = [min(1.0, mean + half) for mean, half in zip(means, halves, strict=True)]
        axes.fill_between(x, low, high, color=color, alpha=0.16, lw=0, zorder=2)


def _whole_scale(axes: Any) -> None:
    """Show accuracies from 0, with room above a curve that ends near 100 %."""
    axes.set_ylim(0, min(1.03, 1.08 * axes.dataLim.y1))


@styled
def accuracy_per_round(groups: Sequence[Group]) -> Picture | None:
    """Draw accuracy over rounds."""
    figure, axes = new_figure(3.0)
    _draw_groups(axes, groups, "round")
    ends = _ends(groups)
    if not ends:
        return None
    axes.set_ylabel("test accuracy (%)")
    round_axis(axes)
    _whole_scale(axes)
    shaded = _shade_voting(axes, groups)
    percent_axis(axes.yaxis)
    legend_below(figure, axes)
    ceiling = any(group.is_ceiling for group in groups)
    dashed = "Dashed: a reference that sends nothing, its final accuracy. " if ceiling else ""
    several = len(groups) > 1
    dear = "Rounds are not equally dear: compare bytes in the first figure." if several else ""
    words = "; ".join(
        f"{name} reaches {percent_text(end.accuracy.mean, 1)} in round {end.round}"
        for name, end in ends.items()
    )
    return picture(
        figure,
        "accuracy_rounds",
        "Test accuracy per round",
        "Test accuracy after each evaluated round, all phases counted. "
        f"{_interval_words(groups)}{shaded} {dashed}{dear}",
        f"Curves of test accuracy over rounds: {words}.",
    )


def _shade_voting(axes: Any, groups: Sequence[Group]) -> str:
    """Shade the rounds of mask consensus where only one method is drawn; returns the words."""
    numbers = [n.round for n in groups[0].runs[0].rounds if n.phase == "mask"]
    if len(groups) > 1 or not numbers:
        return ""
    axes.axvspan(min(numbers) - 0.5, max(numbers) + 0.5, color=MUTED, alpha=0.12, lw=0, zorder=0)
    return " Shaded: mask consensus, no weight is averaged yet."


@styled
def density_per_round(groups: Sequence[Group]) -> Picture | None:
    """Draw the density of the shared model over rounds, for methods that prune."""
    figure, axes = new_figure(2.7)
    words: list[str] = []
    for group in groups:
        lines = [line for line in group.runs[0].rounds if line.density is not None]
        if group.is_ceiling or not lines or min(line.density or 0 for line in lines) >= 1:
            continue
        rounds, densities = [line.round for line in lines], [line.density for line in lines]
        draw_line(axes, rounds, densities, group.style, label=group.name)
        words.append(f"{group.name} falls to {lines[-1].density:.3g}")
    if not words:
        return None
    low = min(line.get_ydata().min() for line in axes.get_lines())
    axes.set_ylim(low / 1.25, 1.15)
    log_share_axis(axes.yaxis)
    axes.set_ylabel("density (log scale)")
    round_axis(axes)
    legend_below(figure, axes)
    return picture(
        figure,
        "density_rounds",
        "Density per round",
        "Share of prunable parameters that survive after each round (log scale; first seed). "
        "Methods that never prune stay at 1 and are left out.",
        f"Density over rounds: {'; '.join(words)}.",
    )
