"""Runs and comparisons from Python, started or read back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.api.finished import Comparison, Run
from benchmarks.results.loading import (
    comparison_settings,
    is_comparison,
    load_folders,
    load_run,
)
from benchmarks.results.rows import comparison_table
from benchmarks.results.settings import without_constant_keys
from benchmarks.running import comparison as comparing
from benchmarks.running import experiment as running
from benchmarks.running.cell import CELLS, OnCell
from benchmarks.running.compare_config import split_table
from benchmarks.running.sinks import Feed, check_sink, show_in_sink
from benchmarks.same_run import home_of
from mpfl.config import Experiment, from_mapping, to_mapping
from mpfl.errors import RunError
from mpfl.nested import with_override
from mpfl.plugins import resolved
from mpfl.presets import anchored, changed, load_table

Config = str | Path | Mapping[str, Any] | Experiment
"""A preset's name, the path of a TOML file, nested tables, or an experiment."""


def run(
    config: Config,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    on_round: Callable[[dict[str, Any]], None] | None = None,
    sink: str = "",
) -> Run:
    """Run one experiment.

    Parameters
    ----------
    config
        A preset's name, the path of a TOML file, nested tables, or an `Experiment`. A table
        ``[compare]`` is ignored.
    overrides
        Dotted keys that differ, e.g. ``{"prune.density": 0.05}``.
    out
        A new or empty folder; by default a new one where the system keeps temporary files.
    on_round
        Called with each round's record.
    sink
        ``tensorboard`` or ``wandb``; see `benchmarks.running.sinks`.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    RunError
        If the run comes to no result: clients failed, or no round of a phase counted.

    Examples
    --------
    >>> import benchmarks
    >>> changes = {"data.clients": 2, "prune.rounds": 1, "federation.rounds": 2}
    >>> run = benchmarks.run("demo", changes)
    >>> [line.phase for line in run.rounds], round(run.mask.density(), 2)
    (['mask', 'train'], 0.1)
    """
    table, _ = split_table(_table(config, overrides))
    experiment = from_mapping(table)
    folder = _folder(out)
    feed = Feed(sink, folder, experiment.method, experiment)

    def watch(record: dict[str, Any]) -> None:
        feed.on_round(record)
        if on_round:
            on_round(record)

    with closing(feed):
        running.run(experiment, folder, watch)
    return Run(folder, load_run(folder))


def compare(
    config: Config,
    overrides: Mapping[str, Any] | None = None,
    *,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    out: str | Path | None = None,
    on_cell: OnCell | None = None,
    workers: int = -1,
    sink: str = "",
) -> Comparison:
    """Run methods, seeds and swept values on the same work.

    Parameters
    ----------
    config, overrides
        As of `run`; the table ``[compare]`` says what is compared unless the following do.
    methods, seeds
        Methods (or names of ``compare.variants``) and seeds; each pair is a run.
    sweep
        Dotted key -> values; every combination is run.
    out
        A new folder, or that of the same comparison, whose finished runs are kept; by default
        a new one where the system keeps temporary files.
    on_cell
        Called with (cell, record) after every round, (cell, None) when a cell is finished.
    workers
        Runs side by side (-1 = one per core).
    sink
        ``tensorboard`` or ``wandb``: every run is shown there once it is finished.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    RunError
        If every run fails. Where only some do, the others are compared; see `Comparison.failed`.

    Examples
    --------
    >>> import benchmarks
    >>> small = {"data.clients": 2, "prune.rounds": 1, "federation.rounds": 2}
    >>> comparison = benchmarks.compare("demo", small, methods=["mpfl", "fedavg"])
    >>> [row.method for row in comparison.rows], len(comparison.runs)
    (['mpfl', 'fedavg'], 2)
    """
    table = _table(config, overrides)
    chosen = {
        "methods": None if methods is None else list(methods),
        "seeds": None if seeds is None else list(seeds),
        "sweep": None if sweep is None else {key: list(values) for key, values in sweep.items()},
    }
    for key, value in chosen.items():
        if value is not None:
            table = with_override(table, f"compare.{key}", value)
    check_sink(sink)
    folder = _folder(out)
    cells = comparing.plan_cells(*split_table(table))
    failed = comparing.compare(table, cells, folder, show_in_sink(sink, folder, on_cell), workers)
    if len(failed) == len(cells):
        raise RunError(f"all runs failed; {cells[0].name}: {failed[cells[0].name]}")
    return _comparison(folder, [cell.name for cell in cells])


def load(folder: str | Path) -> Run | Comparison:
    """Return a finished run or comparison, of this or of an earlier session.

    Raises
    ------
    InputError
        One line naming the file that is missing or damaged.
    """
    path = Path(folder)
    return _comparison(path) if is_comparison(path) else Run(path, load_run(path))


def _comparison(folder: Path, names: Sequence[str] = ()) -> Comparison:
    read = load_folders([folder])
    found, dead = without_constant_keys(read.runs, list(read.failures.values()))
    order = {name: place for place, name in enumerate(names)}
    found.sort(key=lambda data: order.get(data.folder, len(order)))
    asked = comparison_settings([folder])
    baseline = str(asked.get("baseline", "fedavg"))
    margin = float(asked.get("margin", 0.005))
    best_of = list(asked.get("best_of", []))
    rows = comparison_table(found, baseline, margin, dead, best_of)
    cells = folder / CELLS
    return Comparison(
        folder,
        tuple(Run(home_of(cells / data.folder), data) for data in found),
        tuple(rows),
        baseline,
        {name: failure.error for name, failure in read.failures.items()},
    )


def _table(config: Config, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(config, Experiment):
        table = to_mapping(config)
    elif isinstance(config, str | Path):
        table = load_table(str(config))
    else:
        table = dict(config)
    return resolved(anchored(changed(table, overrides or {}), Path()))


def _folder(out: str | Path | None) -> Path:
    return Path(tempfile.mkdtemp(prefix="mpfl-")) if out is None else Path(out)
