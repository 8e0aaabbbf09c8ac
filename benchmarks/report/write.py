"""The report: one self-contained page, the figures as files, and the table as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.doubts import doubts
from benchmarks.report.pages import Asked, comparison_page, run_page
from benchmarks.report.rendering import rendered
from benchmarks.report.table import table_csv, table_tex
from benchmarks.report.trials import load_trials
from benchmarks.results.loading import REPORT, comparison_settings, load_folders
from benchmarks.results.published import Meeting, meetings
from benchmarks.results.rows import Row, comparison_table
from benchmarks.results.settings import setting_keys, without_constant_keys
from mpfl.errors import InputError
from server.custody import held, write_atomically, writing


@dataclass(frozen=True)
class Report:
    """What `write_report` wrote.

    Attributes
    ----------
    path
        The page.
    rows
        The comparison table.
    baseline
        What the rows are compared with.
    meetings
        Published accuracies beside those reached.
    """

    path: Path
    rows: list[Row]
    baseline: str
    meetings: list[Meeting]


def write_report(folders: Path | Sequence[Path], out: Path | None = None) -> Report:
    """Write ``report.html``, ``figures/``, ``table.csv`` and ``table.tex``.

    Parameters
    ----------
    folders
        A run folder, a comparison folder, or several of either.
    out
        Where to write; the folder itself where there is just one.

    Raises
    ------
    InputError
        One line naming what is missing or damaged.
    """
    chosen = [folders] if isinstance(folders, Path) else list(folders)
    if out is None:
        if len(chosen) != 1:
            raise InputError("a report on several folders needs a folder to write to: --out")
        out = chosen[0]
    found = load_folders(chosen)
    runs, dead = without_constant_keys(found.runs, list(found.failures.values()))
    settings = comparison_settings(chosen)
    asked = _asked(settings)
    rows = comparison_table(runs, asked.baseline, asked.margin, dead, asked.best_of)
    met = meetings(runs, settings)
    if len(runs) == 1 and not (found.unfinished or found.failures or met):
        page = run_page(runs[0], rows, chosen[0])
    else:
        heading, trials = f"Comparison {out.resolve().name}", load_trials(chosen, found.comparisons)
        notes = doubts(runs, found.unfinished, found.failures, setting_keys(runs, asked.baseline))
        page = comparison_page(runs, rows, asked, heading, notes, chosen, trials, met)
    contents = {
        f"figures/{item.name}.{ending}": content
        for item in page.pictures
        for ending, content in (("svg", item.svg.encode()), ("png", item.png), ("pdf", item.pdf))
    }
    table = table_csv(rows)
    contents["table.csv"] = table.encode()
    contents["table.tex"] = table_tex(rows, asked.baseline).encode()
    text = rendered(page.template, {**page.shown, "runs": runs, "csv": table})
    contents[REPORT] = text.encode()  # last: it says that all is there
    _write(out, contents)
    return Report(out / REPORT, rows, asked.baseline, met)


def _asked(settings: Mapping[str, Any]) -> Asked:
    """Return what to measure: what the comparison's own configuration says."""
    return Asked(
        str(settings.get("baseline", "fedavg")),
        float(settings.get("margin", 0.005)),
        list(settings.get("best_of", [])),
        dict(settings.get("ladder", {})),
    )


def _write(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files, whole ones even if two processes report on one folder."""
    with writing(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
        with held(out / "figures", patience=60, queue=True):
            for name, content in contents.items():
                write_atomically(out / name, content)
