"""Curves over rounds: accuracy and density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.figures.groups import Group
from benchmarks.figures.palette import MUTED
from benchmarks.figures.style import (
    Picture,
    draw_line,
    drawn,
    legend_below,
    log_share_axis,
    name_in,
    new_figure,
    percent_axis,
    picture,
    round_axis,
    styled,
    where,
)
from benchmarks.results.measures import Tested
from benchmarks.units import percent_text


def curve_pictures(groups: Sequence[Group], setting: str = "") -> list[Picture]:
    """Return the figures on rounds that these groups have data for."""
    return drawn(accuracy_per_round(groups, setting), density_per_round(groups, setting))


def _interval_words(groups: Sequence[Group]) -> str:
    counts = [len(group.runs) for group in groups]
    if max(counts) == 1:
        return "One seed per method."
    if max(counts) == 2:
        return "Line: mean of two seeds; thin lines: each seed."
    return f"Line: mean over seeds ({max(counts)}); band: 95 % t-interval."


def _ends(groups: Sequence[Group]) -> dict[str, Tested]:
    """Return what each group reached in the end, by its name."""
    return {group.name: group.curve[-1] for group in groups if group.curve}


def _draw_groups(axes: Any, groups: Sequence[Group]) -> None:
    """Draw accuracy along rounds; what others are measured by is a level beside them."""
    for group in groups:
        if group.curve and group.is_ceiling and len(groups) > 1:
            final = group.curve[-1].accuracy.mean
            axes.axhline(final, color=MUTED, ls="--", lw=1.2, label=group.name)
        elif group.curve:
            _draw_group(axes, group)


def _draw_group(axes: Any, group: Group) -> None:
    """Draw the mean and its interval; each seed where two are too few for an interval."""
    color, curve = group.style.color, group.curve
    x = [point.round for point in curve]
    means = [point.accuracy.mean for point in curve]
    draw_line(axes, x, means, group.style, label=group.name, zorder=3)
    if len(group.runs) == 2:
        for run in group.runs:
            x = [line.round for line in run.evaluated]
            y = [line.test_accuracy for line in run.evaluated]
            axes.plot(x, y, color=color, lw=0.6, alpha=0.6, zorder=2)
    elif len(group.runs) > 2:
        halves = [point.accuracy.half_width or 0.0 for point in curve]
        low = [max(0.0, mean - half) for mean, half in zip(means, halves, strict=True)]
        high = [min(1.0, mean + half) for mean, half in zip(means, halves, strict=True)]
        axes.fill_between(x, low, high, color=color, alpha=0.16, lw=0, zorder=2)


def _whole_scale(axes: Any) -> None:
    """Show accuracies from 0, with room above a curve that ends near 100 %."""
    axes.set_ylim(0, min(1.03, 1.08 * axes.dataLim.y1) or 1.03)


@styled
def accuracy_per_round(groups: Sequence[Group], setting: str = "") -> Picture | None:
    """Draw accuracy over rounds."""
    figure, axes = new_figure(2.2)
    _draw_groups(axes, groups)
    ends = _ends(groups)
    if not ends:
        return None
    axes.set_ylabel("test accuracy (%)")
    round_axis(axes)
    _whole_scale(axes)
    shaded = _shade_voting(axes, groups)
    percent_axis(axes.yaxis)
    legend_below(figure, axes)
    ceiling = len(groups) > 1 and any(group.is_ceiling for group in groups)
    dashed = "Dashed: a reference that sends nothing, its final accuracy. " if ceiling else ""
    several = len(groups) > 1
    dear = "Rounds are not equally dear: compare bytes in the first figure." if several else ""
    words = "; ".join(
        f"{name} reaches {percent_text(end.accuracy.mean, 1)} in round {end.round}"
        for name, end in ends.items()
    )
    return picture(
        figure,
        name_in("accuracy_rounds", setting),
        f"Test accuracy per round{where(setting)}",
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
def density_per_round(groups: Sequence[Group], setting: str = "") -> Picture | None:
    """Draw the density of the shared model over rounds, for methods that prune."""
    figure, axes = new_figure(1.9)
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
        name_in("density_rounds", setting),
        f"Density per round{where(setting)}",
        "Share of prunable parameters that survive after each round (log scale; first seed). "
        "Methods that never prune stay at 1 and are left out.",
        f"Density over rounds: {'; '.join(words)}.",
    )
