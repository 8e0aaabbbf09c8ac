"""The options that several sub-commands have, and what they do to a configuration."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mpfl.config import from_mapping
from mpfl.errors import InputError
from mpfl.plugins import resolved
from mpfl.presets import load_table, parse_assignment, parse_list, renamed, resolve

Config = Annotated[str, typer.Argument(help="A preset's name, or a TOML file.")]
Set = Annotated[
    list[str], typer.Option("--set", help="key=value, e.g. prune.density=0.05; may be repeated.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write (new or empty).")]
OutAgain = Annotated[
    Path | None,
    typer.Option("--out", help="Folder to write (new or empty; one of the same is continued)."),
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data sets.")]
Plugins = Annotated[
    list[str],
    typer.Option("--plugin", help="A file or module that registers parts; may be repeated."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing data sets.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result alone, and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Sink = Annotated[str, typer.Option("--sink", help="Show rounds there too: tensorboard, wandb.")]

_RANGE = re.compile(r"(\d{1,10})\s*-\s*(\d{1,10})")
_MOST_SEEDS = 1000


def configured(
    config: str,
    assignments: Sequence[str],
    data_dir: Path | None,
    download: bool,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the configuration's tables with the options applied."""
    changes: dict[str, Any] = {}
    if data_dir is not None:
        changes["data.folder"] = str(data_dir.resolve())
    if download:
        changes["data.download"] = True
    table = resolve(config, assignments, changes)
    _check_keys(config)
    return with_plugins(table, plugins)


def _check_keys(config: str) -> None:
    """Refuse a key that no experiment has, naming the file: nothing set on top can mend that."""
    table = {k: v for k, v in load_table(config).items() if k not in ("compare", "tune")}
    try:
        from_mapping(table)
    except InputError as error:
        if str(error).startswith("unknown key"):
            raise InputError(f"{config}: {error}") from None


def renamed_keys(config: str, assignments: Sequence[str]) -> list[str]:
    """Return a note for each key that has another name today."""
    given = dict(map(parse_assignment, assignments))
    return renamed(load_table(config))[1] + renamed(given)[1]


def with_plugins(table: Mapping[str, Any], plugins: Sequence[str]) -> dict[str, Any]:
    """Return a configuration's tables with further plugins, as ``--plugin`` names them."""
    if not plugins:
        return dict(table)
    there = table.get("plugins", [])
    return (
        resolved({**table, "plugins": [*there, *plugins]})
        if isinstance(there, list)
        else dict(table)
    )


def new_folder(config: str, prefix: str = "") -> Path:
    """Return a folder under ``runs`` that is not there yet, named after configuration and time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{prefix}{Path(config).stem}-{stamp}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def write_output(path: Path, content: bytes, option: str = "--out") -> None:
    """Write a file that the user asked for; InputError naming the option where that fails."""
    from server.custody import write_atomically, writing

    with writing(path, option):
        write_atomically(path, content)


def seeds_of(text: str, option: str) -> list[Any]:
    """Read what an option says: whole numbers and ranges of them, ends included.

    Examples
    --------
    >>> seeds_of("0-2, 7", "--seeds")
    [0, 1, 2, 7]
    """
    seeds: list[Any] = []
    for part in parse_list(text, option):
        ends = _RANGE.fullmatch(part) if isinstance(part, str) else None
        if not ends:
            seeds.append(part)
            continue
        first, last = int(ends[1]), int(ends[2])
        if last < first:
            raise InputError(f"{option}: got {part}, expected the first seed before the last")
        if last >= first + _MOST_SEEDS:
            raise InputError(f"{option}: got {part}, expected at most {_MOST_SEEDS} seeds")
        seeds += range(first, last + 1)
    return seeds
