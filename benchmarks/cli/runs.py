"""What each command of the command line does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cli.console import Reporter, rounds_done
from benchmarks.cli.listing import list_parts
from benchmarks.engines.ray import run_on_ray
from benchmarks.presets import load_table, parse_value, resolve
from benchmarks.report.table import table_text
from benchmarks.report.write import write_report
from benchmarks.running import comparison as comparing
from benchmarks.running.experiment import Engine, resume, run, validate
from benchmarks.running.sinks import Feed, check_sink, show_in_sink
from benchmarks.units import bytes_text
from mpfl.config import from_mapping
from mpfl.data.summary import summary as partition_summary
from mpfl.errors import InputError
from mpfl.nested import read_toml
from mpfl.registry import Registry
from mpfl.world import World
from server.runfolder import RunFolder, check_empty

ENGINES: Registry[Engine] = Registry("engine", {"local": run, "ray": run_on_ray})


@dataclass(frozen=True)
class Options:
    """The options that commands share."""

    assignments: Sequence[str] = ()
    out: Path | None = None
    data_dir: Path | None = None
    download: bool = False
    quiet: bool = False
    as_json: bool = False
    sink: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def table(self, config: str) -> dict[str, Any]:
        """Return the configuration's tables with every option applied."""
        overrides = dict(self.overrides)
        if self.data_dir is not None:
            overrides["data.folder"] = str(self.data_dir.resolve())
        if self.download:
            overrides["data.download"] = True
        return resolve(config, self.assignments, overrides)

    def folder(self, name: str) -> Path:
        """Return ``--out``, or a new folder under ``runs``."""
        if self.out is not None:
            return self.out
        stamp = time.strftime("%Y%m%d-%H%M%S")
        base = Path("runs") / f"{Path(name).stem}-{stamp}"
        path, number = base, 1
        while path.exists():
            number += 1
            path = base.with_name(f"{base.name}-{number}")
        return path


def run_command(config: str, options: Options, engine: str = "local") -> None:
    """Run one experiment on one of the `ENGINES` and write its report."""
    run_on_engine = ENGINES[engine]
    table, _ = comparing.split_table(options.table(config))
    experiment = from_mapping(table)
    reporter = Reporter(quiet=options.quiet, as_json=options.as_json)
    out = options.folder(config)
    feed = Feed(options.sink, out, experiment.method, experiment)
    world = validate(experiment)
    check_empty(out)
    reporter.say(_partition_text(world))

    def on_round(record: dict[str, Any]) -> None:
        reporter.on_round(record)
        feed.on_round(record)

    title = f"{experiment.method} on {experiment.data.name}"
    with reporter.rounds(experiment.federation.rounds, title), closing(feed):
        summary = run_on_engine(experiment, out, on_round)
    _finish(reporter, out, summary)


def resume_command(folder: Path, options: Options) -> None:
    """Continue a run or a comparison."""
    reporter = Reporter(quiet=options.quiet, as_json=options.as_json)
    if (folder / comparing.COMPARISON).is_file():
        _compare(read_toml((folder / comparing.COMPARISON).read_text()), folder, reporter)
        return
    run_folder, experiment, progress = RunFolder.open(folder)
    if run_folder.finished:
        reporter.say(f"{folder} is finished; nothing to do")
        return
    done = progress.facts["round"] if progress else 0
    with reporter.rounds(experiment.federation.rounds, experiment.method, done):
        summary = resume(folder, reporter.on_round)
    _finish(reporter, folder, summary or {})


def compare_command(
    config: str, options: Options, sweep: Sequence[str], methods: str, seeds: str
) -> None:
    """Run a comparison and write its report."""
    overrides: dict[str, Any] = {}
    if methods:
        overrides["compare.methods"] = methods.split(",")
    if seeds:
        overrides["compare.seeds"] = [parse_value(seed) for seed in seeds.split(",")]
    table = Options(**{**options.__dict__, "overrides": overrides}).table(config)
    for text in sweep:
        key, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--sweep: got {text!r}, expected key=value,value")
        compare = dict(table.get("compare", {}))
        compare["sweep"] = {
            **compare.get("sweep", {}),
            key: [parse_value(value) for value in values.split(",")],
        }
        table["compare"] = compare
    reporter = Reporter(quiet=options.quiet, as_json=options.as_json)
    check_sink(options.sink)
    _compare(table, options.folder(f"compare-{Path(config).stem}"), reporter, options.sink)


def _compare(table: Mapping[str, Any], out: Path, reporter: Reporter, sink: str = "") -> None:
    rest, config = comparing.split_table(table)
    cells = comparing.plan_cells(rest, config)
    rounds = sum(cell.experiment.federation.rounds for cell in cells)
    done = sum(rounds_done(cell, out) for cell in cells)
    with reporter.rounds(rounds, f"{len(cells)} runs", done):
        watch = show_in_sink(sink, out, reporter.cell_watcher(cells, out))
        comparing.compare(table, out, watch)
    report = write_report(out)
    reporter.say(table_text(report.rows, report.baseline))
    reporter.say(f"report: {out / 'report.html'}")
    reporter.result([asdict(row) for row in report.rows])


def report_command(folders: Sequence[Path], out: Path | None) -> None:
    """Rebuild a report."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}")
    result = write_report(folders[0] if len(folders) == 1 else folders, out)
    print(f"report: {result.path}")


def list_command(kind: str, as_json: bool) -> None:
    """Print what can be named in a configuration."""
    parts = list_parts(kind)
    reporter = Reporter(quiet=False, as_json=as_json)
    reporter.result(parts)
    for group, entries in parts.items():
        width = max((len(name) for name in entries), default=0)
        reporter.say(f"{group}:")
        for name, text in entries.items():
            reporter.say(f"  {name:<{width}}  {text}".rstrip())


def preset_table(name: str) -> dict[str, Any]:
    """Return a preset's tables, for scripts."""
    return load_table(name)


def _partition_text(world: World) -> str:
    targets = world.data.train.targets.numpy()
    return str(partition_summary(world.parts, targets, world.data.classes).text())


def _finish(reporter: Reporter, out: Path, summary: Mapping[str, Any]) -> None:
    write_report(out)
    accuracy = summary["test_accuracy"]
    reporter.say(
        f"test accuracy {accuracy:.4f}  density {summary['density']:.4f}  "
        f"uplink {bytes_text(summary['uplink_bytes'])}  "
        f"downlink {bytes_text(summary['downlink_bytes'])}  "
        f"total {bytes_text(summary['total_bytes'])}"
    )
    reporter.say(f"run folder: {out}")
    reporter.say(f"report: {out / 'report.html'}")
    reporter.result(summary)
