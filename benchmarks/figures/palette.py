"""Colours, markers and lines: what belongs together looks alike, and no two variants do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INK = "#1b1f24"
MUTED = "#6f7782"
GRID = "#dde1e6"
PAPER = "#fefefe"
"""Four tones that a report in dark mode exchanges for its own."""

BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
PURPLE, ORANGE, SKY = "#cc79a7", "#e69f00", "#56b4e9"
WINE, OLIVE, VIOLET = "#882255", "#8a8a1f", "#7b5fd0"
PALETTE = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)
"""Okabe and Ito's colour-blind-safe colours, without the yellow that vanishes on white."""
COLORS = (*PALETTE, WINE, OLIVE, VIOLET)
"""All colours of variants. A page in dark mode has lighter ones of the same hue for them."""

_MARKERS = "o^DvPX<>ph*d8"
LAYER_MARKERS = "o^DvPXs<>ph*"
"""Markers of what is no method: layers, vote rules."""

_LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
_KNOWN = (
    *("mpfl", "fedpm", "topk", "signsgd_mv", "ssfl", "prunefl", "fedavg_q8", "fedavg_prune"),
    *("dense_step", "lotteryfl", "mpfl_finetune", "mpfl_regrow"),
)
"""What looks the same in every comparison, unless two of them would share a colour there."""


@dataclass(frozen=True)
class Style:
    """How one variant is drawn everywhere."""

    color: str
    marker: str
    line: Any = "-"


def variant_styles(labels: Mapping[str, str], baseline: str) -> dict[str, Style]:
    """Return a style for every variant, of which no two share colour and marker.

    While there are enough colours no two share a colour either.

    Parameters
    ----------
    labels
        Name of the variant → method or variant it is of, whose usual look the first of them gets.
    """
    styles: dict[str, Style] = {}
    usual = {name: _usual(label, baseline) for name, label in labels.items()}
    for name in sorted(labels, key=lambda name: (_rank(labels[name]), name)):
        style = usual[name]
        if style is not None and style.color not in {other.color for other in styles.values()}:
            styles[name] = style
    for name in sorted(labels.keys() - styles.keys()):
        styles[name] = _free(list(styles.values()))
    return {name: styles[name] for name in labels}


def _usual(label: str, baseline: str) -> Style | None:
    if label == baseline:
        return Style(INK, "s")
    if label == "centralized":
        return Style(MUTED, "_", "--")
    if label not in _KNOWN:
        return None
    index = _KNOWN.index(label)
    line = _LINES[index // len(COLORS) % len(_LINES)]
    return Style(COLORS[index % len(COLORS)], _MARKERS[index % len(_MARKERS)], line)


def _rank(label: str) -> int:
    return _KNOWN.index(label) if label in _KNOWN else len(_KNOWN)


def _free(taken: list[Style]) -> Style:
    """Return a style of the colour and the marker that are seen least so far."""
    colors, markers = (Counter(getattr(s, key) for s in taken) for key in ("color", "marker"))
    pairs = {(style.color, style.marker) for style in taken}
    color = min(COLORS, key=lambda tone: (colors[tone], COLORS.index(tone)))
    allowed = [m for m in _MARKERS if (color, m) not in pairs] or list(_MARKERS)
    marker = min(allowed, key=lambda shape: (markers[shape], _MARKERS.index(shape)))
    return Style(color, marker, _LINES[colors[color] % len(_LINES)])


def layer_style(index: int) -> Style:
    """Return the style of a figure's `index`-th line of what is no method: a layer, a vote rule."""
    marker = LAYER_MARKERS[index % len(LAYER_MARKERS)]
    return Style(PALETTE[index % len(PALETTE)], marker, "-" if index < len(PALETTE) else "--")
