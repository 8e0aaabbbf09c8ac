"""``mpfl mask``: look at mask files, compare them, hand them to other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Column, Table

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json, write_output
from benchmarks.figures.one_run import mask_blocks, weight_shape
from benchmarks.figures.style import Picture, new_figure, picture, styled
from benchmarks.results.loading import check_run, read_own_mask, weight_shapes
from benchmarks.results.mask_export import FORMATS, export_mask, run_of
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.registry import unknown_name

_RAMP = " .:-=+*#%@"
_CELLS = 48

app = typer.Typer(help="Show, compare and export mask files.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A mask file, e.g. mask.mpfl of a run folder.")]
Run = Annotated[Path | None, typer.Option("--run", help="Run folder; else the file's own folder.")]


@app.command()
def show(
    file: File,
    layer: Annotated[str, typer.Option(help="Only this layer.")] = "",
    heat: Annotated[bool, typer.Option("--heat", help="Draw heat maps with letters.")] = False,
    png: Annotated[Path | None, typer.Option(help="Write the heat maps to this file.")] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Show units, kept units and density of each layer, and the digest."""
    home = run_of(file, run)
    mask = read_own_mask(file)
    reporter = Reporter(quiet=False, as_json=as_json)
    chosen = _chosen(mask, layer)
    rows = [row for row in layer_rows(mask) if row["layer"] in chosen]
    reporter.say(_layer_table(rows, mask, bool(layer)))
    reporter.say(f"digest {mask.digest()}")
    reporter.result({**_overall(mask), "digest": mask.digest(), "layers": rows})
    if not heat and png is None:
        return
    shapes = weight_shapes(home)
    blocks = {
        name: mask_blocks(bits, weight_shape(name, shapes), _CELLS)
        for name, bits in mask.layers().items()
        if name in chosen
    }
    if heat:
        for name, block in blocks.items():
            most = float(block.max())
            reporter.say(f"\n{name}: density of blocks of units, ' ' is 0 and '@' is {most:.2g}")
            reporter.say("\n".join(heat_lines(block)))
    if png is not None:
        write_output(png, heat_picture(blocks).png, "--png")
        reporter.say(f"heat map: {png}")


@app.command()
def export(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    form: Annotated[str, typer.Option("--format", help="npz, torch or prune.")] = "npz",
    run: Run = None,
) -> None:
    """Write a mask for other programs: NumPy, torch, or torch.nn.utils.prune with the model."""
    FORMATS[form]
    home = run_of(file, run)
    check_run(run)
    export_mask(read_own_mask(file), form, out, home)
    Reporter(quiet=False, as_json=False).say(f"{form}: {out}")


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A mask file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same layers.")],
    as_json: Json = False,
) -> None:
    """Compare two masks: units that only one keeps, that both keep, and the Jaccard overlap."""
    rows = diff_rows(read_own_mask(first), read_own_mask(second))
    reporter = Reporter(quiet=False, as_json=as_json)
    table = Table("layer", *(_right(n) for n in ("units", "only A", "only B", "both", "Jaccard")))
    for row in rows:
        table.add_row(
            row["layer"],
            *(f"{row[key]:,}" for key in ("units", "only_a", "only_b", "both")),
            f"{row['jaccard']:.4f}",
            end_section=row is rows[-2],
        )
    reporter.say(table)
    reporter.result({"layers": rows[:-1], "all": rows[-1]})


def layer_rows(mask: Mask) -> list[dict[str, Any]]:
    """Return ``layer``, ``units``, ``kept`` and ``density`` of each layer."""
    layout = mask.layout
    return [
        {"layer": name, "units": units, "kept": kept, "density": kept / units}
        for name, units, kept in zip(layout.names, layout.units, mask.counts(), strict=True)
    ]


def diff_rows(first: Mask, second: Mask) -> list[dict[str, Any]]:
    """Return per layer, and last for ``all`` of them, who keeps what.

    ``only_a``, ``only_b`` and ``both`` are units; ``jaccard`` is |A ∩ B| / |A ∪ B|, 1.0 where
    neither keeps anything.

    Raises
    ------
    InputError
        If the masks are not over the same layers.
    """
    if first.layout != second.layout:
        raise InputError(
            f"the masks have different layers: {_layers(first)} in A, {_layers(second)} in B"
        )
    names = first.layout.names
    only_a, only_b = (first & ~second).counts(), (second & ~first).counts()
    both = (first & second).counts()
    rows = [
        _diff_row(name, units, a, b, c)
        for name, units, a, b, c in zip(
            names, first.layout.units, only_a, only_b, both, strict=True
        )
    ]
    total = _diff_row("all", first.layout.total, sum(only_a), sum(only_b), sum(both))
    return [*rows, total]


def heat_lines(block: NDArray[np.float64]) -> list[str]:
    """Draw densities as text, a character a cell: blank for 0 only, ``@`` for the densest."""
    most = float(block.max()) or 1.0
    level = np.ceil(block / most * (len(_RAMP) - 1) - 1e-9).astype(int)
    return ["".join(_RAMP[i] for i in row) for row in level]


@styled
def heat_picture(blocks: dict[str, NDArray[np.float64]]) -> Picture:
    """Draw block densities, one panel a layer, each from 0 to its densest block."""
    columns = min(3, len(blocks))
    rows = -(-len(blocks) // columns)
    size = {"width": 0.3 + 2.4 * columns, "height": 2.2 * rows}
    figure, axes = new_figure(rows=rows, columns=columns, **size)
    panels = list(np.atleast_1d(axes).flat)
    for panel, (name, block) in zip(panels, blocks.items(), strict=False):
        most = float(block.max()) or 1.0
        panel.imshow(
            block, cmap="cividis", vmin=0, vmax=most, aspect="auto", interpolation="nearest"
        )
        panel.set_title(f"{name}\n0 to {most:.2g}")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(visible=False)
    for panel in panels[len(blocks) :]:
        panel.set_axis_off()
    return picture(
        figure,
        "mask",
        "Mask",
        "Density of blocks of units, outputs down, inputs across, dark for 0.",
        f"Heat maps of the layers {', '.join(blocks)}.",
    )


def _chosen(mask: Mask, layer: str) -> Sequence[str]:
    if layer and layer not in mask.layout.names:
        raise unknown_name("layer", layer, mask.layout.names)
    return [layer] if layer else mask.layout.names


def _overall(mask: Mask) -> dict[str, Any]:
    return {"units": mask.layout.total, "kept": mask.count(), "density": mask.density()}


def _layer_table(rows: list[dict[str, Any]], mask: Mask, one: bool) -> Table:
    table = Table("layer", *(_right(name) for name in ("units", "kept", "density")))
    for row in rows if one else [*rows, {"layer": "all", **_overall(mask)}]:
        cells = (row["layer"], f"{row['units']:,}", f"{row['kept']:,}", f"{row['density']:.4f}")
        table.add_row(*cells, end_section=row is rows[-1])
    return table


def _diff_row(name: str, units: int, only_a: int, only_b: int, both: int) -> dict[str, Any]:
    either = only_a + only_b + both
    return {
        "layer": name,
        "units": units,
        "only_a": only_a,
        "only_b": only_b,
        "both": both,
        "jaccard": both / either if either else 1.0,
    }


def _layers(mask: Mask) -> str:
    return ", ".join(f"{n}[{u}]" for n, u in zip(mask.layout.names, mask.layout.units, strict=True))


def _right(name: str) -> Any:
    return Column(name, justify="right")
