"""What the terminal shows: a progress bar or plain lines, errors in one line, exit statuses."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.running.comparison import CELLS, Cell, OnCell
from benchmarks.units import bytes_text
from mpfl.faults.replies import CLIENT_FAILURES
from server.health import lost_text, read_failure
from server.records import json_text
from server.runfolder import ROUNDS, SUMMARY

_SPEED_SECONDS = 3600.0
"""Time left follows the mean speed of the last hour: a round may well take minutes."""
DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def rounds_done(cell: Cell, out: Path) -> int:
    """Return how many rounds of a comparison's cell need no more work, at most."""
    folder = out / CELLS / cell.name
    if (folder / SUMMARY).is_file():
        return cell.experiment.federation.rounds
    if not (folder / ROUNDS).is_file():
        return 0
    return (folder / ROUNDS).read_bytes().count(b"\n")


class Reporter:
    """Shows progress in the way that the terminal and the options ask for."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.console = Console(stderr=False, highlight=False)
        self._bar: Progress | None = None
        self._task: Any = None
        self._lost: Counter[str] = Counter()
        self._failure = ""

    @contextmanager
    def rounds(self, total: int, title: str, done: int = 0) -> Iterator[None]:
        """Show the progress of `total` rounds while the block runs."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rounds,"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[now]}"),
        )
        screen = Console(stderr=True)
        with Progress(*columns, console=screen, speed_estimate_period=_SPEED_SECONDS) as bar:
            self._bar = bar
            self._task = bar.add_task(title, total=total, completed=done, now="")
            yield
        self._bar = None

    def on_round(self, record: dict[str, Any]) -> None:
        """Show one round's record."""
        accuracy = record["test_accuracy"]
        shown = "" if accuracy is None else f"accuracy {accuracy:.4f}  "
        text = (
            f"{record['phase']:<7} {shown}density {record['density']:.3f}  "
            f"{bytes_text(record['total_bytes'])}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=record["round"], now=text)
        elif not self.quiet and not self.as_json:
            self.console.print(f"round {record['round']:>3}  {text}")
        for reason, count in record["rejected"].items():
            self.note(f"round {record['round']}: {count} replies rejected ({reason})")
        for error in record["errors"]:
            self.note(error)
        self._count(record)

    def cell_watcher(self, cells: Sequence[Cell], out: Path) -> OnCell:
        """Return a callback that shows the progress of a comparison's cells."""
        rounds = {cell.name: rounds_done(cell, out) for cell in cells}
        finished = sum((out / CELLS / cell.name / SUMMARY).is_file() for cell in cells)

        def watch(cell: Cell, record: dict[str, Any] | None) -> None:
            nonlocal finished
            if record is None:
                finished += 1
                rounds[cell.name] = cell.experiment.federation.rounds
            else:
                rounds[cell.name] = record["round"]
            text = f"{finished}/{len(cells)} finished, now {cell.name}"
            if self._bar is not None:
                self._bar.update(self._task, completed=sum(rounds.values()), now=text)
            elif record is None:
                how = "failed" if read_failure(out / CELLS / cell.name) else "finished"
                self.say(f"{how} {cell.name} ({finished}/{len(cells)})")
            if record is not None:
                for error in record["errors"]:
                    self.note(f"{cell.name}: {error}")
                self._count(record)

        return watch

    def _count(self, record: Mapping[str, Any]) -> None:
        failures = sum(record["rejected"].get(reason, 0) for reason in CLIENT_FAILURES)
        if failures and not self._failure:
            self._failure = record["errors"][0]  # those of clients stand first
        self._lost.update(record["rejected"])

    def losses(self) -> None:
        """Say in one line, even if told to be quiet, what replies were lost in the rounds shown."""
        if self._lost:
            first = f"; first client that failed: {self._failure}" if self._failure else ""
            self.warn(f"replies that did not count: {lost_text(self._lost)}{first}")

    def warn(self, text: str) -> None:
        """Show a line on standard error, even if told to be quiet."""
        print(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """Show a line of interest on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def say(self, text: RenderableType) -> None:
        """Show a text or a table, unless the result is asked for as JSON."""
        if not self.as_json and not self.quiet:
            self.console.print(text, soft_wrap=isinstance(text, str))

    def result(self, value: Any) -> None:
        """Print a result as JSON where that is asked for."""
        if self.as_json:
            print(json_text(value, indent=2, sort_keys=True))
