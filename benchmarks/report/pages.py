"""What stands on the page of a run and on that of a comparison, and in which order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.figures.costs import cost_pictures, spread_over_clients
from benchmarks.figures.curves import curve_pictures
from benchmarks.figures.errors import error_picture
from benchmarks.figures.groups import Panel, panels
from benchmarks.figures.one_run import byte_pictures, partition_map, pruning_pictures
from benchmarks.figures.savings import target_bars, waterfall
from benchmarks.figures.style import Picture, drawn, name_in, where
from benchmarks.figures.sweeps import sweep_pictures
from benchmarks.report import overview, provenance, sections
from benchmarks.report.doubts import doubts, setting
from benchmarks.report.headline import Headline, comparison_headlines, run_headline
from benchmarks.report.tables import Table
from benchmarks.report.trials import Trial
from benchmarks.results.ladder import ladders
from benchmarks.results.measures import group_runs
from benchmarks.results.published import Meeting
from benchmarks.results.rows import Row, by_setting
from benchmarks.results.rundata import RunData

_MOST_MASKS = 6


@dataclass(frozen=True)
class Page:
    """A template, what it shows, and the figures in it."""

    template: str
    shown: Mapping[str, Any]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Asked:
    """What a report is asked to measure.

    Attributes
    ----------
    baseline, margin, best_of
        See `comparison_table`.
    ladder
        See `ladders`.
    """

    baseline: str = "fedavg"
    margin: float = 0.005
    best_of: Sequence[str] = ()
    ladder: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _First:
    """A setting as it stands on the first screen: its figure and its table."""

    setting: str
    pictures: Sequence[Picture]
    table: Table


def run_page(run: RunData, rows: Sequence[Row], folder: Path) -> Page:
    """Return the page of one run."""
    layers = any(line.layer_density for line in run.rounds)
    (panel,) = panels([run], rows, "")
    curves = curve_pictures(panel.groups)
    pictures = {
        "curves": [
            *drawn(error_picture(panel)),
            *(item for item in curves if not (layers and item.name == "density_rounds")),
        ],
        "costs": byte_pictures(run),
        "pruning": pruning_pictures(run),
        "held": drawn(spread_over_clients(panel.groups), partition_map(run)),
    }
    shown = {
        "heading": f"{run.name}, seed {run.seed}",
        "headlines": [Headline("", run_headline(run))],
        "setting": setting([run]),
        "notes": doubts([run]),
        "facts": sections.facts(run),
        "transfers": sections.transfers({run.name: [run]}),
        **_origins([run], [folder]),
        **pictures,
    }
    return Page("run.html", shown, [item for part in pictures.values() for item in part])


def comparison_page(
    runs: Sequence[RunData],
    rows: Sequence[Row],
    asked: Asked,
    heading: str,
    notes: Sequence[str],
    folders: Sequence[Path],
    trials: Sequence[Trial] = (),
    met: Sequence[Meeting] = (),
) -> Page:
    """Return the page of several runs."""
    made = group_runs(runs)
    able = [row for row in rows if not row.failed] or [row for row in rows if row.method in made]
    groups = {row.method: made[row.method] for row in able}
    sound = [run for row in able for run in made[row.method]]
    parts = panels(sound, able, asked.baseline, runs)
    failed = {row.label for row in rows if row.failed}
    steps, gaps = ladders(sound, asked.ladder, asked.baseline, asked.margin, failed)
    first = [
        _First(
            panel.setting,
            drawn(error_picture(panel, [t.dot for t in trials if t.is_of(panel.setting)])),
            overview.first_table(_with_failed(panel, rows), asked.baseline),
        )
        for panel in parts
    ]
    pictures = {
        "steps": [waterfall(ladder) for ladder in steps],
        "bars": drawn(*(target_bars(panel, asked.baseline) for panel in parts)),
        **_costs(parts),
        "curves": [item for p in parts for item in curve_pictures(p.groups, p.setting)],
        "swept": sweep_pictures(sound, asked.baseline),
        "held": _partitions(parts),
    }
    masks = _masks([group[0] for group in groups.values()])
    shown = {
        "heading": heading,
        "headlines": comparison_headlines(rows, asked.baseline, asked.margin, steps),
        "setting": setting(runs),
        "notes": notes,
        "baseline": asked.baseline,
        "margin": asked.margin,
        "targeted": any(row.target is not None for row in rows),
        "by_validation": any(panel.by_validation for panel in parts),
        "first": first,
        "sampling": overview.sampling_error(parts, asked.baseline),
        "gaps": gaps,
        "equal": {p.setting: overview.equal_accuracy(p, asked.baseline) for p in parts},
        "methods": {
            name: sections.methods(part, asked.baseline) for name, part in by_setting(rows).items()
        },
        "published": sections.published(met),
        "budgets": sections.budgets(groups, asked.baseline),
        "models": sections.models(groups),
        "transfers": sections.transfers(groups),
        "times": sections.times(groups),
        "masks": masks,
        **_origins(sound, folders),
        **pictures,
    }
    figures = [item for part in first for item in part.pictures]
    figures += [item for part in pictures.values() for item in part]
    return Page("comparison.html", shown, [*figures, *(i for _, part in masks for i in part)])


def _with_failed(panel: Panel, rows: Sequence[Row]) -> Panel:
    """Return a panel with the rows of what failed in its setting, which nothing is drawn of."""
    failed = [row for row in rows if row.failed and row.setting in (panel.setting, "")]
    return replace(panel, rows=[*panel.rows, *(r for r in failed if r not in panel.rows)])


def _origins(runs: Sequence[RunData], folders: Sequence[Path]) -> dict[str, Any]:
    """Return what every page ends with."""
    first = provenance.first_to_read(runs)
    return {
        "first_run": first,
        "in_effect": provenance.in_effect(first),
        "codecs": provenance.codecs(group_runs(runs)),
        "differing": provenance.differing(runs),
        "environments": provenance.environments(runs),
        "origin": provenance.origin(runs),
        "reproductions": provenance.reproductions(folders),
    }


def _costs(parts: Sequence[Panel]) -> dict[str, list[Picture]]:
    """Return the figures on bytes by kind and on clients; those on claims stand elsewhere."""
    every = [item for p in parts for item in cost_pictures(p.groups, p.setting)]

    def named(start: str) -> list[Picture]:
        return [item for item in every if item.name.startswith(start)]

    kinds = [*named("byte_composition"), *named("client_accuracy")]
    return {"kinds": kinds, "claims": named("claimed_sent_possible")}


def _partitions(parts: Sequence[Panel]) -> list[Picture]:
    """Return who holds what, once for every setting with another partition."""
    found: dict[str, Picture] = {}
    for panel in parts:
        for group in panel.groups[:1]:
            made = partition_map(group.runs[0])
            if made is not None:
                named = name_in(made.name, panel.setting), made.title + where(panel.setting)
                key = repr(group.runs[0].summary.partition)
                found.setdefault(key, replace(made, name=named[0], title=named[1]))
    return list(found.values())


def _masks(firsts: Sequence[RunData]) -> list[tuple[RunData, list[Picture]]]:
    """Return the figures about the masks of runs of different methods, those with votes first."""
    voted = [run for run in firsts if any(line.vote for line in run.rounds)]
    masked = [run for run in firsts if run.mask is not None and run not in voted]
    chosen = [*voted, *masked][:_MOST_MASKS]
    return [(run, made) for run in chosen if (made := _own_pictures(run))]


def _own_pictures(run: RunData) -> list[Picture]:
    prefix = re.sub(r"[^A-Za-z0-9.]+", "_", run.name).strip("_")
    return [replace(item, name=f"{prefix}_{item.name}") for item in pruning_pictures(run)]
