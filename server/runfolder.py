"""The run folder: what a run writes, how a killed one is continued, whether it was edited."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpfl.config import Experiment, from_toml, to_toml
from mpfl.errors import InputError
from mpfl.state import Arrays
from server.checkpoint import load_checkpoint, save_checkpoint
from server.custody import (
    MANIFEST,
    Log,
    check,
    check_file,
    digest_of,
    listed,
    release,
    seal,
    take,
    write_atomically,
    writing,
)
from server.health import FAILURE
from server.records import HEADER, RoundRecord, Row, Summary, from_json, json_text

CONFIG, ROUNDS, LEDGER, SUMMARY = "config.toml", "rounds.jsonl", "ledger.csv", "summary.json"
MASK, MODEL, RETRAIN = "mask.mpfl", "model.safetensors", "central_retrain.json"
CHECKPOINT = "checkpoint/latest"
_RESULTS = (CONFIG, ROUNDS, LEDGER, SUMMARY, MASK, MODEL, RETRAIN)
_BEFORE_CONFIG = {  # a start that was cut short
    *("checkpoint", ROUNDS, LEDGER, MANIFEST, FAILURE),
    *(f"{name}.tmp" for name in (ROUNDS, LEDGER, MANIFEST, CONFIG, FAILURE)),
}
_BALLOT = re.compile(r"ballots/round-(\d+)/client-\d+\.mpfl")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a checkpointed run stands.

    Attributes
    ----------
    facts
        Round, totals, digest and elapsed seconds; ``files`` (name → length and digest) and
        ``ballots`` (name → digest) as they were then.
    arrays
        ``method/…`` (its state) and ``clients/…`` (their states); see `mpfl.state`.
    """

    facts: dict[str, Any]
    arrays: Arrays


class RunFolder:
    """Writes one run, and keeps others out until it is closed. Nothing is ever rewritten.

    Attributes
    ----------
    sealed
        Whether the folder gets a manifest: not if one was missing when the run went on.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self.sealed = path, True
        self._handle = handle
        self._logs: dict[str, Log] = {}
        self._ballots: dict[str, str] = {}

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> RunFolder:
        """Start a run in a new or empty folder.

        Raises
        ------
        InputError
            If the folder is not empty, in use, or cannot be written.
        """
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, take(path))
        with folder._closed_on_error():
            folder._begin(experiment)
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, Experiment, Progress | None]:
        """Open a run; what an unfinished one wrote after its last checkpoint is cut off.

        Raises
        ------
        InputError
            If the folder is no run folder, in use, or one of its files was edited or damaged.
        """
        read_config(path)
        folder = cls(path, take(path))
        with folder._closed_on_error():
            return folder, read_config(path), folder._continue()

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self.path, "", "; once that is mended, mpfl resume goes on")

    def _begin(self, experiment: Experiment) -> None:
        check_empty(self.path)
        text = to_toml(experiment).encode()
        with writing(self.path):
            (self.path / "checkpoint").mkdir(exist_ok=True)
            write_atomically(self.path / ROUNDS, b"")
            write_atomically(self.path / LEDGER, f"{HEADER}\n".encode())
            seal(self.path, {CONFIG: digest_of(text)})
            write_atomically(self.path / CONFIG, text)
        self._logs = _logs(self.path, _EMPTY)

    def _continue(self) -> Progress | None:
        if finished(self.path):
            return None
        self.sealed = listed(self.path) is not None
        tell_unsealed([] if self.sealed else [self.path])
        check_file(self.path, CONFIG)
        progress = read_progress(self.path)
        facts = progress.facts if progress else _NOTHING
        self._logs = _checked(self.path, facts)
        self._ballots = dict(facts["ballots"])
        with self._writing():
            for log in self._logs.values():
                log.cut()
            for name in set(_ballots(self.path)) - self._ballots.keys():
                (self.path / name).unlink()  # of a round after the checkpoint
        return progress

    def close(self) -> None:
        """Let others into the folder."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            release(handle)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        with self._writing():
            self._logs[LEDGER].append("".join(row.csv() + "\n" for row in rows).encode())
            self._logs[ROUNDS].append(f"{json_text(record)}\n".encode())

    def checkpoint(self, facts: Mapping[str, Any], arrays: Arrays) -> None:
        """Write a checkpoint that resumes after the rows written so far."""
        files = {name: [log.length, log.digest] for name, log in self._logs.items()}
        kept = {**facts, "files": files, "ballots": self._ballots}
        with self._writing():
            save_checkpoint(self.path / CHECKPOINT, kept, arrays)

    def write_ballot(self, round_number: int, client: int, packed: bytes) -> None:
        """Keep one ballot, as ``ballots/round-R/client-N.mpfl``."""
        name = f"ballots/round-{round_number}/client-{client}.mpfl"
        with self._writing():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / name, packed)
        self._ballots[name] = digest_of(packed)

    def finish(self, mask: bytes, model: bytes, summary: Summary) -> None:
        """Write the result; the summary comes last and marks the run as finished."""
        text = json_text(summary, indent=2, sort_keys=True) + "\n"
        contents = {MASK: mask, MODEL: model, SUMMARY: text.encode()}
        known = listed(self.path) or {}
        known |= {name: log.digest for name, log in self._logs.items()} | self._ballots
        known |= {name: digest_of(content) for name, content in contents.items()}
        with self._writing():
            if self.sealed:
                seal(self.path, known)
            for name, content in contents.items():
                write_atomically(self.path / name, content)


_EMPTY = {ROUNDS: [0, digest_of(b"")], LEDGER: [len(HEADER) + 1, digest_of(f"{HEADER}\n".encode())]}
_NOTHING: Mapping[str, Any] = {"round": 0, "files": _EMPTY, "ballots": {}}


def intact(path: Path) -> bool:
    """Check that nothing of a run folder was edited; returns whether it has a manifest to tell.

    Of a run that is not finished, what its checkpoint knows is checked; the rest is not.

    Raises
    ------
    InputError
        One line naming the file that is missing, was edited, or is not the run's.
    """
    known = listed(path)
    finished = (path / SUMMARY).is_file() if known is None else SUMMARY in known
    if finished:
        return check(path, [name for name in _RESULTS if (path / name).exists()] + _ballots(path))
    for name in (SUMMARY, MASK, MODEL, RETRAIN):
        if (path / name).exists() and known is not None:
            raise InputError(f"{path / name}: not the run's, which is not finished; remove it")
    progress = read_progress(path)
    if progress:
        _checked(path, progress.facts)
    return check(path)


def finished(path: Path) -> bool:
    """Return whether a run has come to its end; InputError as of `intact` if it has."""
    ended = (path / SUMMARY).is_file()
    if ended and not intact(path):
        tell_unsealed([path])
    return ended


def tell_unsealed(folders: Sequence[Path]) -> None:
    """Say in the log, in one line, which folders nobody can vouch for."""
    if folders:
        more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
        _LOG.warning("unsealed (no %s tells whether it was edited): %s%s", MANIFEST, folders[0],
                     more)  # fmt: skip


def folder_of(file: Path) -> Path | None:
    """Return the run folder that a file lies in, if it lies in one."""
    nearest = list(file.absolute().parents)[:3]
    marks = (CONFIG, SUMMARY, LEDGER)
    return next((p for p in nearest if any((p / mark).is_file() for mark in marks)), None)


def rounds_written(path: Path) -> int:
    """Return how many whole rounds a folder holds; the last of them may be cut off yet."""
    file = path / ROUNDS
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def read_progress(path: Path) -> Progress | None:
    """Return where an unfinished run stands; None before its first checkpoint."""
    file = path / CHECKPOINT
    return Progress(*load_checkpoint(file)) if file.exists() else None


def _checked(path: Path, facts: Mapping[str, Any]) -> dict[str, Log]:
    """Check what stood in a folder at its checkpoint; returns the files that grow."""
    logs = _logs(path, facts["files"])
    for name, (_, digest) in facts["files"].items():
        if logs[name].digest != digest:
            raise InputError(f"{path / name}: edited or damaged, its checkpoint knows it otherwise")
    for name, digest in facts["ballots"].items():
        if not (path / name).is_file() or digest_of((path / name).read_bytes()) != digest:
            raise InputError(f"{path / name}: missing, edited or damaged, its checkpoint knows it")
    for name in _ballots(path):
        match = _BALLOT.fullmatch(name)
        if name not in facts["ballots"] and match and int(match[1]) <= facts["round"]:
            raise InputError(f"{path / name}: not a ballot of this run; remove it")
    return logs


def _logs(path: Path, files: Mapping[str, Sequence[Any]]) -> dict[str, Log]:
    return {name: Log(path / name, length) for name, (length, _) in files.items()}


def _ballots(path: Path) -> list[str]:
    found = (file.relative_to(path).as_posix() for file in path.glob("ballots/*/*"))
    return sorted(name for name in found if _BALLOT.fullmatch(name))


def config_file(folder: Path) -> Path:
    """Return the file of a run folder's configuration. InputError for a folder without one."""
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(f"{folder} is not a run folder: it has no {CONFIG}")
    return file


def read_config(folder: Path) -> Experiment:
    """Return a run folder's configuration. InputError naming what is missing or wrong."""
    file = config_file(folder)
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
        names = {entry.name for entry in path.iterdir()} if path.exists() else set()
        begun = ROUNDS in names and (path / ROUNDS).stat().st_size > 0
    if begun or names - _BEFORE_CONFIG:
        resumed = " or use mpfl resume" if CONFIG in names else ""
        raise InputError(f"--out: {path} is not empty; choose another folder{resumed}")
