"""``mpfl pivot``: the finished runs of a comparison as a table over any keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json
from benchmarks.results.loading import comparison_settings, load_folders
from benchmarks.results.measures import Estimate
from benchmarks.results.pivot import Place, pivot_cells
from benchmarks.results.rundata import RunData
from benchmarks.units import value_text
from mpfl.presets import parse_assignment


def pivot(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison or a run.")],
    rows: Annotated[str, typer.Option(help="Keys, comma-separated; label and seed are some.")],
    columns: Annotated[str, typer.Option(help="Keys, comma-separated.")],
    value: Annotated[
        str, typer.Option(help="A number of summary.json, or central_retrain.test_accuracy.")
    ] = "test_accuracy",
    where: Annotated[
        list[str], typer.Option(help="key=value: only runs with it; may be repeated.")
    ] = [],  # noqa: B006
    against: Annotated[
        list[str], typer.Option(help="key=value of rows or columns: differences to it, by seed.")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show a number of a comparison's finished runs by any keys: mean ± 95 % interval."""
    reporter = Reporter(quiet=False, as_json=as_json)
    heads, keys = rows.split(","), [*rows.split(","), *columns.split(",")]
    chosen = dict(parse_assignment(text, "--where") for text in where)
    reference = dict(parse_assignment(text, "--against") for text in against)
    cells = pivot_cells(_runs(folder, keys, reporter), keys, value, chosen, reference)
    unit = ", %" if value.endswith("accuracy") else ""
    minus = "".join(f", minus {text}" for text in against)
    reporter.say(f"{value}{unit}{minus}, by {columns}")
    reporter.say(_table(cells, heads, value))
    counts = {cell.count for cell in cells.values()}
    most = max(counts, default=0)
    if most > 1:
        fewer = " (n): over n seeds only." if len(counts) > 1 else ""
        reporter.say(f"Means over {most} seeds, ± 95 % interval.{fewer}")
    reporter.result([dict(zip(keys, place, strict=True)) | asdict(e) for place, e in cells.items()])


def _runs(folder: Path, keys: Sequence[str], reporter: Reporter) -> list[RunData]:
    """Return the finished runs in the order of configuration, first key first."""
    found = load_folders([folder])
    runs = found.runs
    failed = [*found.failures, *(run.folder for run in runs if run.failed)]
    if failed:
        reporter.note(f"failed, and in no mean: {', '.join(failed)}")
    if found.unfinished:
        reporter.note(f"not finished, and in no mean: {', '.join(found.unfinished)}")
    settings = comparison_settings([folder])
    orders = {"label": settings.get("methods", []), **settings.get("sweep", {})}

    def place(run: RunData) -> list[int]:
        values = {"label": run.label, **run.sweep}
        known = [key for key in dict.fromkeys((*keys, *orders)) if key in orders]
        return [[*orders[key], values.get(key)].index(values.get(key)) for key in known]

    runs.sort(key=lambda run: (place(run), run.seed))
    return runs


def _table(cells: Mapping[Place, Estimate], heads: Sequence[str], value: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for key in heads:
        table.add_column(key.rpartition(".")[2], no_wrap=True)
    columns = dict.fromkeys(place[len(heads) :] for place in cells)
    most = max((cell.count for cell in cells.values()), default=0)
    for column in columns:
        table.add_column("\n".join(map(str, column)), justify="right")
    for row in dict.fromkeys(place[: len(heads)] for place in cells):
        texts = (_text(cells.get((*row, *column)), value, most) for column in columns)
        table.add_row(*map(str, row), *texts)
    return table


def _text(cell: Estimate | None, value: str, most: int) -> str:
    """Return a mean and its interval, and over how many seeds where others have more."""
    if cell is None:
        return "–"
    parts = (cell.mean,) if cell.half_width is None else (cell.mean, cell.half_width)
    accuracy = value.endswith("accuracy")
    text = " ±".join(f"{100 * n:.2f}" if accuracy else value_text(value, n) for n in parts)
    return f"{text} ({cell.count})" if cell.count < most else text
