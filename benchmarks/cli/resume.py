"""``mpfl resume``: a killed run or comparison goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cli.compare import compare_cells
from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json, Quiet
from benchmarks.cli.run import conclude
from benchmarks.running import experiment as running
from benchmarks.running.comparison import COMPARISON
from mpfl.nested import read_toml
from server.runfolder import RunFolder


def resume(
    folder: Annotated[Path, typer.Argument(help="A run folder or a comparison folder.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Continue a killed run or comparison; the result equals the uninterrupted one."""
    reporter = Reporter(quiet=quiet, as_json=as_json)
    if (folder / COMPARISON).is_file():
        compare_cells(read_toml((folder / COMPARISON).read_text()), folder, reporter)
        return
    run_folder, experiment, progress = RunFolder.open(folder)
    if run_folder.finished:
        reporter.say(f"{folder} is finished; nothing to do")
        return
    done = progress.facts["round"] if progress else 0
    with reporter.rounds(experiment.federation.rounds, experiment.method, done):
        summary = running.resume(folder, reporter.on_round)
    conclude(reporter, folder, summary or {})
