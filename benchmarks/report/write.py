"""The report: one self-contained page, the figures as files, and the table as CSV and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmarks import units
from benchmarks.figures.costs import cost_pictures, spread_over_clients
from benchmarks.figures.curves import common_target, curve_pictures
from benchmarks.figures.groups import drawn_groups
from benchmarks.figures.one_run import byte_pictures, partition_map, pruning_pictures
from benchmarks.figures.style import GRID, INK, MUTED, PAPER, Picture, drawn
from benchmarks.figures.sweeps import sweep_pictures
from benchmarks.report import sections
from benchmarks.report.headline import comparison_headline, doubts, run_headline, setting
from benchmarks.report.table import table_csv, table_tex
from benchmarks.results.loading import REPORT, comparison_settings, load_failures, load_folders
from benchmarks.results.measures import LINKS, group_runs
from benchmarks.results.published import Meeting, meetings
from benchmarks.results.rows import Row, comparison_table
from benchmarks.results.rundata import RunData
from mpfl.errors import InputError
from server.custody import held, write_atomically, writing

_MOST_MASKS = 6

_TONES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--card)"}
_TONE = re.compile("|".join(map(re.escape, _TONES)))
_IDS = re.compile(r'(\bid="|href="#|url\(#)')
_HEAD = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', re.DOTALL)
_SVG = '<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{}" role="img" aria-label="{}">'
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


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
    meetings
        Published accuracies beside those reached.
    """

    path: Path
    rows: list[Row]
    baseline: str
    meetings: list[Meeting]


@dataclass(frozen=True)
class _Page:
    """A template, what it shows, and the figures in it."""

    template: str
    shown: Mapping[str, Any]
    pictures: Sequence[Picture]


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
    failures = load_failures(chosen)
    rows = comparison_table(runs, baseline, margin, list(failures.values()))
    met = meetings(runs, asked)
    if len(runs) == 1 and not unfinished and not met:
        page = _run_page(runs[0], rows, baseline)
    else:
        heading = f"Comparison {out.resolve().name}"
        notes = [setting(runs), *doubts(runs, unfinished, failures)]
        page = _comparison_page(runs, rows, notes, heading, baseline, margin, met)
    figures = {f"{item.name}.svg": item.svg.encode() for item in page.pictures}
    figures |= {f"{item.name}.png": item.png for item in page.pictures}
    contents = {f"figures/{name}": content for name, content in figures.items()}
    contents["table.csv"] = table_csv(rows).encode()
    contents["table.tex"] = table_tex(rows, baseline).encode()
    contents[REPORT] = _rendered(page, runs).encode()  # last: it says that all is there
    _write(out, contents)
    return Report(out / REPORT, rows, baseline, met)


def _write(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files, whole ones even if two processes report on one folder."""
    with writing(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
        with held(out / "figures", patience=60, queue=True):
            for name, content in contents.items():
                write_atomically(out / name, content)


def _run_page(run: RunData, rows: Sequence[Row], baseline: str) -> _Page:
    layers = any(line.layer_density for line in run.rounds)
    curves = curve_pictures(drawn_groups([run], rows, ""))
    groups = drawn_groups([run], rows, baseline)
    pictures = {
        "curves": [item for item in curves if not (layers and item.name == "density_rounds")],
        "costs": byte_pictures(run),
        "pruning": pruning_pictures(run),
        "held": drawn(spread_over_clients(groups), partition_map(run)),
    }
    shown = {
        "heading": f"{run.name}, seed {run.seed}",
        "headline": run_headline(run),
        "notes": [setting([run]), *doubts([run])],
        "facts": sections.facts(run),
        "transfers": sections.transfers({run.name: [run]}),
        **pictures,
    }
    return _Page("run.html", shown, [item for part in pictures.values() for item in part])


def _comparison_page(
    runs: Sequence[RunData],
    rows: Sequence[Row],
    notes: Sequence[str],
    heading: str,
    baseline: str,
    margin: float,
    met: Sequence[Meeting],
) -> _Page:
    made = group_runs(runs)
    able = [row for row in rows if not row.failed] or list(rows)
    groups = {row.method: made[row.method] for row in able}
    sound = [run for row in able for run in made[row.method]]
    lines = drawn_groups(sound, able, baseline)
    pictures = {
        "swept": sweep_pictures(sound, baseline),
        "curves": curve_pictures(lines, common_target(able)),
        "others": [*cost_pictures(lines), *drawn(partition_map(runs[0]))],
    }
    masks = _masks([group[0] for group in groups.values()])
    shown = {
        "heading": heading,
        "headline": comparison_headline(rows, baseline, margin),
        "notes": notes,
        "baseline": baseline,
        "margin": margin,
        "targets": sorted({row.target for row in rows if row.target is not None}),
        "methods": sections.methods(rows, baseline),
        "published": sections.published(met),
        "budgets": sections.budgets(groups, baseline),
        "models": sections.models(groups),
        "transfers": sections.transfers(groups),
        "times": sections.times(groups),
        "masks": masks,
        **pictures,
    }
    parts = [*pictures.values(), *(part for _, part in masks)]
    return _Page("comparison.html", shown, [item for part in parts for item in part])


def _masks(firsts: Sequence[RunData]) -> list[tuple[RunData, list[Picture]]]:
    """Return the figures about the masks of runs of different methods, those with votes first."""
    voted = [run for run in firsts if any(line.vote for line in run.rounds)]
    masked = [run for run in firsts if run.mask is not None and run not in voted]
    chosen = [*voted, *masked][:_MOST_MASKS]
    return [(run, made) for run in chosen if (made := _own_pictures(run))]


def _own_pictures(run: RunData) -> list[Picture]:
    prefix = re.sub(r"[^A-Za-z0-9.]+", "_", run.name).strip("_")
    return [replace(item, name=f"{prefix}_{item.name}") for item in pruning_pictures(run)]


def _rendered(page: _Page, runs: Sequence[RunData]) -> str:
    """Return the whole page, with what every page ends with."""
    shown = {
        **page.shown,
        "runs": runs,
        "differing": sections.differing(runs),
        "environments": sections.environments(runs),
        "in_effect": sections.in_effect(runs[0]),
    }
    return _templates().get_template(page.template).render(shown)


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("benchmarks.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": units.bytes_text,
        "percent": units.percent_text,
        "toml": tomli_w.dumps,
        "inline_svg": _inline_svg,
    }
    environment.globals["links"] = LINKS
    return environment


def _inline_svg(picture: Picture) -> str:
    """Return a drawing to put into a page: the only HTML that is not a template's.

    Its ids get the picture's name in front (two drawings share one page), and its four tones
    become the page's own, so that it follows dark mode.
    """
    text = picture.svg[picture.svg.index("<svg") :]
    text = _METADATA.sub("", text)
    text = _IDS.sub(lambda match: f"{match[1]}{picture.name}-", text)
    text = _TONE.sub(lambda match: _TONES[match[0]], text)
    label = escape(picture.alternative)
    return _HEAD.sub(lambda match: _SVG.format(match[1], label), text, count=1).strip()
