"""The options that several sub-commands have, and what they do to a configuration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mpfl.presets import resolve

Config = Annotated[str, typer.Argument(help="A preset's name, or a TOML file.")]
Set = Annotated[list[str], typer.Option("--set", help="key=value, e.g. prune.density=0.05")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write (new or empty).")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the data sets.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing data sets.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Sink = Annotated[str, typer.Option("--sink", help="Show rounds there too: tensorboard, wandb.")]


def configured(
    config: str, assignments: Sequence[str], data_dir: Path | None, download: bool
) -> dict[str, Any]:
    """Return the configuration's tables with the options applied."""
    changes: dict[str, Any] = {}
    if data_dir is not None:
        changes["data.folder"] = str(data_dir.resolve())
    if download:
        changes["data.download"] = True
    return resolve(config, assignments, changes)


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
    from server.checkpoint import write_atomically, writing

    with writing(path, option):
        write_atomically(path, content)
