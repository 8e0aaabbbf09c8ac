"""``mpfl run`` and ``mpfl resume``: one experiment into a run folder, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli import options
from benchmarks.cli.compare import compare_cells
from benchmarks.cli.console import Reporter
from benchmarks.engines.ray import run_on_ray
from benchmarks.report.write import REPORT, write_report
from benchmarks.results.loading import read_summary
from benchmarks.running import experiment as running
from benchmarks.running.comparison import COMPARISON, split_table
from benchmarks.running.sinks import Feed
from benchmarks.units import bytes_text
from mpfl.config import from_mapping
from mpfl.data.summary import summary as partition_summary
from mpfl.nested import dotted, read_toml
from mpfl.registry import Registry
from mpfl.world import World
from server.records import to_json
from server.runfolder import SUMMARY, RunFolder, check_empty

ENGINES: Registry[running.Engine] = Registry("engine", {"local": running.run, "ray": run_on_ray})


def run(
    config: options.Config,
    assignments: options.Set = [],  # noqa: B006 - typer copies it
    out: options.Out = None,
    plugins: options.Plugins = [],  # noqa: B006
    data_dir: options.DataDir = None,
    download: options.Download = False,
    engine: Annotated[str, typer.Option(help="local, or ray (Flower's simulation).")] = "local",
    sink: options.Sink = "",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Run one experiment into a run folder."""
    run_on_engine = ENGINES[engine]
    table, _ = split_table(options.configured(config, assignments, data_dir, download, plugins))
    experiment = from_mapping(table)
    reporter = Reporter(quiet=quiet, as_json=as_json)
    folder = out or options.new_folder(config)
    feed = Feed(sink, folder, experiment.method, experiment)
    planned = running.plan(experiment)
    check_empty(folder)
    reporter.say(_partition_text(planned.world))
    for note in planned.notes(dotted(table)):
        reporter.note(note)

    def on_round(record: dict[str, Any]) -> None:
        reporter.on_round(record)
        feed.on_round(record)

    title = f"{experiment.method} on {experiment.data.name}"
    with reporter.rounds(experiment.federation.rounds, title), closing(feed):
        summary = run_on_engine(experiment, folder, on_round, world=planned.world)
    _conclude(reporter, folder, summary)


def resume(
    folder: Annotated[Path, typer.Argument(help="A run folder or a comparison folder.")],
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Continue a killed run or comparison; the result equals the uninterrupted one."""
    reporter = Reporter(quiet=quiet, as_json=as_json)
    if (folder / COMPARISON).is_file():
        compare_cells(read_toml((folder / COMPARISON).read_text()), folder, reporter)
        return
    run_folder, experiment, progress = RunFolder.open(folder)
    if run_folder.finished:
        if (folder / REPORT).is_file():
            reporter.say(f"{folder} is finished; nothing to do")
        else:  # it was killed between its result and its report
            _conclude(reporter, folder, to_json(read_summary(folder / SUMMARY)))
        return
    done = progress.facts["round"] if progress else 0
    with reporter.rounds(experiment.federation.rounds, experiment.method, done):
        summary = running.resume(folder, reporter.on_round)
    _conclude(reporter, folder, summary or {})


def _conclude(reporter: Reporter, folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the report of a finished run and say what came out."""
    write_report(folder)
    reporter.say(
        f"test accuracy {summary['test_accuracy']:.4f}  density {summary['density']:.4f}  "
        f"uplink {bytes_text(summary['uplink_bytes'])}  "
        f"downlink {bytes_text(summary['downlink_bytes'])}  "
        f"total {bytes_text(summary['total_bytes'])}"
    )
    reporter.say(f"run folder: {folder}")
    reporter.say(f"report: {folder / 'report.html'}")
    reporter.result(summary)
    reporter.losses()
    if why := (summary.get("health") or {}).get("failed"):
        reporter.warn(f"no result: {why}")


def _partition_text(world: World) -> str:
    targets = world.data.train.targets.numpy()
    return str(partition_summary(world.parts, targets, world.data.classes).text())
