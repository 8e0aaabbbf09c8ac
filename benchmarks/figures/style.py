"""How figures look: palette, fonts, legends, and their deterministic rendering to SVG and PNG."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.units import bytes_text

INK = "#1b1f24"
MUTED = "#6f7782"
GRID = "#dde1e6"
PAPER = "#fefefe"
"""Four tones that a report in dark mode exchanges for its own; all else is the palette."""

BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
PURPLE, ORANGE, SKY = "#cc79a7", "#e69f00", "#56b4e9"
PALETTE = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)
"""Okabe and Ito's colour-blind-safe colours, without the yellow that vanishes on white."""

_MARKERS = "o^DvPX<>ph*d8"
LAYER_MARKERS = "o^DvPXs<>ph*"
"""Markers of what is no method: layers, vote rules."""

_LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
_KNOWN = (
    "mpfl",
    "fedpm",
    "topk",
    "signsgd_mv",
    "ssfl",
    "prunefl",
    "fedavg_q8",
    "fedavg_prune",
    "lotteryfl",
    "mpfl_finetune",
    "mpfl_regrow",
)

_SETTINGS: Any = {
    "svg.hashsalt": "mpfl",
    "text.parse_math": False,  # names of layers and variants may hold a dollar
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.8,
    "hatch.linewidth": 0.6,
}


@dataclass(frozen=True)
class Style:
    """How one method is drawn everywhere."""

    color: str
    marker: str
    line: Any


@dataclass(frozen=True)
class Picture:
    """A figure with everything that explains it.

    Attributes
    ----------
    name
        File name without ending.
    title
        What it shows, in a few words.
    caption
        What is seen, axes and scale said.
    alternative
        The same for those who cannot see it: the figures that matter, in a sentence.
    svg, png
        The rendered figure.
    """

    name: str
    title: str
    caption: str
    alternative: str
    svg: str
    png: bytes


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that makes figures: it runs under the house style."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    wrapped.__name__, wrapped.__doc__ = draw.__name__, draw.__doc__
    return wrapped


def picture(figure: Figure, name: str, title: str, caption: str, alternative: str) -> Picture:
    """Render a figure. The same figure gives the same bytes on every call."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # laid out once, not again for every format
    vector, pixels = io.StringIO(), io.BytesIO()
    figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(pixels, format="png", dpi=200, metadata={"Software": None})
    return Picture(name, title, caption, alternative, vector.getvalue(), pixels.getvalue())


def drawn(*pictures: Picture | None) -> list[Picture]:
    """Return the pictures for which there was something to draw."""
    return [item for item in pictures if item is not None]


def new_figure(
    height: float = 3.1, width: float = 4.8, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure (inches) and its axes: one, or an array of shape [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes[0, 0] if rows == columns == 1 else axes


def method_styles(labels: Iterable[str], baseline: str) -> dict[str, Style]:
    """Return a style per label: known methods always look the same, others take what is left."""
    styles: dict[str, Style] = {}
    rank = len(_KNOWN)
    for label in sorted(set(labels)):
        if label == baseline:
            styles[label] = Style(INK, "s", "-")
            continue
        if label == "centralized":
            styles[label] = Style(MUTED, "_", "--")
            continue
        index = _KNOWN.index(label) if label in _KNOWN else rank
        rank += label not in _KNOWN
        styles[label] = Style(
            PALETTE[index % len(PALETTE)],
            _MARKERS[index % len(_MARKERS)],
            _LINES[index // len(PALETTE) % len(_LINES)],
        )
    return styles


def variant(style: Style, index: int) -> Style:
    """Return the style of a label's `index`-th swept value: same colour, another line or marker."""
    if index == 0:
        return style
    first = _LINES.index(style.line) if style.line in _LINES else 0
    line, turn = _LINES[(first + index) % len(_LINES)], index // len(_LINES)
    place = _MARKERS.find(style.marker)
    marker = _MARKERS[(place + 2 * turn) % len(_MARKERS)] if turn else style.marker
    return Style(style.color, marker, line)


def layer_style(index: int) -> Style:
    """Return the style of a figure's `index`-th line of what is no method: a layer, a vote rule."""
    marker = LAYER_MARKERS[index % len(LAYER_MARKERS)]
    return Style(PALETTE[index % len(PALETTE)], marker, "-" if index < len(PALETTE) else "--")


def draw_line(axes: Any, x: Any, y: Any, style: Style, **options: Any) -> None:
    """Draw a line with about eight markers on it."""
    look = {"marker": style.marker, "markevery": max(1, len(x) // 8), **options}
    axes.plot(x, y, color=style.color, ls=style.line, **look)


def byte_axis(axis: Any) -> None:
    """Label a log axis' ticks as bytes."""
    _log_axis(axis, lambda value, _: _short_bytes(value))


def log_share_axis(axis: Any, scale: float = 1.0) -> None:
    """Label a log axis' ticks as plain numbers, multiplied by `scale`."""
    _log_axis(axis, lambda value, _: f"{scale * value:.4g}")


def _log_axis(axis: Any, text: Callable[[float, int], str]) -> None:
    """Make an axis logarithmic, with labels that say the whole number at readable distances."""
    low, high = axis.get_view_interval()
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    decades = math.log10(high / low) if 0 < low < high else 1.0
    subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_formatter(NullFormatter())


def _short_bytes(value: float) -> str:
    number, unit = bytes_text(value).split(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}"


def percent_axis(axis: Any) -> None:
    """Label an axis' ticks as per cent of shares."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}"))


def round_axis(axes: Any) -> None:
    """Label the axis of rounds, with ticks at whole rounds, which a single one would not get."""
    axes.set_xlabel("round")
    low, high = axes.dataLim.intervalx
    if low == high:
        axes.set_xlim(low - 0.5, high + 0.5)
        axes.set_xticks([low])
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)


def row_names(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a figure from the top; long names, which have spaces, take two lines."""
    broken = ["\n".join(textwrap.wrap(name, _LONGEST_NAME) or [name]) for name in names]
    axes.set_yticks(range(len(names)), broken)
    for label, name in zip(axes.get_yticklabels(), broken, strict=True):
        label.set_linespacing(1.0)
        label.set_fontsize(8 if "\n" in name else 9)


def row_height(names: Sequence[str], height: float) -> float:
    """Return the height (inches) that `row_names` needs for all rows of at least `height` each."""
    lines = max((len(textwrap.wrap(name, _LONGEST_NAME)) for name in names), default=1)
    return len(names) * max(height, 0.13 * lines + 0.08)


_LONGEST_NAME = 22


def legend_below(
    figure: Figure, axes: Axes, columns: int = 3, handles: Sequence[Any] | None = None
) -> None:
    """Put the legend under the plot, where it covers nothing, and make room for it."""
    lines = list(handles) if handles is not None else axes.get_legend_handles_labels()[0]
    if not lines:
        return
    longest = max(len(str(line.get_label())) for line in lines)
    columns = max(
        1, min(columns, len(lines), int(figure.get_figwidth() * 72 / (5.6 * longest + 42)))
    )
    rows = -(-len(lines) // columns)
    columns = -(-len(lines) // rows)  # as even as it gets
    figure.set_figheight(figure.get_figheight() + 0.19 * rows)
    figure.legend(
        lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=columns
    )
