"""``mpfl run`` and ``mpfl resume``: one experiment into a run folder, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli import options
from benchmarks.cli.compare import compare_cells
from benchmarks.cli.console import Reporter
from benchmarks.cli.tune import tune_trials
from benchmarks.engines.cluster import find_cluster, need_ray
from benchmarks.engines.ray import run_on_ray
from benchmarks.results.loading import REPORT, is_comparison, read_summary
from benchmarks.running import experiment as running
from benchmarks.running.cell import CELLS
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import COMPARISON, read_comparison
from benchmarks.running.interruption import resumable
from benchmarks.running.sinks import Feed
from benchmarks.tuning.tuning import TRIALS, is_tuning, read_tuning
from benchmarks.units import bytes_text
from mpfl.config import from_mapping
from mpfl.data.summary import summary as partition_summary
from mpfl.errors import InputError
from mpfl.nested import dotted
from mpfl.registry import Registry
from mpfl.world import World
from server.records import to_json
from server.runfolder import SUMMARY, check_empty, finished, read_config, rounds_written

ENGINES: Registry[running.Engine] = Registry("engine", {"local": running.run, "ray": run_on_ray})


def run(
    config: options.Config,
    assignments: options.Set = [],  # noqa: B006 - typer copies it
    out: options.Out = None,
    plugins: options.Plugins = [],  # noqa: B006
    data_dir: options.DataDir = None,
    download: options.Download = False,
    engine: Annotated[str, typer.Option(help="local, or ray (Flower's simulation).")] = "local",
    ray_address: Annotated[
        str, typer.Option(help="HOST:PORT of a Ray cluster to join (--engine ray).")
    ] = "",
    sink: options.Sink = "",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Run one experiment into a run folder."""
    run_on_engine = ENGINES[engine]
    if engine == "ray":
        need_ray()
        if ray_address:
            run_on_engine = partial(run_on_ray, cluster=find_cluster(ray_address))
    elif ray_address:
        raise InputError(f"--ray-address: got {ray_address!r}, which needs --engine ray")
    table, _ = split_table(options.configured(config, assignments, data_dir, download, plugins))
    experiment = from_mapping(table)
    reporter = Reporter(quiet=quiet, as_json=as_json)
    reporter.notes(options.renamed_keys(config, assignments))
    folder = out or options.new_folder(config)
    feed = Feed(sink, folder, experiment.method, experiment)
    planned = running.plan(experiment)
    check_empty(folder)
    reporter.say(_partition_text(planned.world))
    reporter.notes(planned.notes(dotted(table)))

    def on_round(record: dict[str, Any]) -> None:
        reporter.on_round(record)
        feed.on_round(record)

    if engine == "ray":
        reporter.note("starting Ray")
    title = f"{experiment.method} on {experiment.data.name}"
    with resumable(folder):
        with reporter.rounds(experiment.federation.rounds, title), closing(feed):
            summary = run_on_engine(experiment, folder, on_round, world=planned.world)
        _conclude(reporter, folder, summary)


def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, a comparison or a tuning.")],
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Continue a killed run, comparison or tuning, to the result it would have had.

    Byte for byte that holds for the local engine: on Ray or in a deployment, a client that lost its
    state is served from w0 again, at extra bytes.
    """
    reporter = Reporter(quiet=quiet, as_json=as_json)
    if is_tuning(folder):
        tune_trials(read_tuning(folder), folder, reporter)
        return
    if is_comparison(folder):
        compare_cells(read_comparison(folder), folder, reporter)
        return
    experiment = read_config(folder)
    if (folder / REPORT).is_file() and finished(folder):
        reporter.note(f"{folder} is finished; nothing to do")
        _show(reporter, folder, to_json(read_summary(folder / SUMMARY)))
        return
    if not (folder / SUMMARY).is_file():
        _check_alone(folder)
    title, rounds = experiment.method, experiment.federation.rounds
    with resumable(folder):
        with reporter.rounds(rounds, title, rounds_written(folder)):
            running.resume(folder, reporter.on_round)
        _conclude(reporter, folder, to_json(read_summary(folder / SUMMARY)))


def _check_alone(folder: Path) -> None:
    """Check that a run is no cell, whose label and swept values only its comparison knows."""
    comparison = folder.resolve().parent.parent
    if folder.resolve().parent.name == CELLS and (comparison / COMPARISON).is_file():
        raise InputError(f"{folder} belongs to a comparison: use mpfl resume {comparison}")
    if folder.resolve().parent.name == TRIALS and is_tuning(comparison):
        raise InputError(f"{folder} belongs to a tuning: use mpfl resume {comparison}")


def _conclude(reporter: Reporter, folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the report of a finished run and say what came out."""
    from benchmarks.report.write import write_report  # figures: not before the rounds are over

    write_report(folder)
    _show(reporter, folder, summary)


def _show(reporter: Reporter, folder: Path, summary: Mapping[str, Any]) -> None:
    reporter.conclude(
        f"test accuracy {summary['test_accuracy']:.4f}  density {summary['density']:.4f}  "
        f"uplink {bytes_text(summary['uplink_bytes'])}  "
        f"downlink {bytes_text(summary['downlink_bytes'])}  "
        f"total {bytes_text(summary['total_bytes'])}"
    )
    reporter.say(f"run folder: {folder}")
    reporter.say(f"report: {folder / REPORT}")
    reporter.result({**summary, "folder": str(folder), "report": str(folder / REPORT)})
    reporter.losses()
    if why := (summary.get("health") or {}).get("failed"):
        reporter.warn(f"no result: {why}")


def _partition_text(world: World) -> str:
    targets = world.data.train.targets.numpy()
    return str(partition_summary(world.parts, targets, world.data.classes).text())
