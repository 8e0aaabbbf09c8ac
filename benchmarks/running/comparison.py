"""Many methods, seeds and settings on the same work, one run folder each, resumable."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.running.compare_config import CompareConfig, split_table
from benchmarks.running.experiment import resume, run, validate
from benchmarks.running.folder_lock import held
from mpfl.config import Experiment, from_mapping, to_mapping
from mpfl.errors import InputError, shown
from mpfl.nested import read_toml, value_at, with_override
from mpfl.registry import unknown_name
from server.checkpoint import write_atomically, writing
from server.methods import METHODS
from server.runfolder import CONFIG, SUMMARY, read_config
from server.transport.grid import worker_count

COMPARISON, CELLS = "comparison.toml", "cells"

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
    known = [*METHODS.names(), *config.variants]
    for key, name in (
        *(("methods", name) for name in config.methods),
        ("baseline", config.baseline),
    ):
        if name not in known:
            raise InputError(f"compare.{key}: {unknown_name('method', name, known)}")
    sweeps = [tuple(zip(config.sweep, v, strict=True)) for v in product(*config.sweep.values())]
    cells = [
        Cell(label, seed, sweep, _experiment(table, config, label, sweep, seed))
        for label, sweep, seed in product(config.methods, sweeps, config.seeds)
    ]
    _check_folders(cells)
    _check_labels_differ(cells)
    for experiment in {dataclasses.replace(cell.experiment, seed=0) for cell in cells}:
        validate(experiment)
    return cells


def _experiment(
    table: Mapping[str, Any], config: CompareConfig, label: str, sweep: Sweep, seed: int
) -> Experiment:
    overrides = {"method": label, **config.variants.get(label, {}), **dict(sweep)}
    resolved: Mapping[str, Any] = with_override(table, "seed", seed)
    for key, value in overrides.items():
        resolved = with_override(resolved, key, value)
    for rule in config.adjust:
        if _applies(rule["when"], label, from_mapping(resolved)):
            for key, value in rule["set"].items():
                resolved = with_override(resolved, key, value)
    return from_mapping(resolved)


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
    work: dict[str, list[Experiment]] = {}
    for cell in cells:
        work.setdefault(cell.label, []).append(cell.experiment)
    first: dict[tuple[Experiment, ...], str] = {}
    for label, experiments in work.items():
        other = first.setdefault(tuple(experiments), label)
        if other != label:
            raise InputError(f"compare.methods: {other!r} and {label!r} are the same experiment")


def _applies(when: Mapping[str, Any], label: str, experiment: Experiment) -> bool:
    """Return whether a cell has all the values that a rule asks for; InputError on unknown keys."""
    table = {**to_mapping(experiment), "label": label}
    return {key: value_at(table, key) for key in when} == when


def compare(
    table: Mapping[str, Any],
    cells: Sequence[Cell],
    out: Path,
    on_cell: OnCell | None = None,
    workers: int = -1,
) -> None:
    """Run every unfinished cell of a comparison.

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
        If `out` holds another comparison, or one that still runs.
    """
    _claim(out, table, cells)
    with held(out):
        todo = [cell for cell in cells if not (out / CELLS / cell.name / SUMMARY).is_file()]
        processes = worker_count(workers, len(todo))
        gpu = any(cell.experiment.train.device == "cuda" for cell in todo)
        if len(todo) == 1 or gpu or not processes:
            for cell in todo:
                _run_cell(cell, out, on_cell)
        else:
            _run_cells(todo, out, on_cell, processes)


def _claim(out: Path, table: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Start a comparison folder, or recognise the one that is there."""
    rest, config = split_table(table)
    text = tomli_w.dumps({**rest, "compare": dataclasses.asdict(config)})
    file = out / COMPARISON
    with writing(out):
        if file.is_file():
            if read_toml(file.read_text()) != read_toml(text):
                raise InputError(f"--out: {out} holds another comparison; choose another folder")
        else:
            out.mkdir(parents=True, exist_ok=True)
            if {entry.name for entry in out.iterdir()} - {f"{COMPARISON}.tmp"}:
                raise InputError(f"--out: {out} is not empty and holds no comparison")
            write_atomically(file, text.encode())
        (out / CELLS).mkdir(exist_ok=True)
    for cell in cells:
        stored = out / CELLS / cell.name
        if (stored / CONFIG).is_file() and read_config(stored) != cell.experiment:
            raise InputError(f"{stored / CONFIG} is of another configuration; choose another --out")


def _run_cell(cell: Cell, out: Path, on_cell: OnCell | None, workers: int | None = None) -> None:
    folder = out / CELLS / cell.name
    on_round = None if on_cell is None else lambda record: on_cell(cell, record)
    if (folder / CONFIG).is_file():
        resume(folder, on_round, cell.tags, workers)
    else:
        run(cell.experiment, folder, on_round, tags=cell.tags, workers=workers)
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
                    _check_finished(cell, out, process.exitcode)
                    record = None
                if isinstance(record, InputError):
                    raise record
                if on_cell:
                    on_cell(cell, record)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _check_finished(cell: Cell, out: Path, status: int | None) -> None:
    if not (out / CELLS / cell.name / SUMMARY).is_file():
        raise RuntimeError(f"cell {cell.name} ended with status {status} and no summary")


def _cell_process(cell: Cell, out: Path, connection: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
