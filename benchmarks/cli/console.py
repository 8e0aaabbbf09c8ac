"""What the terminal shows: a progress bar or plain lines, errors in one line, exit statuses."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Column

from benchmarks.units import bytes_text, printable

if TYPE_CHECKING:
    from benchmarks.running.cell import Cell, OnCell

_SPEED_SECONDS = 3600.0
"""Time left follows the mean speed of the last hour: a round may well take minutes."""
_WIDE = 1000
"""Columns of output that is no terminal: nothing there needs to be cut."""


def rounds_done(cell: Cell, out: Path) -> int:
    """Return how many rounds of a comparison's cell need no more work, at most."""
    from benchmarks.running.cell import CELLS  # torch is a second that `list` need not wait
    from server.runfolder import SUMMARY, rounds_written

    folder = out / CELLS / cell.name
    if (folder / SUMMARY).is_file():
        return cell.experiment.federation.rounds
    return rounds_written(folder)


class _Terminal(Console):
    """A console on which names from files and configurations are text, whatever they hold."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield what is shown, its control characters replaced by signs."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def terminal() -> Console:
    """Return a console on standard output that shows texts as they are, brackets included."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = None if narrow else _WIDE
    return _Terminal(highlight=False, markup=False, emoji=False, width=width)


class Reporter:
    """Shows progress in the way that the terminal and the options ask for."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.console = terminal()
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
        whole, rest = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = (
            TextColumn("{task.description}", markup=False, table_column=rest),
            BarColumn(bar_width=16, table_column=whole),
            MofNCompleteColumn(table_column=whole),
            TimeElapsedColumn(table_column=whole),
            TextColumn("+", table_column=whole),
            TimeRemainingColumn(table_column=whole),
            TextColumn("{task.fields[now]}", markup=False, table_column=rest),
        )
        screen = _Terminal(stderr=True, emoji=False)
        with Progress(
            *columns, console=screen, speed_estimate_period=_SPEED_SECONDS, expand=True
        ) as bar:
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

    def step(self, text: str) -> None:
        """Show that one more round is done."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, now=text)

    def cell_watcher(self, cells: Sequence[Cell], out: Path) -> OnCell:
        """Return a callback that shows the progress of a comparison's cells."""
        from benchmarks.running.cell import CELLS
        from server.health import read_failure
        from server.runfolder import SUMMARY

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
        from mpfl.faults.replies import CLIENT_FAILURES

        failures = sum(record["rejected"].get(reason, 0) for reason in CLIENT_FAILURES)
        if failures and not self._failure:
            self._failure = record["errors"][0]  # those of clients stand first
        self._lost.update(record["rejected"])

    def losses(self) -> None:
        """Say in one line, even if told to be quiet, what replies were lost in the rounds shown."""
        if self._lost:
            from server.health import lost_text

            first = f"; first client that failed: {self._failure}" if self._failure else ""
            self.warn(f"replies that did not count: {lost_text(self._lost)}{first}")

    def warn(self, text: str) -> None:
        """Show a line on standard error, even if told to be quiet."""
        print(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """Show a line of interest on standard error."""
        if not self.quiet:
            with suppress(OSError):  # a closed standard error stops no run
                print(printable(text), file=sys.stderr)

    def notes(self, texts: Iterable[str]) -> None:
        """Show lines of interest, each once."""
        for text in dict.fromkeys(texts):
            self.note(text)

    def say(self, text: RenderableType) -> None:
        """Show a text or a table, unless the result is asked for as JSON."""
        if not self.as_json and not self.quiet:
            self.console.print(text, soft_wrap=isinstance(text, str))

    def conclude(self, text: RenderableType) -> None:
        """Show the result, even if told to be quiet, unless it is asked for as JSON."""
        if not self.as_json:
            self.console.print(text, soft_wrap=isinstance(text, str))

    def result(self, value: Any) -> None:
        """Print a result as JSON where that is asked for."""
        if self.as_json:
            from server.records import json_text

            print(json_text(value, indent=2, sort_keys=True))
