"""``mpfl bench``: speed tables, each against the naive way in the same run."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json, write_output
from benchmarks.speed.codec import ballot_table, codec_table, model_table
from benchmarks.speed.compact import compact_table
from benchmarks.speed.engine import engine_table
from benchmarks.speed.peers import PEERS, prepare
from benchmarks.speed.scale import scale_table
from benchmarks.speed.together import MODEL_NAMES, TOGETHER, together_table
from benchmarks.speed.votes import votes_table
from benchmarks.units import value_text
from mpfl.config import from_mapping
from mpfl.errors import InputError, keyed
from mpfl.models import MODELS
from mpfl.registry import parse_spec

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)

UNITS = {
    "_bytes": "",
    "gigabytes_per_second": "GB/s",
    "_mbit_per_second": " Mbit/s",
    "_per_second": "/s",
    "processor_seconds_per_client": "CPU s a client",
    "_seconds": " s",
}
"""How the ending of a row's key reads in the head of its column."""
HIDDEN = {"load", "failure"}
"""Keys that only ``--json`` shows."""


@app.command()
def votes(
    units: Annotated[int, typer.Option(min=8)] = 10_000_000,
    ballots: Annotated[int, typer.Option(min=1)] = 101,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Json = False,
) -> None:
    """Count ballots: the tally against unpack-and-add and against memcpy."""
    _show(f"{ballots} ballots of {units:,} units", votes_table(units, ballots, repeats), as_json)


@app.command()
def codec(
    bits: Annotated[int, typer.Option(min=8)] = 10_000_000,
    fractions: Annotated[str, typer.Option(help="Shares of ones.")] = "0.02,0.1,0.5",
    ballots: Annotated[
        Path | None, typer.Option(help="Folder of a run: its recorded ballots instead.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A network: ballots of it, as a run codes them, instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Encode masks: every codec against zlib and bitarray."""
    if model:
        _show(f"ballots of {model}, one thread", model_table(model), as_json)
        return
    if ballots:
        _show(f"ballots of {ballots}", ballot_table(ballots), as_json)
        return
    try:
        shares = [float(text) for text in fractions.split(",")]
    except ValueError:
        raise InputError(f"--fractions: got {fractions!r}, expected 0.02,0.1") from None
    _show(f"random masks of {bits:,} units", codec_table(bits, shares), as_json)


@app.command()
def scale(
    units: Annotated[int, typer.Option(min=1000, help="Of the made-up network.")] = 10_000_000,
    density: Annotated[float, typer.Option(help="Of ballots and mask.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Take masks of many units through a round: every stage against memcpy of its bytes."""
    _show(f"a round of {units:,} units, one thread", scale_table(units, density), as_json)


@app.command()
def compact(
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    as_json: Json = False,
) -> None:
    """Train with pruned filters cut out, against training them masked."""
    _show("a training step, masked and compacted", compact_table(repeats=repeats), as_json)


@app.command()
def engine(
    data_dir: Annotated[Path | None, typer.Option(help="Folder with MNIST.")] = None,
    clients: Annotated[
        int | None, typer.Option(min=1, help="Of a training round; else 100, with --device 128.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds, after the first.")] = 3,
    workers: Annotated[str, typer.Option(help="Workers of the local grid.")] = "0,1,2",
    empty: Annotated[str, typer.Option(help="Numbers of empty clients.")] = "100,1000",
    ray: Annotated[bool | None, typer.Option(help="Run Ray; else if it is installed.")] = None,
    vectorised: Annotated[
        int | None, typer.Option(min=0, help="Clients trained together; else 32 on a GPU.")
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Turns of every engine at training.")] = 2,
    model: Annotated[str, typer.Option(help="Without --device: the network.")] = "lenet300",
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Other simulators too, each installed into an environment of its own, kept in "
            "the user's cache folder.",
        ),
    ] = False,
    augment: Annotated[
        str, typer.Option(help="What a row of its own does to the images (empty: no such row).")
    ] = "crop_flip",
    device: Annotated[
        str, typer.Option(help="cuda or cpu: clients trained together there, the table below.")
    ] = "",
    models: Annotated[str, typer.Option(help="With --device: networks.")] = ",".join(MODEL_NAMES),
    together: Annotated[
        str, typer.Option(help="With --device: clients together (1: one after another).")
    ] = ",".join(map(str, TOGETHER)),
    samples: Annotated[
        int, typer.Option(min=0, help="With --device: of each client (0: equal parts of all).")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="File that takes the rows as JSON, too.")] = None,
    as_json: Json = False,
) -> None:
    """Run clients: the local grid against a bare PyTorch loop and Flower's Ray engine.

    With --device: clients trained together there, in float32 and bf16, against one after another
    and a plain PyTorch loop.
    """
    if data_dir is not None and not (data_dir / "MNIST").is_dir():
        raise InputError(f"--data-dir: {data_dir} has no folder MNIST")
    clients = clients or (128 if device else 100)
    images = "MNIST" if data_dir else "random images in MNIST's shape (no --data-dir)"
    each = f"{samples or 60_000 // clients} samples a client, {images}"
    if device and peers:
        raise InputError("--peers: other simulators have no rows in the table of --device")
    if device:
        names, numbers = models.split(","), _integers("--together", together)
        rows = together_table(
            device, names, numbers, clients, rounds, samples, data_dir, _note_together
        )
        _show(f"{_processor(device)}, {each}", rows, as_json)
    else:
        counts, sizes = _integers("--workers", workers), _integers("--empty", empty)
        with keyed("--model"):
            MODELS[parse_spec(model)[0]]
        found = [prepare(peer, _say) for peer in PEERS] if peers else []
        with keyed("--augment"):
            from_mapping({"data": {"augment": augment}})
        rows = engine_table(
            data_dir, clients, rounds, counts, sizes, ray, vectorised, passes, _note, model, found,
            augment,
        )  # fmt: skip
        _show(f"{model}, {each}", rows, as_json)
    if out:
        write_output(out, json.dumps(rows, indent=1).encode())


def _note(row: dict[str, Any]) -> None:
    speed = row["failure"] or "{clients_per_second:,.1f} clients/s, load {load:.1f}".format(**row)
    _say("{work} {engine} {workers} workers: ".format(**row) + speed)


def _note_together(row: dict[str, Any]) -> None:
    speed = row["failure"] or f"{row['clients_per_second']:,.1f} clients/s, load {row['load']:.1f}"
    _say("{model} {precision} {way}: ".format(**row) + speed)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _processor(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "processor, one thread"


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise InputError(f"{option}: got {text!r}, expected numbers such as 1,2") from None


def _show(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    reporter = Reporter(quiet=False, as_json=as_json)
    reporter.say(rows_table(title, rows, reporter.console.width))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    reporter.say(f"load average {load} on {os.cpu_count()} cores: timings suffer from other work")
    reporter.result(rows)


def rows_table(title: str, rows: list[dict[str, Any]], width: int) -> Table:
    """Lay out rows of any benchmark: names first and to the left, numbers to the right.

    Where that is wider than `width` characters and it helps, every row becomes a column.
    """
    texts = {name for name in rows[0] if any(isinstance(row[name], str) for row in rows)}
    names = [name for name in rows[0] if name not in HIDDEN]
    names.sort(key=lambda name: name not in texts)
    heads = [_head(name) for name in names]
    cells = [[value_text(name, row[name]) for name in names] for row in rows]
    upright = _table(title, heads, [name in texts for name in names], cells)
    first, *columns = zip(heads, *cells, strict=True)
    turned = _table(title, first, [True, *[False] * len(rows)], columns)
    fits = [Console(width=1000).measure(table).minimum <= width for table in (upright, turned)]
    return turned if fits == [False, True] else upright


def _table(
    title: str, heads: Sequence[str], texts: Sequence[bool], cells: Sequence[Sequence[str]]
) -> Table:
    """Return a table whose cells stay whole and whose heads break between words only."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.pad_edge = False
    for number, (head, text) in enumerate(zip(heads, texts, strict=True)):
        width = max(map(len, [*head.split(), *(row[number] for row in cells)]))
        justify: JustifyMethod = "left" if text else "right"
        table.add_column(textwrap.fill(head, width), justify=justify, no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return table


def _head(name: str) -> str:
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " ") + unit
    return name.replace("_", " ")
