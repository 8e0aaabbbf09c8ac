"""Run folders, read back into `RunData`; one line naming the file where one is damaged."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError, safe_open

from benchmarks.results.rundata import Ledger, RunData, run_name
from benchmarks.results.settings import (
    COMPARISON,
    Claim,
    short_names,
    sources_of,
    told_apart,
    work_of,
)
from benchmarks.same_run import home_of, of_other_work, read_shared
from mpfl.config import from_mapping
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.methods import Codecs
from mpfl.nested import value_at, with_override
from mpfl.recipes import expanded
from server.custody import check, listed
from server.health import read_failure
from server.records import (
    HEADER,
    Failure,
    RetrainRecord,
    RoundRecord,
    Row,
    SharedRun,
    Summary,
    from_json,
)
from server.runfolder import (
    CONFIG,
    LEDGER,
    MASK,
    MODEL,
    RETRAIN,
    ROUNDS,
    SUMMARY,
    folder_of,
    intact,
    read_progress,
    tell_unsealed,
)

REPORT = "report.html"
"""The page of a folder, which `benchmarks.report` writes."""

_Run = TypeVar("_Run", RunData, Failure)


def load_run(folder: Path) -> RunData:
    """Read one run folder.

    Raises
    ------
    InputError
        One line naming the file, for one that is missing, edited, damaged or inconsistent.
    """
    run = _read_run(folder)
    tell_unsealed([] if run.sealed else [folder])
    return run


def _read_run(folder: Path) -> RunData:
    shared = read_shared(folder)
    if shared is None:
        return _read_own(folder)
    run = _read_own(folder.parent / shared.cell)
    config = _with(run.config, shared.sweep)
    if not _does_the_run_of(folder, shared, run, _codecs(config)):
        raise of_other_work(folder, shared)
    name = folder.resolve().name
    return replace(run, folder=name, label=shared.label, sweep=shared.sweep, config=config)


def _does_the_run_of(
    folder: Path, shared: SharedRun, run: RunData, codecs: Mapping[str, str]
) -> bool:
    """Tell whether a run has a cell's seed and method, and its swept values as far as it reads any.

    A rule of ``compare.adjust`` may have set a swept key to what no cell's sweep says. Of codecs
    those in effect are compared.
    """
    variants = comparison_settings([folder.parent.parent]).get("variants", {})
    changes = {"method": shared.label, **variants.get(shared.label, {})}
    swept = {k: v for k, v in run.sweep.items() if value_at(run.config, k) == v}
    unread = run.summary.health.ignored if run.summary.health else swept
    own = _codecs(run.config)
    same = {k for k in shared.sweep if k in codecs and codecs[k] == own.get(k)}
    return (
        run.seed == shared.seed
        and expanded(changes)["method"] == run.config["method"]
        and all(shared.sweep.get(k) == v or k in unread or k in same for k, v in swept.items())
    )


def _with(config: Mapping[str, Any], sweep: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, value in sweep.items():
        config = with_override(config, key, value)
    return config


def _codecs(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the codecs in effect by key; none of a configuration that cannot be read."""
    try:
        codecs = Codecs.of(from_mapping(config))
    except InputError:
        return {}
    return {"wire.up": codecs.up, "wire.down": codecs.down}


def _read_own(folder: Path) -> RunData:
    sealed = intact(folder)
    summary = read_summary(folder / SUMMARY)
    return RunData(
        folder=folder.resolve().name,
        label=summary.label,
        seed=summary.seed,
        sweep=summary.sweep,
        config=_read_toml(folder / CONFIG),
        rounds=read_rounds(folder / ROUNDS),
        ledger=_read_ledger(folder / LEDGER),
        summary=summary,
        mask=read_mask(folder / MASK) if (folder / MASK).exists() else None,
        shapes=weight_shapes(folder),
        retrained=_read_retrained(folder / RETRAIN),
        sealed=sealed,
        socket_bytes=_read_socket_bytes(folder / "sockets.json"),
    )


def is_comparison(folder: Path) -> bool:
    """Tell whether a folder holds the cells of a comparison rather than one run."""
    return (folder / "cells").is_dir() or (folder / "comparison.toml").exists()


def comparison_settings(folders: Sequence[Path]) -> Mapping[str, Any]:
    """Return what the tables ``[compare]`` of all comparison folders among these agree on.

    What others published says itself which runs it belongs to, so all of it is returned.
    """
    files = [file for folder in folders if (file := folder / "comparison.toml").exists()]
    tables = [table for file in files if isinstance(table := _read_toml(file).get("compare"), dict)]
    if not tables:
        return {}
    agreed = {k: v for k, v in tables[0].items() if all(t.get(k) == v for t in tables)}
    published = [entry for table in tables for entry in table.get("published", [])]
    every = [entry for at, entry in enumerate(published) if entry not in published[:at]]
    return {**agreed, "published": every} if every else agreed


class Loaded(NamedTuple):
    """What run folders and comparison folders hold.

    Attributes
    ----------
    runs
        Those that have ended, names told apart where two have the same label and seed.
    unfinished
        Names of comparison cells that neither ended nor failed.
    failures
        Comparison cells that came to no result, by name; where two have the same name, all have
        their comparison's before it.
    comparisons
        Resolved comparison folders → the names that tell them apart; empty where nothing must.
    """

    runs: list[RunData]
    unfinished: list[str]
    failures: dict[str, Failure]
    comparisons: dict[Path, str]


def load_folders(folders: Iterable[Path]) -> Loaded:
    """Read run folders and comparison folders.

    Comparisons that hold different work under one name are told apart as if `COMPARISON` had been
    swept over them, other runs by a label that says where they come from.

    Raises
    ------
    InputError
        Where a file is damaged or nothing is finished.
    """
    read: dict[Path, RunData] = {}
    dead: dict[Path, Failure] = {}
    homes: dict[Path, Path] = {}
    given: dict[Path, Path] = {}
    unfinished: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        for run in _cells(folder) if is_comparison(folder) else [folder]:
            real = run.resolve()
            homes[real], given[real] = folder.resolve(), run
            if run == folder or _has_ended(run):
                read[real] = _read_run(run)
            elif (failure := _failure_of(run)) is not None:
                dead[real] = failure
            else:
                unfinished.append(run.name)
    if not read:
        raise InputError(f"no finished run in {', '.join(str(f) for f in folders) or 'nothing'}")
    tell_unsealed([given[real] for real, run in read.items() if not run.sealed])
    claims = {real: Claim(run.name, run.seed, work_of(run.config)) for real, run in read.items()}
    claims |= {real: _claim_of(given[real], failure) for real, failure in dead.items()}
    sources = sources_of(claims, homes)
    names = short_names({*homes.values(), *sources.values()})
    comparisons = {home: names[home] for home in told_apart(sources, homes)}

    def told(real: Path, one: _Run) -> _Run:
        if homes[real] in comparisons:
            return replace(one, sweep={**one.sweep, COMPARISON: comparisons[homes[real]]})
        if real in sources:
            return replace(one, label=f"{one.label} ({names[sources[real]]})")
        return one

    cells = short_names(dead)
    return Loaded(
        [told(real, run) for real, run in read.items()],
        unfinished,
        {cells[real]: told(real, failure) for real, failure in dead.items()},
        comparisons,
    )


def _cells(comparison: Path) -> list[Path]:
    check(comparison)
    return sorted(path for path in (comparison / "cells").glob("*") if path.is_dir())


def _has_ended(folder: Path) -> bool:
    """Return whether a run has its summary, or had it."""
    folder = home_of(folder)
    return (folder / SUMMARY).exists() or SUMMARY in (listed(folder) or {})


def _failure_of(cell: Path) -> Failure | None:
    """Return why a cell without a summary came to no result; None if it may still end."""
    shared, failure = read_shared(cell), read_failure(home_of(cell))
    if failure is None or shared is None:
        return failure
    return replace(failure, label=shared.label, sweep=shared.sweep)


def _claim_of(cell: Path, failure: Failure) -> Claim:
    file, shared, work = home_of(cell) / CONFIG, read_shared(cell), ""
    if file.is_file():
        config: Mapping[str, Any] = _read_toml(file)
        work = work_of(_with(config, shared.sweep) if shared else config)
    return Claim(run_name(failure.label, failure.sweep), failure.seed, work)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: missing; is this the folder of a finished run?") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: damaged ({error})") from None


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``. InputError naming what is damaged."""
    return from_json(Summary, _read_text(path), str(path))


def _read_socket_bytes(path: Path) -> int | None:
    """Return what a deployment's sockets carried, both ways; None where nobody measured it."""
    if not path.exists():
        return None
    try:
        up, down = json.loads(_read_text(path))["run_socket_bytes"]
        return int(up) + int(down)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error!r})") from None


def _read_retrained(path: Path) -> RetrainRecord | None:
    if not path.exists():
        return None
    return from_json(RetrainRecord, _read_text(path), str(path))


def read_rounds(path: Path, length: int | None = None) -> tuple[RoundRecord, ...]:
    """Read a ``rounds.jsonl``, or its first bytes. InputError naming the line that is damaged."""
    rounds: list[RoundRecord] = []
    for number, line in enumerate(_read_text(path)[:length].splitlines(), start=1):
        where = f"{path}: line {number}"
        rounds.append(from_json(RoundRecord, line, where))
        if len(rounds) > 1 and rounds[-1].total_bytes < rounds[-2].total_bytes:
            raise InputError(f"{where}: damaged (cumulative bytes decrease)")
    if not rounds:
        raise InputError(f"{path}: holds no round")
    return tuple(rounds)


def _read_ledger(path: Path) -> Ledger:
    header, *lines = _read_text(path).splitlines() or [""]
    if header != HEADER:
        raise InputError(f"{path}: damaged (expected the columns {HEADER})")
    rows: list[Row] = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(Row.from_csv(line))
        except ValueError as error:
            raise InputError(f"{path}: line {number}: damaged ({error})") from None
    try:
        return Ledger.of(rows)
    except OverflowError as error:
        raise InputError(f"{path}: damaged ({error})") from None


def settled_rounds(folder: Path) -> tuple[RoundRecord, ...]:
    """Read the rounds of a run folder; of an unfinished one, those before its checkpoint."""
    progress = None if (folder / SUMMARY).exists() else read_progress(folder)
    length = progress.facts["files"][ROUNDS][0] if progress else None
    return read_rounds(folder / ROUNDS, length)


def read_own_mask(path: Path) -> Mask:
    """Read a mask file; InputError also if it lies in a run folder of which a file was edited."""
    check_run(folder_of(path))
    return read_mask(path)


def check_run(folder: Path | None) -> None:
    """Check that nothing of a run folder was edited, and say so if nobody can tell."""
    if folder is not None and not intact(folder):
        tell_unsealed([folder])


def read_mask(path: Path) -> Mask:
    """Read a mask file. InputError naming it, if it is missing or damaged."""
    try:
        return Mask.from_bytes(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def weight_shapes(run: Path | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a run's tensors by name; empty without a run or its model."""
    file = None if run is None else run / MODEL
    if file is None or not file.is_file():
        return {}
    try:
        with safe_open(file, "np") as tensors:
            names = list(tensors.keys())
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: damaged ({error})") from None
