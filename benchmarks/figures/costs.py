"""What bytes are for, what was claimed and possible, and who pays: bars and dots per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from benchmarks.figures.groups import Group
from benchmarks.figures.palette import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, SKY, VERMILION
from benchmarks.figures.style import (
    Picture,
    byte_axis,
    drawn,
    legend_below,
    name_in,
    new_figure,
    percent_axis,
    picture,
    row_height,
    row_names,
    styled,
    where,
)
from benchmarks.results.measures import byte_composition, client_spread
from benchmarks.results.rundata import RunData
from benchmarks.units import bytes_text, percent_text
from server.records import KINDS

KIND_COLORS = dict(zip(KINDS, (VERMILION, BLUE, PURPLE, GREEN, ORANGE, MUTED), strict=True))


def cost_pictures(groups: Sequence[Group], setting: str = "") -> list[Picture]:
    """Return the figures on bytes and clients that these groups have data for."""
    sending = [group for group in groups if not group.is_ceiling]
    parts = [(group.name, byte_composition(group.runs[0])) for group in sending]
    made = composition(parts), spread_over_clients(groups), claimed_sent_possible(sending)
    return [
        replace(item, name=name_in(item.name, setting), title=item.title + where(setting))
        for item in drawn(*made)
    ]


@styled
def composition(
    entries: Sequence[tuple[str, Mapping[str, Mapping[str, int]]]],
    whose: str = "a method's (first seed)",
) -> Picture | None:
    """Draw what the bytes are for: shares of each direction, with the totals written beside."""
    if not any(sum(part.values()) for _, parts in entries for part in parts.values()):
        return None
    names = [name for name, _ in entries]
    figure, axes = new_figure(0.75 + row_height(names, 0.27), columns=2, sharey=True)
    used = [k for k in KINDS if any(part[k] for _, parts in entries for part in parts.values())]
    for panel, direction in zip(axes[0], ("uplink", "downlink"), strict=True):
        for place, (_, parts) in enumerate(entries):
            _stack(panel, place, parts[direction], used)
        panel.set_title(direction, loc="left")
        panel.set_xlabel("share (%)", loc="left")
        panel.set(xlim=(0, 1.5), xticks=[0, 0.5, 1])
        percent_axis(panel.xaxis)
        panel.grid(visible=False)
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    row_names(axes[0, 0], names)
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
    axes.text(1.03, place, bytes_text(total), va="center", fontsize=6.5)


@styled
def claimed_sent_possible(groups: Sequence[Group]) -> Picture | None:
    """Draw, per method, what its formula claims, what was sent and what entropy allows."""
    sums = {group.name: claim_sums(group.runs[0]) for group in groups}
    if all(list(known) == ["sent"] for known in sums.values()):
        return None
    figure, axes = new_figure(0.6 + row_height(list(sums), 0.27))
    for place, known in enumerate(sums.values()):
        drawn = [value for value in known.values() if value > 0]
        axes.plot([min(drawn), max(drawn)], [place, place], color=GRID, lw=3, zorder=1)
    for label, look in _CLAIM_MARKS.items():
        places = [place for place, known in enumerate(sums.values()) if known.get(label, 0) > 0]
        values = [list(sums.values())[place][label] for place in places]
        axes.plot(values, places, ls="", label=label, **look)
    axes.set_xscale("log")
    axes.margins(x=0.06)
    byte_axis(axes.xaxis)
    axes.set_xlabel("bytes of all messages (log scale)")
    row_names(axes, list(sums))
    axes.set_ylim(len(sums) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    legend_below(figure, axes)
    return picture(
        figure,
        "claimed_sent_possible",
        "Claimed, sent, possible",
        "Bytes of all messages of the first seed: by the formula of the method's paper (claimed), "
        "as serialized (sent), and the entropy of the content, each unit for itself, given what "
        "the receiver already knows (possible; a code that finds patterns among units can stay "
        "below). Log scale.",
        f"Three marks per method. {'; '.join(map(_claim_words, sums, sums.values()))}.",
    )


_CLAIM_MARKS: Mapping[str, Mapping[str, Any]] = {
    "claimed": {"color": SKY, "marker": "|", "ms": 11, "mew": 2.4, "zorder": 2},
    "sent": {"color": INK, "marker": "o", "ms": 4.5, "zorder": 3},
    "possible": {
        "color": VERMILION,
        "marker": "D",
        "ms": 7,
        "mew": 1.5,
        "mfc": "none",
        "zorder": 3,
    },
}


def _claim_words(name: str, known: Mapping[str, float]) -> str:
    words = [f"{k} {bytes_text(known[k]) if k in known else 'unknown'}" for k in _CLAIM_MARKS]
    return f"{name}: {', '.join(words)}"


def claim_sums(run: RunData) -> dict[str, float]:
    """Return a run's bytes as claimed, sent and possible, without what its method cannot say."""
    ledger = run.ledger
    columns = {
        "claimed": ledger.formula_bytes,
        "sent": ledger.message_bytes,
        "possible": ledger.bound_bytes,
    }
    return {k: float(np.nansum(v)) for k, v in columns.items() if np.isfinite(v).any()}


@styled
def spread_over_clients(groups: Sequence[Group]) -> Picture | None:
    """Draw the accuracy of the final model at every client."""
    known = [(g, s) for g in groups if (s := client_spread(g.runs[0])) is not None]
    if not known:
        return None
    names = [group.name for group, _ in known]
    figure, axes = new_figure(0.6 + row_height(names, 0.3))
    for place, (group, spread) in enumerate(known):
        values = np.sort(np.asarray(group.runs[0].client_accuracy))
        wave = 0.2 * np.sin(2.4 * np.arange(values.size))
        axes.plot(
            values, place + wave, color=group.style.color, marker="o", ms=3.2, ls="", alpha=0.6
        )
        axes.plot([spread.median] * 2, [place - 0.33, place + 0.33], color=INK, lw=2)
    row_names(axes, names)
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
