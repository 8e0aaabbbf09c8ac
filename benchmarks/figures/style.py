"""How figures look: palette, fonts, legends, and their deterministic rendering to SVG and PNG."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.figures.palette import GRID, INK, MUTED, PAPER, Style
from benchmarks.units import bytes_text

COLUMN = 3.35
"""Width of a figure in inches: one column of a printed page (85 mm)."""

_SETTINGS: Any = {
    "svg.hashsalt": "mpfl",
    "text.parse_math": False,  # names of layers and variants may hold a dollar
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.8,
    "hatch.linewidth": 0.6,
}


@dataclass(frozen=True)
class Spot:
    """A place in a figure that says its values when one points at it.

    Attributes
    ----------
    axes, x, y
        Where it is, in the data's units.
    text
        What it says.
    """

    axes: Axes
    x: float
    y: float
    text: str


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
    svg, png, pdf
        The rendered figure.
    spots
        (x, y, text) in the units of the SVG: what a reader who points there is told.
    """

    name: str
    title: str
    caption: str
    alternative: str
    svg: str
    png: bytes
    pdf: bytes
    spots: tuple[tuple[float, float, str], ...] = ()


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that makes figures: it runs under the house style."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    wrapped.__name__, wrapped.__doc__ = draw.__name__, draw.__doc__
    return wrapped


def picture(
    figure: Figure,
    name: str,
    title: str,
    caption: str,
    alternative: str,
    spots: Sequence[Spot] = (),
) -> Picture:
    """Render a figure. The same figure gives the same bytes on every call."""
    settle(figure)
    vector, pixels, page = io.StringIO(), io.BytesIO(), io.BytesIO()
    figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(pixels, format="png", dpi=240, metadata={"Software": None})
    unknown = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    figure.savefig(page, format="pdf", metadata=unknown)
    drawings = vector.getvalue(), pixels.getvalue(), page.getvalue()
    return Picture(name, title, caption, alternative, *drawings, _places(figure, spots))


def name_in(name: str, setting: str) -> str:
    """Return the file name of a figure on one setting.

    Examples
    --------
    >>> name_in("error_bytes", "partition=dirichlet(0.3)"), name_in("error_bytes", "")
    ('error_bytes_partition_dirichlet_0.3', 'error_bytes')
    """
    return re.sub(r"[^A-Za-z0-9.]+", "_", f"{name}_{setting}").strip("_") if setting else name


def where(setting: str) -> str:
    """Return what a title adds for a setting."""
    return f", {setting}" if setting else ""


def settle(figure: Figure) -> None:
    """Lay a figure out once, not again for every format or label."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def _places(figure: Figure, spots: Sequence[Spot]) -> tuple[tuple[float, float, str], ...]:
    """Return where spots are in the SVG, whose unit is a point and whose y points down."""
    scale, height = 72 / figure.dpi, 72 * figure.get_figheight()
    found = []
    for spot in spots:
        x, y = scale * spot.axes.transData.transform((spot.x, spot.y))
        left, low, right, high = (scale * end for end in spot.axes.bbox.extents)
        if left - 1 <= x <= right + 1 and low - 1 <= y <= high + 1:
            found.append((round(float(x), 1), round(float(height - y), 1), spot.text))
    return tuple(found)


def drawn(*pictures: Picture | None) -> list[Picture]:
    """Return the pictures for which there was something to draw."""
    return [item for item in pictures if item is not None]


def new_figure(
    height: float = 2.4, width: float = COLUMN, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure (inches) and its axes: one, or an array of shape [rows, columns]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes[0, 0] if rows == columns == 1 else axes


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
    axis.set_major_locator(LogLocator(subs=subs, numticks=6 if axis.axis_name == "x" else 12))
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
        label.set_fontsize(6.5 if "\n" in name else 7)


def row_height(names: Sequence[str], height: float) -> float:
    """Return the height (inches) that `row_names` needs for all rows of at least `height` each."""
    lines = max((len(textwrap.wrap(name, _LONGEST_NAME)) for name in names), default=1)
    return len(names) * max(0.78 * height, 0.1 * lines + 0.06)


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
        1, min(columns, len(lines), int(figure.get_figwidth() * 72 / (4.2 * longest + 34)))
    )
    rows = -(-len(lines) // columns)
    columns = -(-len(lines) // rows)  # as even as it gets
    figure.set_figheight(figure.get_figheight() + 0.15 * rows)
    figure.legend(
        lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=columns
    )
