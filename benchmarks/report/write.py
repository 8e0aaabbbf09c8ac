"""The report: one self-contained page, the figures as files, and the table as CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.figures.comparison import comparison_pictures
from benchmarks.figures.costs import spread_over_clients
from benchmarks.figures.groups import drawn_groups
from benchmarks.figures.one_run import byte_pictures, partition_map, pruning_pictures
from benchmarks.figures.style import Picture
from benchmarks.figures.sweeps import sweep_pictures
from benchmarks.report import context, page, parts
from benchmarks.report.headline import comparison_headline, run_headline
from benchmarks.report.table import table_csv, table_tex, table_text
from benchmarks.results.loading import comparison_settings, load_folders
from benchmarks.results.rows import Row, comparison_table
from benchmarks.results.rundata import RunData
from mpfl.errors import InputError

__all__ = ["Report", "comparison_table", "table_text", "write_report"]

_MOST_MASKS = 6
_CURVES = ("accuracy_bytes", "accuracy_bytes_zoom", "accuracy_rounds", "density_rounds")


@dataclass(frozen=True)
class Report:
    """What `write_report` wrote.

    Attributes
    ----------
    path
        The page.
    rows
        The comparison table.
    baseline
        What the rows are compared with.
    """

    path: Path
    rows: list[Row]
    baseline: str


def write_report(
    folders: Path | Sequence[Path],
    out: Path | None = None,
    *,
    baseline: str | None = None,
    margin: float | None = None,
) -> Report:
    """Write ``report.html``, ``figures/``, ``table.csv`` and ``table.tex``.

    Parameters
    ----------
    folders
        A run folder, a comparison folder, or several of either.
    out
        Where to write; the folder itself where there is just one.
    baseline, margin
        See `comparison_table`; by default what the comparison's own configuration says.

    Raises
    ------
    InputError
        One line naming what is missing or damaged.
    """
    chosen = [folders] if isinstance(folders, Path) else list(folders)
    if out is None:
        if len(chosen) != 1:
            raise InputError("a report on several folders needs a folder to write to")
        out = chosen[0]
    runs, unfinished = load_folders(chosen)
    asked = comparison_settings(chosen)
    baseline = baseline or str(asked.get("baseline", "fedavg"))
    margin = float(asked.get("margin", 0.005)) if margin is None else margin
    rows = comparison_table(runs, baseline, margin)
    if len(runs) == 1 and not unfinished:
        text, pictures = _run_page(runs[0], rows, baseline)
    else:
        heading = f"Comparison {out.resolve().name}"
        text, pictures = _comparison_page(runs, rows, unfinished, heading, baseline, margin)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for item in pictures:
        _write(out / "figures" / f"{item.name}.svg", item.svg.encode())
        _write(out / "figures" / f"{item.name}.png", item.png)
    _write(out / "table.csv", table_csv(rows).encode())
    _write(out / "table.tex", table_tex(rows, baseline).encode())
    _write(out / "report.html", text.encode())
    return Report(out / "report.html", rows, baseline)


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, so that nobody ever reads half of one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _run_page(run: RunData, rows: Sequence[Row], baseline: str) -> tuple[str, list[Picture]]:
    """Return the page on one run, and its figures."""
    curves = [
        item
        for item in comparison_pictures([run], rows, "")
        if item.name in ("accuracy_bytes", "accuracy_rounds")
        or (item.name == "density_rounds" and not any(n.layer_density for n in run.rounds))
    ]
    pruning, costs = pruning_pictures(run), byte_pictures(run)
    groups = drawn_groups([run], rows, baseline)
    held = [item for item in (spread_over_clients(groups), partition_map(run)) if item]
    body = (
        page.section("In figures", parts.run_facts(run))
        + page.section("Accuracy", page.figures(curves))
        + page.section("Bytes", page.figures(costs) + parts.link_table([run]))
        + page.section("Pruning and votes", page.figures(pruning))
        + page.section("Clients and data", page.figures(held))
        + page.section("Configuration and versions", context.provenance([run]))
    )
    heading = f"{run.name}, seed {run.seed}"
    notes = [context.setting([run]), *context.doubts([run])]
    text = page.page(f"mpfl: {heading}", heading, run_headline(run), notes, body)
    return text, [*curves, *costs, *pruning, *held]


def _comparison_page(
    runs: Sequence[RunData],
    rows: Sequence[Row],
    unfinished: Sequence[str],
    heading: str,
    baseline: str,
    margin: float,
) -> tuple[str, list[Picture]]:
    """Return the page on several runs, and its figures."""
    pictures = comparison_pictures(runs, rows, baseline)
    swept = sweep_pictures(runs, baseline)
    curves = [item for item in pictures if item.name in _CURVES]
    others = [item for item in pictures if item.name not in _CURVES]
    held = [item for item in (partition_map(runs[0]),) if item]
    masks, mask_sections = _mask_sections(runs, rows)
    notes = [context.setting(runs), *context.doubts(runs)]
    if unfinished:
        notes.append(f"Not finished, and not in any figure: {', '.join(unfinished)}.")
    body = (
        page.section("Comparison", parts.comparison(rows, baseline, margin))
        + page.section("Swept values", page.figures(swept))
        + page.section("Accuracy and density", page.figures(curves))
        + page.section("Bytes, clients, data", page.figures([*others, *held]))
        + page.section("More questions", parts.more_questions(runs, rows, baseline))
        + page.section("Masks and votes", mask_sections)
        + page.section("Configuration and versions", context.provenance(runs))
    )
    headline = comparison_headline(rows, baseline, margin)
    text = page.page(f"mpfl: {heading}", heading, headline, notes, body)
    return text, [*swept, *curves, *others, *held, *masks]


def _mask_sections(runs: Sequence[RunData], rows: Sequence[Row]) -> tuple[list[Picture], str]:
    """Return figures and folded sections about the masks of the first seed of each method."""
    firsts = [next(run for run in runs if run.name == row.method) for row in rows]
    voted = [run for run in firsts if any(line.vote for line in run.rounds)]
    masked = [run for run in firsts if run.mask is not None and run not in voted]
    pictures: list[Picture] = []
    html = ""
    for index, run in enumerate([*voted, *masked][:_MOST_MASKS]):
        made = [
            replace(item, name=f"{_file_name(run.name)}_{item.name}")
            for item in pruning_pictures(run)
        ]
        if made:
            pictures += made
            html += page.folded(f"{run.name}, seed {run.seed}", page.figures(made), index == 0)
    return pictures, html


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_")
