"""``mpfl report``: the report of finished runs, built again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json, Out, Quiet
from benchmarks.report.table import table_text
from mpfl.errors import InputError

if TYPE_CHECKING:
    from benchmarks.report.write import Report


def report(
    folders: Annotated[list[Path], typer.Argument(help="Run or comparison folders.")],
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """(Re)build report.html and the figures from what the folders hold."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}")
    from benchmarks.report.write import write_report  # figures: `compare` waits for them later

    reporter = Reporter(quiet=quiet, as_json=as_json)
    found = write_report(folders[0] if len(folders) == 1 else folders, out)
    if quiet:
        reporter.conclude(table_text(found.rows, found.baseline))
    reporter.say(f"report: {found.path}")
    reporter.result(report_result(found))


def report_result(report: Report) -> dict[str, Any]:
    """Return what a script needs of a report: its page, its baseline, a table of all figures."""
    rows = [asdict(row) for row in report.rows]
    return {"report": str(report.path), "baseline": report.baseline, "rows": rows}
