"""``mpfl compare``: many methods, seeds and swept values on the same work, and their report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli import options
from benchmarks.cli.console import Reporter, rounds_done
from benchmarks.cli.report import report_result
from benchmarks.report.table import meetings_text, table_text
from benchmarks.running import comparison as comparing
from benchmarks.running.cell import CELLS, Cell
from benchmarks.running.compare_config import split_table
from benchmarks.running.interruption import resumable
from benchmarks.running.sinks import check_sink, show_in_sink
from mpfl.errors import InputError, RunError, shown
from mpfl.nested import with_override
from mpfl.presets import parse_list, parse_names
from server.health import ignored_text


def compare(
    config: options.Config,
    assignments: options.Set = [],  # noqa: B006 - typer copies it
    sweep: Annotated[list[str], typer.Option(help="key=value,value,…; may be repeated.")] = [],  # noqa: B006
    methods: Annotated[str, typer.Option(help="Comma-separated, instead of the config's.")] = "",
    seeds: Annotated[str, typer.Option(help="Such as 0,1,2 or 0-2, instead of the config's.")] = "",
    wire: Annotated[str, typer.Option(help="A value codec: one wire, both ways, for all.")] = "",
    out: options.OutAgain = None,
    plugins: options.Plugins = [],  # noqa: B006
    data_dir: options.DataDir = None,
    download: options.Download = False,
    sink: options.Sink = "",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Run many methods and seeds on the same work; finished cells are not run again."""
    table = options.configured(config, assignments, data_dir, download, plugins)
    if methods:
        table = with_override(table, "compare.methods", parse_names(methods, "--methods"))
    if seeds:
        table = with_override(table, "compare.seeds", options.seeds_of(seeds, "--seeds"))
    if wire:
        table = with_override(table, "compare.wire", wire)
    if sweep:
        if methods and any(text.startswith("method=") for text in sweep):
            raise InputError("--methods and --sweep method=… both say what is compared; give one")
        table = with_override(table, "compare.sweep", {**_swept_so_far(table), **swept_of(sweep)})
    check_sink(sink)
    folder = out or options.new_folder(config, "compare-")
    reporter = Reporter(quiet=quiet, as_json=as_json)
    reporter.notes(options.renamed_keys(config, assignments))
    compare_cells(table, folder, reporter, sink)


def compare_cells(table: Mapping[str, Any], out: Path, reporter: Reporter, sink: str = "") -> None:
    """Run the unfinished cells of a comparison, write its report and show its table."""
    rest, config = split_table(table)
    cells = comparing.plan_cells(rest, config)
    if idle := comparing.idle_settings(rest, config, cells):
        reporter.note(f"without effect: {ignored_text(idle)}")
    own = [cell for cell in cells if not cell.same_as]
    if len(own) < len(cells):
        reporter.note(f"{len(cells) - len(own)} of {len(cells)} cells share the run of another one")
    rounds = sum(cell.experiment.federation.rounds for cell in own)
    done = sum(rounds_done(cell, out) for cell in own)
    with resumable(out):
        with reporter.rounds(rounds, f"{len(own)} runs", done):
            watch = show_in_sink(sink, out, reporter.cell_watcher(own, out))
            failed = comparing.compare(table, cells, out, watch)
        for name, error in failed.items():
            reporter.warn(f"failed: {name}: {error}")
        if len(failed) == len(cells):
            raise RunError(f"all {len(cells)} runs of this comparison failed")
        from benchmarks.report.write import write_report  # figures: when all runs are over

        report = write_report(out)
    reporter.conclude(table_text(report.rows, report.baseline))
    if report.meetings:
        reporter.conclude(meetings_text(report.meetings))
    reporter.say(f"report: {report.path}")
    runs = [_place(cell, out, failed) for cell in cells]
    reporter.result({**report_result(report), "folder": str(out), "runs": runs, "failed": failed})
    reporter.losses()
    if failed:
        raise RunError(f"{len(failed)} of {len(cells)} runs failed; mpfl resume {out} tries again")


def _place(cell: Cell, out: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """Return where a cell's run is, and what it is of."""
    folder = out / CELLS / (cell.same_as or cell.name)
    place = {"name": cell.name, "label": cell.label, "seed": cell.seed, "sweep": dict(cell.sweep)}
    return {**place, "folder": str(folder), "failed": cell.name in failed}


def swept_of(options: Sequence[str]) -> dict[str, list[Any]]:
    """Read every ``--sweep key=value,value``; InputError for one without values, or a key twice.

    Examples
    --------
    >>> swept_of(["prune.density=0.1,0.2"])
    {'prune.density': [0.1, 0.2]}
    """
    swept: dict[str, list[Any]] = {}
    for text in options:
        key, equals, values = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--sweep: got {shown(text)}, expected key=value,value")
        if key.strip() in swept:
            raise InputError(f"--sweep: {key.strip()!r} is given twice")
        swept[key.strip()] = parse_list(values, "--sweep")
    return swept


def _swept_so_far(table: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = table.get("compare", {})
    swept = settings.get("sweep", {}) if isinstance(settings, Mapping) else {}
    return swept if isinstance(swept, Mapping) else {}
