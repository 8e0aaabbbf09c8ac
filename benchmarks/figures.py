"""Figures that compare methods: accuracy against bytes and rounds, density, what bytes are for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from benchmarks.analysis import (
    Row,
    RunData,
    byte_composition,
    client_spread,
    common_rounds,
    group_runs,
    pareto_front,
)
from benchmarks.figure_style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Picture,
    Style,
    byte_axis,
    legend_below,
    log_share_axis,
    method_styles,
    new_figure,
    percent_axis,
    picture,
    styled,
    variant,
)
from benchmarks.rundata import KINDS
from benchmarks.units import bytes_text, percent_text

KIND_COLORS = dict(zip(KINDS, (VERMILION, BLUE, PURPLE, GREEN, ORANGE, MUTED), strict=True))


@dataclass(frozen=True)
class Group:
    """The repetitions of one method, and how they are drawn."""

    name: str
    runs: Sequence[RunData]
    style: Style

    @property
    def is_ceiling(self) -> bool:
        """Whether the group is a reference that sends nothing."""
        return all(run.is_ceiling for run in self.runs)


def drawn_groups(runs: Sequence[RunData], rows: Sequence[Row], baseline: str) -> list[Group]:
    """Return the groups in the order of the table, each with its style."""
    groups = group_runs(runs)
    styles = method_styles((run.label for run in runs), baseline)
    drawn: list[Group] = []
    seen: dict[str, int] = {}
    for row in rows:
        label = groups[row.method][0].label
        style = variant(styles[label], seen.get(label, 0))
        seen[label] = seen.get(label, 0) + 1
        drawn.append(Group(row.method, groups[row.method], style))
    return drawn


def comparison_pictures(
    runs: Sequence[RunData], rows: Sequence[Row], baseline: str
) -> list[Picture]:
    """Return every figure that makes sense for these runs, in reading order."""
    groups = drawn_groups(runs, rows, baseline)
    target = _common_target(rows)
    made = [
        accuracy_against_bytes(groups, target),
        accuracy_zoom(groups, target),
        accuracy_per_round(groups),
        density_per_round(groups),
        composition([(g.name, byte_composition(g.runs[0])) for g in groups if not g.is_ceiling]),
        claimed_sent_possible([g for g in groups if not g.is_ceiling]),
        spread_over_clients(groups),
    ]
    return [item for item in made if item is not None]


def _common_target(rows: Sequence[Row]) -> float | None:
    targets = {round(row.target, 9) for row in rows if row.target is not None}
    return targets.pop() if len(targets) == 1 and len(rows) > 1 else None


def _interval_words(groups: Sequence[Group]) -> str:
    counts = [len(group.runs) for group in groups]
    if max(counts) == 1:
        return "One seed per method."
    if max(counts) == 2:
        return "Line: mean of two seeds; thin lines: each seed."
    return f"Line: mean over seeds ({max(counts)}); band: 95 % t-interval."


@styled
def accuracy_against_bytes(groups: Sequence[Group], target: float | None) -> Picture | None:
    """Draw accuracy over total bytes (log scale) with intervals and the Pareto front."""
    rivals = [group for group in groups if not group.is_ceiling]
    if not rivals:
        return None
    figure, axes = new_figure(3.1)
    _draw_curves(axes, groups, target)
    _whole_scale(axes)
    legend_below(figure, axes)
    ends = "; ".join(
        f"{group.name} ends at {percent_text(curve[-1][1].mean, 1)} with {bytes_text(curve[-1][0])}"
        for group in rivals
        if (curve := common_rounds(group.runs))
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
        f"Curves of test accuracy over total bytes on a log scale: {ends}.",
    )


@styled
def accuracy_zoom(groups: Sequence[Group], target: float | None) -> Picture | None:
    """Draw the top of `accuracy_against_bytes`, where the methods part."""
    rivals = [group for group in groups if not group.is_ceiling]
    if target is None or not rivals:
        return None
    figure, axes = new_figure(3.1)
    _draw_curves(axes, groups, target)
    finals = [curve[-1][1].mean for g in groups if (curve := common_rounds(g.runs))]
    top = max(finals)
    reach = max(0.02, min(0.15, 1.3 * (top - target), top))
    near = [final for final in finals if final >= target - 0.1]
    low = min(target - 2 * reach, *(final - 0.3 * reach for final in near))
    axes.set_ylim(max(0.0, low), min(1.0, top + 0.5 * reach))
    shown = [
        point[0] for group in rivals for point in common_rounds(group.runs) if point[1].mean >= low
    ]
    axes.set_xlim(min(shown) / 1.5, max(shown) * 1.3)
    legend_below(figure, axes)
    absent = [g.name for g, final in zip(groups, finals, strict=False) if final < low]
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


def _draw_curves(axes: Any, groups: Sequence[Group], target: float | None) -> None:
    reached: list[tuple[float, float]] = []
    for group in groups:
        curve = common_rounds(group.runs)
        if not curve:
            continue
        if group.is_ceiling:
            axes.axhline(curve[-1][1].mean, color=MUTED, ls="--", lw=1.2, label=group.name)
            continue
        _line(axes, [point[0] for point in curve], curve, group)
        _seed_lines(axes, group, by_bytes=True)
        reached += [(cost, estimate.mean) for cost, estimate, _ in curve]
    if reached:
        axes.set_xscale("log")
    if reached and len(groups) > 1:
        front = [reached[index] for index in pareto_front(reached)]
        costs, values = zip(*front, strict=True)
        edge = max(cost for cost, _ in reached)
        axes.step(
            [*costs, edge],
            [*values, values[-1]],
            where="post",
            color=MUTED,
            lw=6,
            alpha=0.28,
            solid_capstyle="butt",
            zorder=1,
            label="Pareto front",
        )
    if target is not None:
        axes.axhline(target, color=INK, ls=":", lw=1, label="target")
    axes.set_xlabel("total bytes, up + down (log scale)")
    axes.set_ylabel("test accuracy (%)")
    byte_axis(axes.xaxis)
    percent_axis(axes.yaxis)


def _whole_scale(axes: Any) -> None:
    """Show accuracies from 0, with room above a curve that ends near 100 %."""
    axes.set_ylim(0, min(1.03, 1.08 * axes.dataLim.y1))


def _line(axes: Any, x: Sequence[float], curve: Sequence[Any], group: Group) -> None:
    axes.plot(
        x,
        [point[1].mean for point in curve],
        color=group.style.color,
        marker=group.style.marker,
        ls=group.style.line,
        markevery=max(1, len(curve) // 8),
        label=group.name,
        zorder=3,
    )
    if len(group.runs) >= 3:
        low = [max(0.0, point[1].low) for point in curve]
        high = [min(1.0, point[1].high) for point in curve]
        axes.fill_between(x, low, high, color=group.style.color, alpha=0.16, lw=0, zorder=2)


def _seed_lines(axes: Any, group: Group, by_bytes: bool) -> None:
    """Show each seed where there are too few for a band."""
    if len(group.runs) != 2:
        return
    for run in group.runs:
        x = [n.total_bytes if by_bytes else n.round for n in run.evaluated]
        y = [n.test_accuracy for n in run.evaluated]
        axes.plot(x, y, color=group.style.color, lw=0.6, alpha=0.6, zorder=2)


@styled
def accuracy_per_round(groups: Sequence[Group]) -> Picture | None:
    """Draw accuracy over rounds."""
    figure, axes = new_figure(3.0)
    words: list[str] = []
    for group in groups:
        curve = common_rounds(group.runs)
        if not curve:
            continue
        if group.is_ceiling:
            axes.axhline(curve[-1][1].mean, color=MUTED, ls="--", lw=1.2, label=group.name)
        else:
            _line(axes, [point[2] for point in curve], curve, group)
            _seed_lines(axes, group, by_bytes=False)
        words.append(
            f"{group.name} reaches {percent_text(curve[-1][1].mean, 1)} in round {curve[-1][2]}"
        )
    if not words:
        return None
    axes.set_xlabel("round")
    axes.set_ylabel("test accuracy (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _whole_scale(axes)
    shaded = _shade_voting(axes, groups)
    percent_axis(axes.yaxis)
    legend_below(figure, axes)
    return picture(
        figure,
        "accuracy_rounds",
        "Test accuracy per round",
        "Test accuracy after each evaluated round, all phases counted. "
        f"{_interval_words(groups)}{shaded} "
        + (
            "Dashed: a reference that sends nothing, its final accuracy. "
            if any(g.is_ceiling for g in groups)
            else ""
        )
        + (
            "Rounds are not equally dear: compare bytes in the first figure."
            if len(groups) > 1
            else ""
        ),
        f"Curves of test accuracy over rounds: {'; '.join(words)}.",
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
        axes.plot(
            [line.round for line in lines],
            [line.density for line in lines],
            color=group.style.color,
            marker=group.style.marker,
            ls=group.style.line,
            markevery=max(1, len(lines) // 8),
            label=group.name,
        )
        words.append(f"{group.name} falls to {lines[-1].density:.3g}")
    if not words:
        return None
    low = min(line.get_ydata().min() for line in axes.get_lines())
    axes.set_ylim(low / 1.25, 1.15)
    log_share_axis(axes.yaxis)
    axes.set_xlabel("round")
    axes.set_ylabel("density (log scale)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes)
    return picture(
        figure,
        "density_rounds",
        "Density per round",
        "Share of prunable parameters that survive after each round (log scale; first seed). "
        "Methods that never prune stay at 1 and are left out.",
        f"Density over rounds: {'; '.join(words)}.",
    )


@styled
def composition(
    entries: Sequence[tuple[str, Mapping[str, Mapping[str, int]]]],
    whose: str = "a method's (first seed)",
) -> Picture | None:
    """Draw what the bytes are for: shares of each direction, with the totals written beside."""
    if not any(sum(part.values()) for _, parts in entries for part in parts.values()):
        return None
    figure, axes = new_figure(0.9 + 0.27 * len(entries), columns=2, rows=1, sharey=True)
    used = [k for k in KINDS if any(part[k] for _, parts in entries for part in parts.values())]
    for panel, direction in zip(axes[0], ("uplink", "downlink"), strict=True):
        for place, (_, parts) in enumerate(entries):
            _stack(panel, place, parts[direction], used)
        panel.set_title(direction, loc="left")
        panel.set_xlim(0, 1.5)
        panel.set_xticks([0, 0.5, 1])
        panel.set_xlabel("share of bytes (%)", loc="left")
        percent_axis(panel.xaxis)
        panel.grid(visible=False)
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(entries)), [name for name, _ in entries])
    axes[0, 0].invert_yaxis()
    legend_below(figure, axes[0, 0], 6, [Patch(color=KIND_COLORS[k], label=k) for k in used])
    words = "; ".join(
        f"{name}: " + ", ".join(f"{bytes_text(sum(p.values()))} {d}" for d, p in parts.items())
        for name, parts in entries
    )
    return picture(
        figure,
        "byte_composition",
        "What the bytes are for",
        f"Each bar is all of {whose} bytes in one direction, divided by kind; the total stands "
        "beside it. Bars show shares, so their lengths do not compare methods.",
        f"Stacked bars of byte shares by kind. Totals: {words}.",
    )


def _stack(axes: Any, place: int, parts: Mapping[str, int], kinds: Sequence[str]) -> None:
    total, left = sum(parts.values()), 0.0
    for kind in kinds if total else ():
        share = parts[kind] / total
        axes.barh(place, share, left=left, height=0.66, color=KIND_COLORS[kind], lw=0)
        left += share
    axes.text(1.03, place, bytes_text(total), va="center", fontsize=8.5)


@styled
def claimed_sent_possible(groups: Sequence[Group]) -> Picture | None:
    """Draw, per method, what its formula claims, what was sent and what entropy allows."""
    rows = [(group.name, *claim_sums(group.runs[0])) for group in groups]
    if not any(math.isfinite(row[1]) or math.isfinite(row[3]) for row in rows):
        return None
    figure, axes = new_figure(0.75 + 0.27 * len(rows))
    for place, row in enumerate(rows):
        known = [value for value in row[1:] if math.isfinite(value) and value > 0]
        axes.plot([min(known), max(known)], [place, place], color=GRID, lw=3, zorder=1)
    draw = (("claimed", SKY, "|"), ("sent", INK, "o"), ("possible", VERMILION, "D"))
    for column, (label, color, marker) in enumerate(draw, start=1):
        places = [p for p, row in enumerate(rows) if math.isfinite(row[column]) and row[column] > 0]
        axes.plot(
            [rows[p][column] for p in places],
            places,
            color=color,
            marker=marker,
            ms=11 if marker == "|" else 5,
            mew=2.4 if marker == "|" else 1,
            ls="",
            label=label,
            zorder=2 if marker == "|" else 3,
        )
    axes.set_xscale("log")
    axes.margins(x=0.06)
    byte_axis(axes.xaxis)
    axes.set_xlabel("bytes of all messages (log scale)")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    legend_below(figure, axes)
    words = "; ".join(
        f"{name}: claimed {_known(a)}, sent {_known(b)}, possible {_known(c)}"
        for name, a, b, c in rows
    )
    return picture(
        figure,
        "claimed_sent_possible",
        "Claimed, sent, possible",
        "Bytes of all messages of the first seed: by the formula of the method's paper (claimed), "
        "as serialized (sent), and the entropy of the content given what the receiver already "
        "knows (possible). Log scale.",
        f"Three marks per method. {words}.",
    )


def _known(value: float) -> str:
    return bytes_text(value) if math.isfinite(value) else "unknown"


def claim_sums(run: RunData) -> tuple[float, float, float]:
    """Return a run's bytes as claimed, sent and possible; NaN where nothing is claimed."""
    ledger = run.ledger
    sums = [
        float(np.nansum(part)) if np.isfinite(part).any() else math.nan
        for part in (ledger.formula_bytes, ledger.bound_bytes)
    ]
    return sums[0], float(ledger.message_bytes.sum()), sums[1]


@styled
def spread_over_clients(groups: Sequence[Group]) -> Picture | None:
    """Draw the accuracy of the final model at every client."""
    known = [(g, s) for g in groups if (s := client_spread(g.runs[0])) is not None]
    if not known:
        return None
    figure, axes = new_figure(0.75 + 0.3 * len(known))
    for place, (group, spread) in enumerate(known):
        values = np.sort(np.asarray(group.runs[0].final_client_accuracy))
        wave = 0.2 * np.sin(2.4 * np.arange(values.size))
        axes.plot(
            values, place + wave, color=group.style.color, marker="o", ms=3.2, ls="", alpha=0.6
        )
        axes.plot([spread.median] * 2, [place - 0.33, place + 0.33], color=INK, lw=2)
    axes.set_yticks(range(len(known)), [group.name for group, _ in known])
    axes.set_ylim(len(known) - 0.4, -0.6)
    low, high = axes.get_xlim()
    middle, half = (low + high) / 2, max(0.01, (high - low) / 2)
    axes.set_xlim(middle - half, middle + half)
    axes.set_xlabel("accuracy at the client (%)")
    percent_axis(axes.xaxis)
    axes.grid(visible=False, axis="y")
    words = "; ".join(
        f"{g.name} {percent_text(s.lowest, 1)} to {percent_text(s.highest, 1)}, median "
        f"{percent_text(s.median, 1)}"
        for g, s in known
    )
    return picture(
        figure,
        "client_accuracy",
        "Accuracy of each client",
        "Test accuracy per class, averaged with each client's own class frequencies: one dot a "
        "client (first seed; its height within a row only keeps dots apart), the bar their "
        "median. On non-IID data the average hides the clients at the left.",
        f"Range of accuracy over clients: {words}.",
    )
