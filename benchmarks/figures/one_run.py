"""Figures of one run: layers, the mask, bytes per round, and who holds what data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from benchmarks.figures.costs import composition
from benchmarks.figures.palette import BLUE, INK, SKY, VERMILION, layer_style
from benchmarks.figures.style import (
    Picture,
    byte_axis,
    draw_line,
    drawn,
    legend_below,
    new_figure,
    percent_axis,
    picture,
    round_axis,
    styled,
)
from benchmarks.figures.votes import last_histogram, rule_density, vote_agreement
from benchmarks.results.measures import byte_composition
from benchmarks.results.rundata import RunData
from benchmarks.units import bytes_text

_MOST_LAYERS = 12


def pruning_pictures(run: RunData) -> list[Picture]:
    """Return the figures about a run's mask and votes that its folder has data for."""
    votes = (vote_agreement(run), rule_density(run), last_histogram(run))
    return drawn(layer_density(run), *votes, mask_maps(run))


def byte_pictures(run: RunData) -> list[Picture]:
    """Return the figures about a run's bytes, by phase and by round."""
    phases = dict.fromkeys(run.ledger.phase)
    parts = [(f"phase {phase}", byte_composition(run, phase)) for phase in phases]
    return drawn(composition(parts, "a phase's"), bytes_per_round(run))


@styled
def draw_run(run: RunData) -> Figure:
    """Draw a run in two panels: test accuracy per round, and bytes sent until then."""
    figure, axes = new_figure(2.6, 6.9, 1, 2)
    accuracy, cost = axes[0]
    tested = run.evaluated
    reached = [line.test_accuracy for line in tested]
    accuracy.plot([line.round for line in tested], reached, color=VERMILION, marker="o")
    accuracy.set(ylabel="test accuracy (%)", title=f"{run.name}, seed {run.seed}", ylim=(0, 1.03))
    percent_axis(accuracy.yaxis)
    rounds = [line.round for line in run.rounds]
    up = [line.uplink_bytes for line in run.rounds]
    down = [line.downlink_bytes for line in run.rounds]
    cost.plot(rounds, up, color=VERMILION, marker="^", label="uplink")
    cost.plot(rounds, down, color=BLUE, marker="v", ls="--", label="downlink")
    cost.set(ylabel="bytes sent until then", title="all clients")
    cost.yaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value)))
    cost.set_ylim(bottom=0)
    cost.legend()
    round_axis(accuracy)
    round_axis(cost)
    return figure


@styled
def layer_density(run: RunData) -> Picture | None:
    """Draw each layer's density over rounds."""
    lines = [line for line in run.rounds if line.layer_density]
    if not lines or all(min(line.layer_density.values()) >= 1 for line in lines):
        return None
    figure, axes = new_figure(2.29)
    names = list(lines[-1].layer_density)
    rounds = [line.round for line in lines]
    for index, name in enumerate(names):
        densities = [line.layer_density.get(name, math.nan) for line in lines]
        draw_line(axes, rounds, densities, layer_style(index), label=name)
    axes.set(ylabel="density of the layer", ylim=(0, 1.03))
    round_axis(axes)
    legend_below(figure, axes, 4)
    last = lines[-1].layer_density
    return picture(
        figure,
        "layer_density",
        "Density per layer",
        "Share of each layer's prunable parameters that survive after each round.",
        "Final densities: "
        + ", ".join(f"{name} {value:.3g}" for name, value in last.items())
        + ".",
    )


@styled
def mask_maps(run: RunData) -> Picture | None:
    """Draw where each layer's survivors are, as the density of blocks."""
    if run.mask is None or run.mask.density() >= 1:
        return None
    layers = list(run.mask.layers().items())
    shown = layers[:_MOST_LAYERS]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(1.25 * rows, rows=rows, columns=columns)
    blocks = [mask_blocks(keep, weight_shape(name, run.shapes)) for name, keep in shown]
    for panel, (name, _), block in zip(axes.flat, shown, blocks, strict=False):
        panel.imshow(block, cmap="cividis", vmin=0, aspect="auto", interpolation="nearest")
        panel.set_title(f"{name}\n0 to {float(block.max()):.2g}", fontsize=6.5)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
    for panel in list(axes.flat)[len(shown) :]:
        panel.set_axis_off()
    rest = len(layers) - len(shown)
    return picture(
        figure,
        "mask_maps",
        "Where the survivors are",
        "The final mask, layer by layer: rows are outputs, columns are inputs, each cell the "
        "density of a block of units, dark for 0, bright for the layer's densest block (title). "
        "Dark columns are inputs, dark rows outputs, that nothing uses. Where whole filters are "
        "kept or cut, a row is one filter."
        + (f" {rest} further layer{'s' * (rest > 1)} not shown." if rest else ""),
        "Heat maps of the final mask. Densities: "
        + ", ".join(f"{name} {float(keep.mean()):.3g}" for name, keep in layers)
        + ".",
    )


def weight_shape(layer: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of a layer's weight; recurrent layers are named after the tensor itself."""
    return shapes.get(f"{layer}.weight", shapes.get(layer, ()))


def mask_blocks(
    keep: NDArray[np.bool_], shape: Sequence[int], most: int = 56
) -> NDArray[np.float64]:
    """Return the densities of blocks of a layer's mask, at most `most` × `most` of them.

    Parameters
    ----------
    keep
        bool[units] of the layer.
    shape
        Shape of the layer's weight. Whole filters are one row each, kernels a cell each; units
        that match nothing of the shape are shown as one row.
    """
    matching = any(math.prod(shape[:count]) == keep.size for count in range(1, len(shape) + 1))
    grid = keep.reshape(shape[0] if matching else 1, -1)
    return _block_means(_block_means(grid.astype(np.float64), most).T, most).T


def _block_means(grid: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Average rows into at most `most` bands of nearly equal height, each row in exactly one."""
    edges = np.linspace(0, grid.shape[0], min(most, grid.shape[0]) + 1).round().astype(int)
    sums = np.add.reduceat(grid, edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None]


@styled
def bytes_per_round(run: RunData) -> Picture | None:
    """Draw claimed, sent and possible bytes of every round."""
    ledger = run.ledger
    if not len(ledger):
        return None
    rounds = np.unique(ledger.round)
    place = np.searchsorted(rounds, ledger.round)
    figure, axes = new_figure(2.22)
    draw = (
        ("claimed", ledger.formula_bytes, SKY, "v", "--"),
        ("sent", ledger.message_bytes.astype(np.float64), INK, "o", "-"),
        ("possible", ledger.bound_bytes, VERMILION, "D", ":"),
    )
    for label, values, color, marker, line in draw:
        if np.isfinite(values).any():
            sums = np.bincount(place, np.nan_to_num(values), rounds.size)
            axes.plot(
                rounds,
                np.where(sums > 0, sums, np.nan),
                color=color,
                marker=marker,
                ls=line,
                ms=4,
                markevery=max(1, rounds.size // 16),
                label=label,
            )
    axes.set_yscale("log")
    byte_axis(axes.yaxis)
    axes.set_ylabel("bytes of the round (log scale)")
    round_axis(axes)
    legend_below(figure, axes)
    sent = np.bincount(place, ledger.message_bytes, rounds.size)
    return picture(
        figure,
        "bytes_rounds",
        "Claimed, sent, possible per round",
        "Bytes of all messages of a round, both directions: by the formula of the method's paper, "
        "as serialized, and the entropy of the content, each unit for itself, given what the "
        "receiver knows (a code that finds patterns among units can stay below). Log scale.",
        f"Bytes per round from {sent[0]:.0f} in round {rounds[0]} to {sent[-1]:.0f} in round "
        f"{rounds[-1]}.",
    )


@styled
def partition_map(run: RunData) -> Picture | None:
    """Draw how many samples of each class each client holds."""
    if not run.summary.partition:
        return None
    counts = np.asarray(run.summary.partition, np.float64)
    clients, classes = counts.shape
    figure, axes = new_figure(min(3.4, 1.2 + 0.09 * clients))
    image = axes.imshow(counts, cmap="cividis", vmin=0, aspect="auto", interpolation="nearest")
    axes.set_xlabel("class")
    axes.set_ylabel("client")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("samples")
    bar.outline.set_visible(False)
    held = counts.sum(axis=1)
    kind = str(run.config.get("data", {}).get("partition", ""))
    typical = float(np.median((counts > 0).sum(axis=1)))
    return picture(
        figure,
        "partition",
        "Who holds what",
        f"Training samples of each class at each of {clients} clients"
        + (f" (partition {kind})." if kind else "."),
        f"Clients hold between {held.min():.0f} and {held.max():.0f} samples; half of them have "
        f"at most {typical:.0f} of {classes} classes.",
    )
