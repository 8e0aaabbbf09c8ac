"""``docs/run-folder.md`` says everything that real folders hold, in the words of the code."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli.main import invoke
from tests.field_tables import PAGE, with_tables

Make = Callable[..., Path]

TEXT = PAGE.read_text("utf-8")
NAMES = set(re.findall(r"`([^`\n]+)`", TEXT))
NAMED_BY_THE_RUN = {
    *("rejected", "layer_density", "densities", "histogram", "sweep", "versions"),
    *("lost", "ignored", "rounds"),
    *("variants", "adjust", "ladder"),
}
"""Tables whose keys are names of parts, layers or packages."""


@pytest.fixture(scope="module")
def written(
    make_run: Make, make_comparison: Make, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folders that hold whatever the commands write."""
    folder = tmp_path_factory.mktemp("written")
    run = str(make_run(folder / "run", engine__record_ballots=True))
    for command in (["report", run], ["votes", run], ["retrain", run, "--epochs", "1"]):
        assert invoke(command) == 0
    make_run(folder / "lottery", "lotteryfl")
    make_comparison(folder / "compared", seeds=1)
    return folder


def keys_of(value: Any) -> Iterator[str]:
    for inner in value if isinstance(value, list) else []:
        yield from keys_of(inner)
    for key, inner in value.items() if isinstance(value, dict) else []:
        yield key
        if key not in NAMED_BY_THE_RUN:
            yield from keys_of(inner)


def test_the_tables_are_those_of_the_code() -> None:
    assert with_tables(TEXT) == TEXT, "python -m tests.field_tables writes them anew"


def test_every_file_has_its_line(written: Path) -> None:
    for file in (path for path in written.rglob("*") if path.is_file()):
        inside = file.relative_to(written).parts[1:]
        assert any(fnmatch("/".join(inside), name) for name in NAMES), file


def test_every_key_has_its_line(written: Path) -> None:
    found: set[str] = set()
    for file in written.rglob("*"):
        text = file.read_text() if file.suffix in (".json", ".jsonl", ".csv") else ""
        if file.suffix == ".csv" and file.parent.name != "votes":
            found.update(next(csv.reader(text.splitlines())))
        elif file.suffix != ".csv":
            lines = text.splitlines() if file.suffix == ".jsonl" else [text] * bool(text)
            found.update(key for line in lines for key in keys_of(json.loads(line)))
    assert {"vote", "unanimity", "client_density", "cores", "losses", "pareto"} <= found
    assert found <= NAMES
