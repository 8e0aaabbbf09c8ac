"""Run folders, read back into `RunData`; one line naming the file where one is damaged."""

from __future__ import annotations

import csv
import json
import struct
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results.rundata import KINDS, Ledger, Round, RunData, Vote, finite
from mpfl.errors import InputError
from mpfl.mask import Mask

_COLUMNS = (
    *("round", "client", "phase", "direction"),
    *(f"{kind}_bytes" for kind in (*KINDS, "message", "formula", "bound")),
)
_DIRECTIONS = ("uplink", "downlink")
_MALFORMED = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


def load_run(folder: Path) -> RunData:
    """Read one run folder.

    Raises
    ------
    InputError
        One line naming the file, for one that is missing, damaged or inconsistent.
    """
    summary = read_summary(folder / "summary.json")
    rounds = read_rounds(folder / "rounds.jsonl")
    config = _read_toml(folder / "config.toml")
    method = str(summary.get("method", config.get("method", "?")))
    mask_file, model_file = folder / "mask.mpfl", folder / "model.safetensors"
    return RunData(
        folder=folder.resolve().name,
        label=str(summary.get("label") or method),
        method=method,
        seed=int(summary.get("seed", config.get("seed", 0))),
        sweep=dict(summary.get("sweep") or {}),
        config=config,
        rounds=rounds,
        ledger=_read_ledger(folder / "ledger.csv"),
        summary=summary,
        mask=_read_mask(mask_file) if mask_file.exists() else None,
        shapes=_read_shapes(model_file) if model_file.exists() else {},
    )


def is_comparison(folder: Path) -> bool:
    """Tell whether a folder holds the cells of a comparison rather than one run."""
    return (folder / "cells").is_dir() or (folder / "comparison.toml").exists()


def comparison_settings(folders: Sequence[Path]) -> Mapping[str, Any]:
    """Return the table ``[compare]`` of the only comparison folder; empty for anything else."""
    file = folders[0] / "comparison.toml"
    if len(folders) != 1 or not file.exists():
        return {}
    table = _read_toml(file).get("compare", {})
    return table if isinstance(table, dict) else {}


def load_folders(folders: Iterable[Path]) -> tuple[list[RunData], list[str]]:
    """Read run folders and comparison folders.

    Returns
    -------
    tuple
        The finished runs, names told apart where two have the same label and seed, and the names
        of comparison cells that are not finished.

    Raises
    ------
    InputError
        Where a file is damaged or nothing is finished.
    """
    runs: list[RunData] = []
    unfinished: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        if not is_comparison(folder):
            runs.append(load_run(folder))
            continue
        for cell in sorted(path for path in (folder / "cells").glob("*") if path.is_dir()):
            if (cell / "summary.json").exists():
                runs.append(load_run(cell))
            else:
                unfinished.append(cell.name)
    if not runs:
        raise InputError(f"no finished run in {', '.join(str(f) for f in folders) or 'nothing'}")
    return _told_apart(runs), unfinished


def _told_apart(runs: Sequence[RunData]) -> list[RunData]:
    """Add the folder to the label of runs that share a name but are no repetitions."""
    seeds = Counter((run.name, run.seed) for run in runs)
    work = {name: {_work(run) for run in runs if run.name == name} for name, _ in seeds}
    return [
        replace(run, label=f"{run.label} ({run.folder})")
        if len(work[run.name]) > 1 or seeds[run.name, run.seed] > 1
        else run
        for run in runs
    ]


def _work(run: RunData) -> str:
    """Return what repetitions have in common: the configuration but for seed and machine."""
    tables = {k: v for k, v in run.config.items() if k not in ("seed", "engine")}
    data = {k: v for k, v in tables.get("data", {}).items() if k not in ("folder", "download")}
    return json.dumps({**tables, "data": data}, sort_keys=True, default=str)


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


def read_summary(path: Path) -> Mapping[str, Any]:
    """Read a ``summary.json``. InputError naming what is damaged."""
    try:
        summary = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: damaged ({error})") from None
    if not isinstance(summary, dict):
        raise InputError(f"{path}: damaged (expected an object, got {type(summary).__name__})")
    for key, kind in (("method", str), ("seed", int), ("label", str), ("sweep", dict)):
        if not isinstance(summary.get(key, kind()), kind):
            raise InputError(f"{path}: damaged ({key} is {summary[key]!r})")
    return summary


def read_rounds(path: Path) -> tuple[Round, ...]:
    """Read a ``rounds.jsonl``. InputError naming the line that is damaged."""
    rounds: list[Round] = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        try:
            rounds.append(_round(json.loads(line)))
        except _MALFORMED as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise InputError(f"{path}: line {number} is damaged ({reason})") from None
        if len(rounds) > 1 and rounds[-1].total_bytes < rounds[-2].total_bytes:
            raise InputError(f"{path}: line {number} is damaged (cumulative bytes decrease)")
    if not rounds:
        raise InputError(f"{path}: holds no round")
    return tuple(rounds)


def _round(line: Mapping[str, Any]) -> Round:
    vote = line.get("vote")
    return Round(
        round=int(line["round"]),
        phase=str(line["phase"]),
        uplink_bytes=int(line["uplink_bytes"]),
        downlink_bytes=int(line["downlink_bytes"]),
        total_bytes=int(line["total_bytes"]),
        density=finite(line.get("density")),
        density_all_parameters=finite(line.get("density_all_parameters")),
        test_accuracy=finite(line.get("test_accuracy")),
        test_loss=finite(line.get("test_loss")),
        clients_sampled=int(line.get("clients_sampled") or 0),
        clients_replied=int(line.get("clients_replied") or 0),
        rejected=dict(line.get("rejected") or {}),
        seconds=float(line.get("seconds") or 0.0),
        lr=finite(line.get("lr")),
        layer_density={k: float(v) for k, v in (line.get("layer_density") or {}).items()},
        vote=_vote(vote) if vote else None,
        client_accuracy=tuple(
            float(value) for value in line.get("client_accuracy") or () if value is not None
        ),
    )


def _vote(table: Mapping[str, Any]) -> Vote:
    return Vote(
        unanimity=finite(table.get("unanimity")),
        overlap=finite(table.get("overlap")),
        rule_density={k: float(v) for k, v in (table.get("densities") or {}).items()},
        histogram={
            k: tuple(float(n) for n in v) for k, v in (table.get("histogram") or {}).items()
        },
    )


def _read_ledger(path: Path) -> Ledger:
    text = _read_text(path)
    try:
        reader = csv.DictReader(text.splitlines(), strict=True)
        absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if absent:
            raise InputError(f"no column {absent[0]}")
        rows = list(reader)
        kinds = {kind: _integers(rows, f"{kind}_bytes") for kind in KINDS}
        ledger = Ledger(
            round=_integers(rows, "round"),
            client=_integers(rows, "client"),
            phase=tuple(row["phase"] for row in rows),
            uplink=np.array([_DIRECTIONS.index(row["direction"]) == 0 for row in rows], np.bool_),
            kinds=kinds,
            message_bytes=_integers(rows, "message_bytes"),
            formula_bytes=_floats(rows, "formula_bytes"),
            bound_bytes=_floats(rows, "bound_bytes"),
        )
    except (csv.Error, *_MALFORMED) as error:
        raise InputError(f"{path}: damaged ({error})") from None
    wrong = np.flatnonzero(sum(kinds.values()) != ledger.message_bytes)
    if wrong.size:
        line = int(wrong[0]) + 2
        raise InputError(f"{path}: line {line} is damaged (the kinds do not add up to the message)")
    return ledger


def _integers(rows: Sequence[Mapping[str, str]], column: str) -> NDArray[np.int64]:
    return np.array([int(row[column]) for row in rows], np.int64)


def _floats(rows: Sequence[Mapping[str, str]], column: str) -> NDArray[np.float64]:
    return np.array([float(row[column] or "nan") for row in rows], np.float64)


def _read_mask(path: Path) -> Mask:
    try:
        return Mask.from_bytes(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the tensor shapes from a safetensors header without loading the tensors."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    except (struct.error, *_MALFORMED) as error:
        raise InputError(f"{path}: damaged ({error})") from None
