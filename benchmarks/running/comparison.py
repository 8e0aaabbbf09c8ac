"""Many methods, seeds and settings on the same work, one run folder each, resumable."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.running.compare_config import CompareConfig, matches, split_table
from benchmarks.running.experiment import plan, resume, run, validate
from benchmarks.running.interruption import obey_parent
from mpfl.config import Experiment, from_mapping, to_mapping
from mpfl.data import load_data
from mpfl.data.digest import data_digests
from mpfl.errors import InputError, RunError, keyed, shown
from mpfl.methods import METHODS
from mpfl.nested import dotted, read_toml, with_override
from mpfl.plugins import load as load_plugins
from mpfl.recipes import expanded, recipes
from mpfl.registry import parse_spec, unknown_name
from mpfl.world import Loader, held_data, shared_loader
from server.app import failure
from server.custody import MANIFEST, check, digest_of, held, seal, write_atomically, writing
from server.health import read_failure, write_failure
from server.records import Summary, from_json
from server.runfolder import CONFIG, SUMMARY, finished, read_config
from server.summary import check_inputs
from server.transport.grid import ended_text, worker_count

COMPARISON, CELLS = "comparison.toml", "cells"
_BEFORE_COMPARISON = {MANIFEST, f"{MANIFEST}.tmp", f"{COMPARISON}.tmp"}  # a start cut short

Sweep = tuple[tuple[str, Any], ...]
"""Swept dotted keys, each with one of its values."""
_LONGEST_NAME = 200  # bytes; file systems take 255

OnCell = Callable[["Cell", dict[str, Any] | None], None]
"""Sees (cell, record) after every round and (cell, None) when the cell is finished."""


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    label: str
    seed: int
    sweep: Sweep
    experiment: Experiment
    load: Loader = field(default=load_data, compare=False, repr=False)
    """Reads the data set, once for all cells of a comparison."""
    ignored: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Keys of the configuration without effect → why."""

    @property
    def name(self) -> str:
        """Folder name of the cell."""
        parts = [self.label, *(f"{key}={value}" for key, value in self.sweep)]
        return "__".join([*parts, f"seed{self.seed}"]).replace("/", "-")

    @property
    def tags(self) -> dict[str, Any]:
        """What the cell's summary says about its place in the comparison."""
        return {"label": self.label, "sweep": dict(self.sweep)}


def plan_cells(table: Mapping[str, Any], config: CompareConfig) -> list[Cell]:
    """Return every cell, validated down to its data and model.

    Raises
    ------
    InputError
        If any cell's configuration is wrong, or two are the same run or share a folder.
    """
    sweeps = [tuple(zip(config.sweep, v, strict=True)) for v in product(*config.sweep.values())]
    load = shared_loader()
    cells = [
        Cell(label, seed, sweep, _experiment(table, config, label, sweep, seed), load)
        for label, sweep, seed in product(config.methods, sweeps, config.seeds)
    ]
    if config.wire:
        cells = _distinct(cells, config.baseline)
    _check_folders(cells)
    _check_labels_differ(cells)
    load_plugins(cells[0].experiment)
    _check_known("methods", config.methods, config)
    _check_known("baseline", [config.baseline], config)
    _check_known("best_of", config.best_of, config)
    _check_known("ladder", list(config.ladder.values()), config)
    works = dict.fromkeys(_without_seed(cell) for cell in cells)
    ignored = {work: plan(work, load).ignored for work in works}
    return [dataclasses.replace(cell, ignored=ignored[_without_seed(cell)]) for cell in cells]


def _check_known(key: str, labels: Sequence[str], config: CompareConfig) -> None:
    """Refuse what is neither a variant nor a method, with or without options."""
    for label in labels:
        with keyed(f"compare.{key}"):
            name = label if label in config.variants else parse_spec(label)[0]
            known = [*METHODS.names(), *recipes(), *config.variants]
            if name not in known:
                raise unknown_name("method", name, known)


def _without_seed(cell: Cell) -> Experiment:
    return dataclasses.replace(cell.experiment, seed=0)


def idle_settings(
    table: Mapping[str, Any], config: CompareConfig, cells: Sequence[Cell]
) -> dict[str, str]:
    """Return the keys that a comparison sets and no cell reads → why.

    A key of a variant is looked for in the cells of that variant, any other one in all.
    """
    found = _unread([*dotted(table), *config.sweep], cells)
    for label, changes in config.variants.items():
        own = [cell for cell in cells if cell.label == label]
        found |= {f"{label}: {key}": why for key, why in _unread(list(changes), own).items()}
    return found


def _unread(keys: Sequence[str], cells: Sequence[Cell]) -> dict[str, str]:
    return {
        key: cells[0].ignored[key]
        for key in dict.fromkeys(keys)
        if cells and all(key in cell.ignored for cell in cells)
    }


def _experiment(
    table: Mapping[str, Any], config: CompareConfig, label: str, sweep: Sweep, seed: int
) -> Experiment:
    overrides = expanded({"method": label, **config.variants.get(label, {}), **dict(sweep)})
    resolved: Mapping[str, Any] = with_override(table, "seed", seed)
    for key, value in overrides.items():
        resolved = with_override(resolved, key, value)
    for rule in config.adjust:
        if matches(rule["when"], label, to_mapping(from_mapping(resolved))):
            for key, value in rule["set"].items():
                resolved = with_override(resolved, key, value)
    experiment = from_mapping(resolved)
    wire = dataclasses.replace(experiment.wire, up=config.wire, down=config.wire)
    return dataclasses.replace(experiment, wire=wire) if config.wire else experiment


def _distinct(cells: Sequence[Cell], baseline: str) -> list[Cell]:
    """Return the cells without those of methods that are others under another name."""
    first: dict[tuple[Experiment, ...], str] = {}
    for label, work in sorted(_work(cells).items(), key=lambda item: item[0] != baseline):
        first.setdefault(work, label)
    return [cell for cell in cells if cell.label in first.values()]


def _work(cells: Sequence[Cell]) -> dict[str, tuple[Experiment, ...]]:
    """Return what each method or variant runs."""
    found: dict[str, tuple[Experiment, ...]] = {}
    for cell in cells:
        found[cell.label] = (*found.get(cell.label, ()), cell.experiment)
    return found


def _check_folders(cells: Sequence[Cell]) -> None:
    taken: dict[str, Cell] = {}
    for cell in cells:
        if len(cell.name.encode()) > _LONGEST_NAME:
            text = f"{shown(cell.name)} is too long for a folder's name"
            raise InputError(f"compare: {text} ({_LONGEST_NAME} bytes); name variants instead")
        if cell.name in taken:
            pair = f"{taken[cell.name].label!r} and {cell.label!r}"
            raise InputError(f"compare: {pair} would share the folder {shown(cell.name)}")
        taken[cell.name] = cell


def _check_labels_differ(cells: Sequence[Cell]) -> None:
    """Refuse two methods or variants that are the same experiments under two names."""
    first: dict[tuple[Experiment, ...], str] = {}
    for label, work in _work(cells).items():
        other = first.setdefault(work, label)
        if other != label:
            raise InputError(f"compare.methods: {other!r} and {label!r} are the same experiment")


def compare(
    table: Mapping[str, Any],
    cells: Sequence[Cell],
    out: Path,
    on_cell: OnCell | None = None,
    workers: int = -1,
) -> dict[str, str]:
    """Run every unfinished cell of a comparison; returns the cells that failed → why.

    A cell that fails is marked by ``failure.json`` in its folder, and the others go on; run
    again, the comparison tries it once more.

    Cells run side by side, one process each with its clients in that process: that keeps
    every core busy without any copying. A single cell uses worker processes instead; cells that
    train on a GPU run one after another in this process.

    Parameters
    ----------
    cells
        What `plan_cells` made of the table.

    Raises
    ------
    InputError
        If `out` is in use, holds another comparison, cells of other inputs, or a file that was
        edited.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with held(out):
        _claim(out, table, cells)
        todo = [cell for cell in cells if not finished(out / CELLS / cell.name)]
        _check_inputs(out, cells)
        processes = worker_count(workers, len(todo))
        gpu = any(cell.experiment.train.device == "cuda" for cell in todo)
        if len(todo) == 1 or gpu or not processes:
            for cell in todo:
                _run_cell(cell, out, on_cell)
        else:
            _run_cells(todo, out, on_cell, processes)
    found = {cell.name: read_failure(out / CELLS / cell.name) for cell in cells}
    return {name: failure.error for name, failure in found.items() if failure}


def _check_inputs(out: Path, cells: Sequence[Cell]) -> None:
    """Check that finished cells saw the data that the others will see; InputError naming it."""
    for cell in cells:
        file = out / CELLS / cell.name / SUMMARY
        if file.is_file():
            known = from_json(Summary, file.read_text(encoding="utf-8"), str(file)).health
            if known is not None:
                now = data_digests(*held_data(cell.experiment, cell.load))
                with keyed(cell.name):
                    check_inputs(cell.experiment, now, known.inputs)


def read_comparison(out: Path) -> dict[str, Any]:
    """Return the tables of ``comparison.toml``. InputError naming the file, if it was edited."""
    check(out)
    file = out / COMPARISON
    try:
        return read_toml(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{file}: {error}") from None


def _claim(out: Path, table: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Start a comparison folder, or recognise the one that is there."""
    rest, config = split_table(table)
    text = tomli_w.dumps({**rest, "compare": dataclasses.asdict(config)}, multiline_strings=True)
    file = out / COMPARISON
    with writing(out):
        if file.is_file():
            if read_comparison(out) != read_toml(text):
                raise InputError(f"--out: {out} holds another comparison; choose another folder")
        else:
            if {entry.name for entry in out.iterdir()} - _BEFORE_COMPARISON:
                raise InputError(f"--out: {out} is not empty and holds no comparison")
            seal(out, {COMPARISON: digest_of(text.encode())})
            write_atomically(file, text.encode())
        (out / CELLS).mkdir(exist_ok=True)
    for cell in cells:
        stored = out / CELLS / cell.name
        if (stored / CONFIG).is_file() and read_config(stored) != cell.experiment:
            raise InputError(f"{stored / CONFIG} is of another configuration; choose another --out")


def _run_cell(cell: Cell, out: Path, on_cell: OnCell | None, workers: int | None = None) -> None:
    """Run a cell to its end; one that comes to no result says so in its folder."""
    folder = out / CELLS / cell.name
    on_round = None if on_cell is None else lambda record: on_cell(cell, record)
    with suppress(RunError):
        if (folder / CONFIG).is_file():
            resume(folder, on_round, cell.tags, workers, cell.load)
        else:
            world = validate(cell.experiment, cell.load)
            run(cell.experiment, folder, on_round, cell.tags, workers, world)
    if on_cell:
        on_cell(cell, None)


def _run_cells(cells: Iterable[Cell], out: Path, on_cell: OnCell | None, processes: int) -> None:
    context = multiprocessing.get_context("fork")
    pending = list(cells)
    running: dict[Connection, tuple[Cell, ForkProcess]] = {}
    try:
        while pending or running:
            while pending and len(running) < processes:
                cell = pending.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                arguments = cell, out, theirs, os.getpid()
                process = context.Process(target=_cell_process, args=arguments)
                process.start()
                theirs.close()
                running[ours] = cell, process
            ready = set(wait(list(running)))
            for connection in [ours for ours in running if ours in ready]:
                cell, process = running[connection]
                try:
                    record: Any = connection.recv()
                except EOFError:
                    process.join()
                    del running[connection]
                    _mark_dead(cell, out, process.exitcode)
                    record = None
                if isinstance(record, InputError):
                    raise record
                if on_cell:
                    on_cell(cell, record)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _mark_dead(cell: Cell, out: Path, status: int | None) -> None:
    """Mark a cell whose process ended without a word."""
    folder = out / CELLS / cell.name
    if not (folder / SUMMARY).is_file() and read_failure(folder) is None:
        folder.mkdir(parents=True, exist_ok=True)
        error = f"its process ended with {ended_text(status)}"
        write_failure(folder, failure(cell.experiment, error, cell.tags))


def _cell_process(cell: Cell, out: Path, connection: Connection, parent: int) -> None:
    obey_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    def send(_: Cell, record: dict[str, Any] | None) -> None:
        if record is not None:
            connection.send(record)

    try:
        _run_cell(cell, out, send, workers=0)
    except InputError as error:
        connection.send(error)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(1)  # whoever compared is gone; the cell can be resumed


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed without a word."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)  # the cell can be resumed
