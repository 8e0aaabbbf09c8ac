"""``mpfl compare``: many methods, seeds and swept values on the same work, and their report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli import options
from benchmarks.cli.console import Reporter, rounds_done
from benchmarks.presets import parse_value, split_list
from benchmarks.report.table import table_text
from benchmarks.report.write import write_report
from benchmarks.running import comparison as comparing
from benchmarks.running.sinks import check_sink, show_in_sink
from mpfl.errors import InputError, RunError
from mpfl.nested import with_override
from server.health import ignored_text


def compare(
    config: options.Config,
    assignments: options.Set = [],  # noqa: B006 - typer copies it
    sweep: Annotated[list[str], typer.Option(help="key=value,value,…")] = [],  # noqa: B006
    methods: Annotated[str, typer.Option(help="Comma-separated, instead of the config's.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated, instead of the config's.")] = "",
    out: options.Out = None,
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
        table = with_override(table, "compare.methods", split_list(methods))
    if seeds:
        table = with_override(table, "compare.seeds", _values(seeds))
    if sweep:
        if methods and any(text.startswith("method=") for text in sweep):
            raise InputError("--methods and --sweep method=… both say what is compared; give one")
        swept = table.get("compare", {}).get("sweep", {})
        table = with_override(table, "compare.sweep", {**swept, **dict(map(_swept, sweep))})
    check_sink(sink)
    folder = out or options.new_folder(config, "compare-")
    compare_cells(table, folder, Reporter(quiet=quiet, as_json=as_json), sink)


def compare_cells(table: Mapping[str, Any], out: Path, reporter: Reporter, sink: str = "") -> None:
    """Run the unfinished cells of a comparison, write its report and show its table."""
    rest, config = comparing.split_table(table)
    cells = comparing.plan_cells(rest, config)
    if idle := comparing.idle_settings(rest, config, cells):
        reporter.note(f"without effect: {ignored_text(idle)}")
    rounds = sum(cell.experiment.federation.rounds for cell in cells)
    done = sum(rounds_done(cell, out) for cell in cells)
    with reporter.rounds(rounds, f"{len(cells)} runs", done):
        watch = show_in_sink(sink, out, reporter.cell_watcher(cells, out))
        failed = comparing.compare(table, cells, out, watch)
    for name, error in failed.items():
        reporter.warn(f"failed: {name}: {error}")
    if len(failed) == len(cells):
        raise RunError(f"all {len(cells)} runs of this comparison failed")
    report = write_report(out)
    reporter.say(table_text(report.rows, report.baseline))
    reporter.say(f"report: {out / 'report.html'}")
    reporter.result([asdict(row) for row in report.rows])
    reporter.losses()
    if failed:
        raise RunError(f"{len(failed)} of {len(cells)} runs failed; mpfl resume {out} tries again")


def _swept(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals:
        raise InputError(f"--sweep: got {text!r}, expected key=value,value")
    return key, _values(values)


def _values(text: str) -> list[Any]:
    return [parse_value(value) for value in split_list(text)]
