"""Labels at the ends of lines: each near its own, none on another, few lines below them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from numpy.typing import NDArray

from benchmarks.figures.palette import INK, PAPER

_DISTANCES = (4, 7, 11, 16, 22, 30, 40, 52, 66)  # points
_ANGLES = tuple(math.radians(15 * step) for step in range(24))
_FAR = 9.0  # points: from here on a thin line leads to the label
_MIDDLE: Any = {"ha": "center", "va": "center_baseline"}
_VEIL: Any = {"facecolor": PAPER, "alpha": 0.8, "lw": 0, "pad": 0.5}  # over lines, under words
_GAP = 1.0  # points between two labels
_SIGN = 7.0  # points for the marker in front of a label


@dataclass(frozen=True)
class End:
    """Where a line ends (data units), and what stands there."""

    x: float
    y: float
    text: str
    color: str
    marker: str = ""


def label_ends(axes: Axes, ends: Sequence[End]) -> list[Text]:
    """Put a label near every end, inside the axes; the figure's layout must be settled.

    Nothing is drawn at random: the same lines get the same places.
    """
    figure: Any = axes.get_figure()
    point = figure.dpi / 72
    renderer = figure.canvas.get_renderer()
    inside = np.array(axes.bbox.extents)
    ink = _ink(axes, 2 * point)
    taken = [np.array(text.get_window_extent(renderer).extents) for text in axes.texts]
    made: list[Text] = []
    spots = axes.transData.transform([(end.x, end.y) for end in ends]) if ends else ink[:0]
    for end in sorted(ends, key=lambda item: (item.x, item.y, item.text)):
        at = axes.transData.transform((end.x, end.y))
        text = axes.text(end.x, end.y, end.text, fontsize=7, color=INK, zorder=6, **_MIDDLE)
        width, height = text.get_window_extent(renderer).size
        sign = _SIGN * point if end.marker else 0.0
        half = np.array([width + sign, height]) / 2 + _GAP * point
        center = _best(at, half, inside, ink, taken, spots, point)
        taken.append(np.concatenate([center - half, center + half]))
        back = axes.transData.inverted()
        _move(text, back.transform(center + np.array([sign / 2, 0])))
        _lead(axes, at, center, half, point, end.color)
        if end.marker:
            x, y = back.transform(center - np.array([half[0] - _SIGN * point / 2, 0]))
            axes.plot([x], [y], color=end.color, marker=end.marker, ms=4, ls="", zorder=6)
        made.append(text)
    return made


def label_level(axes: Axes, y: float, words: str) -> Text:
    """Put a label on a horizontal line, above or below it, where the fewest lines are."""
    figure: Any = axes.get_figure()
    point = figure.dpi / 72
    renderer = figure.canvas.get_renderer()
    ink = _ink(axes, 2 * point)
    left, low, right, high = axes.bbox.extents
    text = axes.text(axes.get_xlim()[0], y, words, fontsize=6, color=INK, zorder=5, **_MIDDLE)
    half = np.array(text.get_window_extent(renderer).size) / 2 + 0.5 * point
    text.set_bbox(_VEIL)
    level = axes.transData.transform((axes.get_xlim()[0], y))[1]
    texts = axes.texts[:-1]
    taken = [np.array(other.get_window_extent(renderer).extents) for other in texts]
    columns = np.linspace(left + half[0], max(left + half[0], right - half[0]), 25)
    places = np.array([(x, level + way * (half[1] + point)) for way in (1, -1) for x in columns])
    found = _free(places, half, np.array([left, low, right, high]), taken)
    found = found if len(found) else places[:1]
    covered = [_inside(ink, place - half, place + half) for place in found]
    _move(text, axes.transData.inverted().transform(found[int(np.argmin(covered))]))
    return text


def _move(text: Text, place: Sequence[float] | NDArray[np.float64]) -> None:
    text.set_position((float(place[0]), float(place[1])))


def _best(
    at: NDArray[np.float64],
    half: NDArray[np.float64],
    inside: NDArray[np.float64],
    ink: NDArray[np.float64],
    taken: Sequence[NDArray[np.float64]],
    spots: NDArray[np.float64],
    point: float,
) -> NDArray[np.float64]:
    """Return the middle of the best free place around a point, or of the nearest of all."""
    around = [
        at + (distance * point + half) * np.array([math.cos(angle), math.sin(angle)])
        for distance in _DISTANCES
        for angle in _ANGLES
    ]
    places = _free(np.array(around), half, inside, taken)
    if not len(places):
        steps = [np.arange(inside[i] + half[i], inside[i + 2] - half[i], half[1]) for i in (0, 1)]
        everywhere = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 2)
        places = _free(everywhere, half, inside, taken)
    if not len(places):
        return at
    covered = np.array([_inside(ink, place - half, place + half) for place in places])
    away = np.hypot(*((places - at) / point).T)
    left = (places[:, 0] < at[0]) * 2.0
    others = spots[np.hypot(*(spots - at).T) > point]
    near = np.array([_inside(others, p - half - 5 * point, p + half + 5 * point) for p in places])
    best: NDArray[np.float64] = places[np.argmin(2.5 * covered + 0.6 * away + left + 8 * near)]
    return best


def _free(
    places: NDArray[np.float64],
    half: NDArray[np.float64],
    inside: NDArray[np.float64],
    taken: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the places inside the axes where no other label is."""
    good = ((places - half >= inside[:2]) & (places + half <= inside[2:])).all(axis=1)
    for box in taken:
        apart = (places + half <= box[:2]) | (places - half >= box[2:])
        good &= apart.any(axis=1)
    found: NDArray[np.float64] = places[good]
    return found


def _inside(ink: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> int:
    return int(((ink >= low) & (ink <= high)).all(axis=1).sum())


def _ink(axes: Axes, step: float) -> NDArray[np.float64]:
    """Return points along all lines of the axes, in pixels, `step` apart; few of thin ones."""
    found = [np.empty((0, 2))]
    for line in axes.get_lines():
        apart = step * (1 if line.get_linewidth() > 1 else 4)
        corners = line.get_transform().transform(np.asarray(line.get_xydata(), np.float64))
        corners = corners[np.isfinite(corners).all(axis=1)]
        for start, end in pairwise(corners):
            count = min(2000, max(2, int(np.hypot(*(end - start)) / apart)))
            found.append(start + np.linspace(0, 1, count)[:, None] * (end - start))
    return np.concatenate(found)


def _lead(
    axes: Axes,
    at: NDArray[np.float64],
    center: NDArray[np.float64],
    half: NDArray[np.float64],
    point: float,
    color: str,
) -> None:
    """Draw a thin line from an end to the edge of a label that is not beside it."""
    edge = np.clip(at, center - half, center + half)
    if np.hypot(*(edge - at)) > _FAR * point:
        x, y = axes.transData.inverted().transform([at, edge]).T
        axes.plot(x, y, color=color, lw=0.5, zorder=2.5)
