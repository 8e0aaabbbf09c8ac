"""``mpfl tune``: as many trials for every method of a comparison, on data held out for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.cli import options
from benchmarks.cli.console import Reporter
from benchmarks.running.cell import Cell
from benchmarks.running.interruption import resumable
from benchmarks.tuning import tuning
from benchmarks.tuning.objective import FAILED
from benchmarks.tuning.outcome import Trial
from benchmarks.units import bytes_text, percent_text
from mpfl.nested import with_override
from mpfl.presets import parse_names
from server.runfolder import rounds_written


def tune(
    config: options.Config,
    assignments: options.Set = [],  # noqa: B006 - typer copies it
    methods: Annotated[str, typer.Option(help="Comma-separated, instead of the config's.")] = "",
    trials: Annotated[int | None, typer.Option(help="For every method: tune.trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all trials: tune.seed.")] = None,
    confirm: Annotated[
        str, typer.Option(help="Seeds for the best, 11 or 11-13: tune.confirm.")
    ] = "",
    out: options.OutAgain = None,
    plugins: options.Plugins = [],  # noqa: B006
    data_dir: options.DataDir = None,
    download: options.Download = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Give every method the same number of trials, on data held out for that."""
    table = options.configured(config, assignments, data_dir, download, plugins)
    given = {
        "tune.methods": parse_names(methods, "--methods") if methods else None,
        "tune.trials": trials,
        "tune.seed": seed,
        "tune.confirm": options.seeds_of(confirm, "--confirm") if confirm else None,
    }
    for key, value in given.items():
        table = table if value is None else with_override(table, key, value)
    reporter = Reporter(quiet=quiet, as_json=as_json)
    reporter.notes(options.renamed_keys(config, assignments))
    tune_trials(table, out or options.new_folder(config, "tune-"), reporter)


def tune_trials(table: Mapping[str, Any], out: Path, reporter: Reporter) -> None:
    """Run the unfinished trials of a tuning, write what was chosen and show all of them."""
    task = tuning.plan(table)
    done = sum(map(rounds_written, (out / tuning.TRIALS).glob("*")))

    def watch(cell: Cell, record: dict[str, Any] | None) -> None:
        if record is None:
            reporter.say(f"finished {cell.name}")
        else:
            reporter.step(cell.name)

    with resumable(out), reporter.rounds(task.rounds, f"{task.tune.trials} trials", done):
        trials = tuning.tune(task, out, watch)
    reporter.conclude(_table(trials))
    reporter.say(f"all trials: {out / tuning.TABLE}")
    reporter.say(f"what was chosen: mpfl compare {out / tuning.TUNED}")
    files = {"folder": out, "tuned": out / tuning.TUNED, "table": out / tuning.TABLE}
    reporter.result(
        {**{name: str(path) for name, path in files.items()}, "trials": [*map(asdict, trials)]}
    )


def _table(trials: Sequence[Trial]) -> Table:
    """Return all trials, those that were chosen marked."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("method", overflow="fold")
    several = len({trial.seed for trial in trials}) > 1
    columns = ("trial", *(["seed"] if several else []), "accuracy, %", "to target", "total")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for trial in trials:
        name = " ".join([trial.label, *(str(value) for value in trial.sweep.values())])
        texts = (f"{key.rpartition('.')[2]} {value}" for key, value in trial.settings.items())
        table.add_row(
            name,
            f"{'* ' if trial.chosen else ''}{trial.number}",
            *([str(trial.seed)] if several else []),
            "–" if trial.accuracy is None else percent_text(trial.accuracy).removesuffix(" %"),
            _to_target(trial),
            "–" if trial.total_bytes is None else bytes_text(trial.total_bytes),
            ", ".join(texts),
        )
    table.caption = "* chosen. Accuracy and target are of validation samples."
    table.caption_justify = "left"
    return table


def _to_target(trial: Trial) -> str:
    if trial.score >= FAILED:
        return "failed"
    return "missed" if trial.bytes_to_target is None else bytes_text(trial.bytes_to_target)
