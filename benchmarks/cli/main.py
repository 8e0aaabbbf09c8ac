"""The command line ``mpfl``."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import click
import typer

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from benchmarks.cli import bench, masks, runs
from benchmarks.cli import retrain as retraining
from benchmarks.cli import votes as voting
from benchmarks.cli.console import BAD_INPUT, FAILED, INTERRUPTED, Reporter
from mpfl.errors import InputError

app = typer.Typer(
    help="Federated pruning, with the bytes really transmitted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(masks.app, name="mask")
app.add_typer(bench.app, name="bench")

Config = Annotated[str, typer.Argument(help="A preset's name, or a TOML file.")]
Set = Annotated[list[str], typer.Option("--set", help="key=value, e.g. prune.density=0.05")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write (new or empty).")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data sets.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing data sets.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Sink = Annotated[str, typer.Option("--sink", help="Show rounds there too: tensorboard, wandb.")]
Engine = Annotated[str, typer.Option("--engine", help="local, or ray (Flower's simulation).")]


@app.command()
def run(
    config: Config,
    assignments: Set = [],  # noqa: B006 - typer copies it
    out: Out = None,
    data_dir: DataDir = None,
    download: Download = False,
    engine: Engine = "local",
    sink: Sink = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run one experiment into a run folder."""
    options = runs.Options(assignments, out, data_dir, download, quiet, as_json, sink)
    runs.run_command(config, options, engine)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="A run folder or a comparison folder.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Continue a killed run or comparison; the result equals the uninterrupted one."""
    runs.resume_command(folder, runs.Options(quiet=quiet, as_json=as_json))


@app.command()
def compare(
    config: Config,
    assignments: Set = [],  # noqa: B006
    sweep: Annotated[list[str], typer.Option(help="key=value,value,…")] = [],  # noqa: B006
    methods: Annotated[str, typer.Option(help="Comma-separated, instead of the config's.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated, instead of the config's.")] = "",
    out: Out = None,
    data_dir: DataDir = None,
    download: Download = False,
    sink: Sink = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run many methods and seeds on the same work; finished cells are not run again."""
    options = runs.Options(assignments, out, data_dir, download, quiet, as_json, sink)
    runs.compare_command(config, options, sweep, methods, seeds)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run or comparison folders.")],
    out: Out = None,
) -> None:
    """(Re)build report.html and the figures from what the folders hold."""
    runs.report_command(folders, out)


@app.command()
def votes(
    run: Annotated[Path, typer.Argument(help="A run folder with recorded ballots.")],
    round_: Annotated[int, typer.Option("--round", min=0, help="0: the last with ballots.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder, else RUN/votes.")] = None,
    as_json: Json = False,
) -> None:
    """Apply every vote rule to a round's recorded ballots: table, CSV and figure."""
    voting.votes_command(run, round_, out, as_json)


@app.command()
def retrain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    epochs: Annotated[
        int, typer.Option(min=0, help="0: as many as a client makes in all rounds.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="File, else RUN/central_retrain.json.")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate a run's mask otherwise: central_retrain, w0 trained under it on pooled data."""
    reporter = Reporter(quiet=quiet, as_json=as_json)
    retraining.retrain_command(run, epochs, out, data_dir, reporter)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="What to list; nothing lists everything.")] = "",
    as_json: Json = False,
) -> None:
    """List methods, models, datasets, partitions, scores, rules, codecs and presets."""
    runs.list_command(kind, as_json)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted, 1 anything else."""
    sys.exit(invoke(arguments))


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        result: Any = app(args=arguments, standalone_mode=False)
        if result == INTERRUPTED:  # click has caught the interrupt itself
            return _interrupted()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        _complain(error.format_message())
        return BAD_INPUT
    except click.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except InputError as error:
        if os.environ.get("MPFL_TRACEBACK"):
            traceback.print_exc()
        _complain(str(error))
        return BAD_INPUT
    except Exception:  # noqa: BLE001 - the last resort of a command line
        traceback.print_exc()
        return FAILED


def _complain(text: str) -> None:
    print("mpfl: " + " ".join(text.split()), file=sys.stderr)


def _interrupted() -> int:
    print("mpfl: interrupted; continue with mpfl resume", file=sys.stderr)
    return INTERRUPTED


if __name__ == "__main__":
    main()
