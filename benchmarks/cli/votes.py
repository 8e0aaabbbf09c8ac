"""``mpfl votes``: what every vote rule would have made of a round's ballots."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json
from benchmarks.figures.votes import vote_histogram
from benchmarks.results.ballots import Judged, judge
from benchmarks.units import percent_text
from server.custody import write_atomically, writing

FOLDER = "votes"


def votes(
    run: Annotated[Path, typer.Argument(help="A run folder with recorded ballots.")],
    round_: Annotated[int, typer.Option("--round", min=0, help="0: the last that counted.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder, else RUN/votes.")] = None,
    as_json: Json = False,
) -> None:
    """Apply every vote rule to a round's recorded ballots: table, CSV and figure."""
    reporter = Reporter(quiet=False, as_json=as_json)
    judged = judge(run, round_)
    rows = rule_rows(judged)
    ballots = max(result.ballots for result in judged.results)
    reporter.say(
        f"round {judged.round}: {ballots} ballots, unanimous on "
        f"{percent_text(judged.unanimity)} of the units, overlap {judged.overlap:.4f}"
    )
    reporter.say(rule_table(rows, judged))
    files = _write(out or run / FOLDER, judged, rows)
    reporter.say("written: " + ", ".join(map(str, files)))
    reporter.result(
        {
            "round": judged.round,
            "ballots": ballots,
            "rule": judged.rule,
            "unanimity": judged.unanimity,
            "overlap": judged.overlap,
            "rules": rows,
        }
    )


def rule_rows(judged: Judged) -> list[dict[str, Any]]:
    """Return a row per rule.

    ``jaccard_with_used`` is the overlap with the mask the run went on with (None if its method
    has no vote), ``overlap_with_ballots`` the mean one with the ballots.
    """
    return [
        {
            "rule": result.rule,
            "density": result.density,
            "jaccard_with_used": None if judged.used is None else result.mask.jaccard(judged.used),
            "overlap_with_ballots": result.mean_overlap_with_ballots,
            "ballots": result.ballots,
            "layer_densities": result.layer_densities,
        }
        for result in judged.results
    ]


def rule_table(rows: list[dict[str, Any]], judged: Judged) -> Table:
    """Lay the rows out for a terminal; the run's own rule is marked."""
    layers = list(judged.histogram)
    heads = ("density", "Jaccard with used", "overlap with ballots", *layers)
    table = Table("rule", *(Column(name, justify="right") for name in heads))
    for row in rows:
        own = " *" if row["rule"] == judged.rule else ""
        used = row["jaccard_with_used"]
        table.add_row(
            row["rule"] + own,
            f"{row['density']:.4f}",
            "–" if used is None else f"{used:.4f}",
            f"{row['overlap_with_ballots']:.4f}",
            *(f"{row['layer_densities'][name]:.4f}" for name in layers),
        )
    if judged.used is not None:
        table.caption = f"used in the run: {judged.rule}"
    return table


def rule_csv(rows: list[dict[str, Any]]) -> str:
    """Return the rows as CSV; a column ``density of <layer>`` for each layer."""
    text = io.StringIO()
    flat = [
        {key: value for key, value in row.items() if key != "layer_densities"}
        | {f"density of {name}": value for name, value in row["layer_densities"].items()}
        for row in rows
    ]
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _write(folder: Path, judged: Judged, rows: list[dict[str, Any]]) -> list[Path]:
    stem = folder / f"round-{judged.round}"
    made = vote_histogram(judged.round, judged.histogram)
    contents = {".csv": rule_csv(rows).encode(), ".svg": made.svg.encode(), ".png": made.png}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for ending, content in contents.items():
            write_atomically(Path(f"{stem}{ending}"), content)
    return [Path(f"{stem}{ending}") for ending in contents]
