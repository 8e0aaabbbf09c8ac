"""``mpfl report``: the report of finished runs, built again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.options import Out
from benchmarks.report.write import write_report
from benchmarks.units import printable
from mpfl.errors import InputError


def report(
    folders: Annotated[list[Path], typer.Argument(help="Run or comparison folders.")],
    out: Out = None,
) -> None:
    """(Re)build report.html and the figures from what the folders hold."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}")
    result = write_report(folders[0] if len(folders) == 1 else folders, out)
    print(printable(f"report: {result.path}"))
