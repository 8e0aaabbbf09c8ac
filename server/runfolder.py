"""The run folder: what a run writes, how a killed one is continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpfl.config import Experiment, from_toml, to_toml
from mpfl.errors import InputError
from mpfl.state import Arrays
from server.checkpoint import load_checkpoint, save_checkpoint, write_atomically, writing
from server.records import HEADER, RoundRecord, Row, Summary, from_json, json_text

CONFIG, ROUNDS, LEDGER, SUMMARY = "config.toml", "rounds.jsonl", "ledger.csv", "summary.json"
MASK, MODEL, RETRAIN = "mask.mpfl", "model.safetensors", "central_retrain.json"
_BEFORE_CONFIG = {"checkpoint", ROUNDS, LEDGER, f"{CONFIG}.tmp"}  # a start that was cut short


@dataclass(frozen=True)
class Progress:
    """Where a checkpointed run stands.

    Attributes
    ----------
    facts
        Round, totals, digest and elapsed seconds.
    arrays
        ``method/…`` (its state) and ``clients/…`` (their states); see `mpfl.state`.
    """

    facts: dict[str, Any]
    arrays: Arrays


class RunFolder:
    """Writes one run. Rows are flushed as they come; nothing is ever rewritten."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> RunFolder:
        """Start a run in a new or empty folder.

        Raises
        ------
        InputError
            If the folder is not empty or cannot be written.
        """
        check_empty(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            (path / "checkpoint").mkdir(exist_ok=True)
            (path / ROUNDS).write_text("")
            (path / LEDGER).write_text(HEADER + "\n")
            write_atomically(path / CONFIG, to_toml(experiment).encode())
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, Experiment, Progress | None]:
        """Open an unfinished run; rows after its last checkpoint are cut off.

        Raises
        ------
        InputError
            If the folder is no run folder, or its configuration or checkpoint is damaged.
        """
        folder, experiment = cls(path), read_config(path)
        if folder.finished:
            return folder, experiment, None
        progress = None
        if (path / "checkpoint" / "latest").exists():
            progress = Progress(*load_checkpoint(path / "checkpoint" / "latest"))
        folder._cut(progress)
        return folder, experiment, progress

    def _cut(self, progress: Progress | None) -> None:
        lengths = progress.facts["lengths"] if progress else {ROUNDS: 0, LEDGER: len(HEADER) + 1}
        for name, length in lengths.items():
            target = self.path / name
            if not target.is_file() or target.stat().st_size < length:
                raise InputError(f"{target} is shorter than its checkpoint says")
            with target.open("r+b") as file:
                file.truncate(length)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.path / SUMMARY).is_file()

    def rounds(self) -> list[RoundRecord]:
        """Return the records of all rounds so far. InputError naming the line that is damaged."""
        lines = (self.path / ROUNDS).read_text(encoding="utf-8").splitlines()
        places = (f"{self.path / ROUNDS}: line {number}" for number in range(1, len(lines) + 1))
        return [from_json(RoundRecord, *found) for found in zip(lines, places, strict=True)]

    def write_round(self, record: RoundRecord, rows: Sequence[Row]) -> None:
        """Append a round's record and its ledger rows."""
        with (self.path / LEDGER).open("a") as file:
            file.writelines(row.csv() + "\n" for row in rows)
        with (self.path / ROUNDS).open("a") as file:
            file.write(json_text(record) + "\n")

    def checkpoint(self, facts: Mapping[str, Any], arrays: Arrays) -> None:
        """Write a checkpoint that resumes after the rows written so far."""
        lengths = {name: (self.path / name).stat().st_size for name in (ROUNDS, LEDGER)}
        path = self.path / "checkpoint" / "latest"
        save_checkpoint(path, {**facts, "lengths": lengths}, arrays)

    def write_ballot(self, round_number: int, client: int, packed: bytes) -> None:
        """Keep one ballot, as ``ballots/round-R/client-N.mpfl``."""
        folder = self.path / "ballots" / f"round-{round_number}"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"client-{client}.mpfl", packed)

    def finish(self, mask: bytes, model: bytes, summary: Summary) -> None:
        """Write the result; the summary comes last and marks the run as finished."""
        write_atomically(self.path / MASK, mask)
        write_atomically(self.path / MODEL, model)
        text = json_text(summary, indent=2, sort_keys=True) + "\n"
        write_atomically(self.path / SUMMARY, text.encode())


def read_config(folder: Path) -> Experiment:
    """Return a run folder's configuration. InputError naming what is missing or wrong."""
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(f"{folder} is not a run folder: it has no {CONFIG}")
    try:
        return from_toml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{file}: {error}") from None


def check_empty(path: Path) -> None:
    """Check that a run can be written to `path`.

    Raises
    ------
    InputError
        If there is something already, or it is no folder.
    """
    with writing(path):
        if path.exists() and {entry.name for entry in path.iterdir()} - _BEFORE_CONFIG:
            raise InputError(
                f"--out: {path} is not empty; choose another folder or use mpfl resume"
            )
