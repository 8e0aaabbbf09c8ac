"""What runs and comparisons leave: their figures, tables and pages, as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load_file

from benchmarks.report.table import table_text
from benchmarks.results.frames import comparison_frame, ledger_frame, rounds_frame
from benchmarks.results.rows import Row
from benchmarks.results.rundata import Ledger, RunData
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.registry import unknown_name
from server.custody import check_file
from server.records import RoundRecord, to_json
from server.runfolder import MODEL

if TYPE_CHECKING:  # figures are imported when one is asked for
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder
        The run folder, with everything below and ``report.html`` once `report` was called.
    data
        What the folder holds, read back.

    Examples
    --------
    >>> import benchmarks
    >>> run = benchmarks.run("demo", {"data.clients": 2, "federation.rounds": 1})
    >>> int(run.ledger.message_bytes.sum()) == run.rounds[-1].total_bytes
    True
    """

    folder: Path
    data: RunData

    @property
    def summary(self) -> Mapping[str, Any]:
        """The content of ``summary.json``: final accuracy, bytes, digests, versions."""
        return dict(to_json(self.data.summary))

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """One record a round; byte counts are cumulative."""
        return self.data.rounds

    @property
    def ledger(self) -> Ledger:
        """Every message with its bytes by kind, by columns."""
        return self.data.ledger

    @property
    def mask(self) -> Mask | None:
        """The final mask, full where nothing is pruned; None in a run that failed."""
        return self.data.mask

    @property
    def model(self) -> dict[str, NDArray[Any]]:
        """The final model's parameters and buffers by name, read anew at each access."""
        check_file(self.folder, MODEL)
        return load_file(self.folder / MODEL)

    def to_pandas(self, table: str = "rounds") -> Any:
        """Return a DataFrame: one row a round (``rounds``) or one a message (``ledger``).

        Raises
        ------
        InputError
            For another table.
        ImportError
            Without pandas; it names the extra to install.
        """
        frames = {"rounds": rounds_frame, "ledger": ledger_frame}
        if table not in frames:
            raise unknown_name("table", table, frames)
        return frames[table](self.data)

    def plot(self) -> Figure:
        """Return a figure: test accuracy per round, and bytes sent until then by direction."""
        from benchmarks.figures.one_run import draw_run

        figure: Figure = draw_run(self.data)
        return figure

    def report(self) -> Path:
        """Write ``report.html`` with its figures into the folder; returns the page."""
        from benchmarks.report.write import write_report

        return write_report(self.folder).path


@dataclass(frozen=True)
class Comparison:
    """Finished runs of several methods and seeds on the same work.

    Attributes
    ----------
    folder
        The comparison folder; `compare` continues it if it is given again.
    runs
        Every cell that came to a result, in the order of configuration.
    rows
        One per method and swept value, over its seeds: cheapest first, ceilings last.
    baseline
        What bytes are compared with.
    failed
        Cells that came to no result → why. Rows say how many of their seeds are missing; `compare`
        tries them again.
    """

    folder: Path
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    baseline: str
    failed: Mapping[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """Return the comparison as plain text, as the terminal shows it."""
        console = Console(width=110, no_color=True, highlight=False, markup=False, emoji=False)
        with console.capture() as captured:
            console.print(table_text(self.rows, self.baseline))
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def to_pandas(self) -> Any:
        """Return a DataFrame, one row per method; ImportError naming the extra without pandas."""
        return comparison_frame(self.rows)

    def plot(self) -> Figure:
        """Return a figure: test error against total bytes, both on a log scale, for each setting.

        Raises
        ------
        InputError
            If no run sends anything.
        """
        from benchmarks.figures.errors import draw_errors
        from benchmarks.figures.groups import panels

        parts = panels([run.data for run in self.runs], self.rows, self.baseline)
        figure: Figure | None = draw_errors(parts)
        if figure is None:
            raise InputError("no run of this comparison sends anything: there are no bytes to plot")
        return figure

    def report(self) -> Path:
        """Write ``report.html`` with its figures and tables; returns the page."""
        from benchmarks.report.write import write_report

        return write_report(self.folder).path
