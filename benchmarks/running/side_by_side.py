"""Cells side by side, one process each, that end with whoever started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from benchmarks.running.cell import Cell, OnCell, run_cell
from benchmarks.running.interruption import obey_parent
from mpfl.errors import InputError
from server.app import failure
from server.health import read_failure, write_failure
from server.runfolder import SUMMARY, finished
from server.transport.grid import ended_text, worker_count

DEAD = "its process ended with"
"""Begins the error of a cell that the machine ended; run again, it may well come to a result."""


def run_cells(cells: Iterable[Cell], folders: Path, on_cell: OnCell | None, workers: int) -> None:
    """Run every unfinished cell into its folder among `folders`.

    Cells run side by side, one process each with its clients in that process: that keeps
    every core busy without any copying. A single cell uses worker processes instead; cells that
    train on a GPU run one after another in this process.
    """
    todo = [cell for cell in cells if not finished(folders / cell.name)]
    processes = worker_count(workers, len(todo))
    if len(todo) == 1 or _on_gpu(todo) or not processes:
        for cell in todo:
            run_cell(cell, folders, on_cell)
    else:
        _in_processes(todo, folders, on_cell, processes)


def _on_gpu(cells: Sequence[Cell]) -> bool:
    return any(cell.experiment.train.device == "cuda" for cell in cells)


def _in_processes(
    cells: Iterable[Cell], folders: Path, on_cell: OnCell | None, processes: int
) -> None:
    context = multiprocessing.get_context("fork")
    pending = list(cells)
    running: dict[Connection, tuple[Cell, ForkProcess]] = {}
    try:
        while pending or running:
            while pending and len(running) < processes:
                cell = pending.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                arguments = cell, folders, theirs, os.getpid()
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
                    _mark_dead(cell, folders, process.exitcode)
                    record = None
                if isinstance(record, InputError):
                    raise InputError(f"{cell.name}: {record}")
                if on_cell:
                    on_cell(cell, record)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _mark_dead(cell: Cell, folders: Path, status: int | None) -> None:
    """Mark a cell whose process ended without a word."""
    folder = folders / cell.name
    if not (folder / SUMMARY).is_file() and read_failure(folder) is None:
        folder.mkdir(parents=True, exist_ok=True)
        error = f"{DEAD} {ended_text(status)}"
        write_failure(folder, failure(cell.experiment, error, cell.tags))


def _cell_process(cell: Cell, folders: Path, connection: Connection, parent: int) -> None:
    obey_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    def send(_: Cell, record: dict[str, Any] | None) -> None:
        if record is not None:
            connection.send(record)

    try:
        run_cell(cell, folders, send, workers=0)
    except InputError as error:
        connection.send(error)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(1)  # whoever compared is gone; the cell can be resumed


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which may be killed without a word."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)  # the cell can be resumed
