"""Settings: the work methods are compared on, where it is swept or comparisons differ in it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from benchmarks.results.rundata import RunData
from server.records import Failure

COMPARISON = "comparison"
"""The key, as if it had been swept, that says of which comparison a run is where several differ."""

_Run = TypeVar("_Run", RunData, Failure)


def setting_keys(runs: Sequence[RunData], baseline: str) -> tuple[str, ...]:
    """Return the swept keys that change the work, by name.

    They are those of data and model, and whatever else the baseline's results depend on. Values of
    all others make variants of a method.
    """
    felt = _swept(without_idle_keys([run for run in runs if run.label == baseline]))
    return tuple(key for key in _swept(runs) if key in felt or key.startswith(("data.", "model.")))


def setting_text(sweep: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the values of a setting, as headings show them; empty where nothing is swept.

    Examples
    --------
    >>> setting_text({"data.partition": "iid", "prune.density": 0.1}, ["data.partition"])
    'partition=iid'
    """
    return ", ".join(f"{key.rpartition('.')[2]}={sweep[key]}" for key in keys if key in sweep)


def variant_text(run: RunData, keys: Sequence[str]) -> str:
    """Return a run's name without the values of its setting."""
    return _without(run, keys).name


def split_settings(runs: Sequence[RunData], keys: Sequence[str]) -> dict[str, list[RunData]]:
    """Return the runs of each setting, without its keys; one that was not swept belongs to all."""
    texts = {setting_text(run.sweep, keys) for run in runs}
    return {
        setting: [
            _without(run, keys) for run in runs if setting_text(run.sweep, keys) in (setting, "")
        ]
        for setting in sorted(texts - {""}) or [""]
    }


def _without(run: _Run, keys: Sequence[str]) -> _Run:
    return replace(run, sweep={key: v for key, v in run.sweep.items() if key not in keys})


def reading_order(text: str) -> list[Any]:
    """Return a sorting key that takes numbers inside a text as numbers."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(p), "") if i % 2 else (1, 0.0, p) for i, p in enumerate(parts)]


def _swept(runs: Sequence[RunData | Failure]) -> list[str]:
    """Return the keys that have at least two values in these runs, by name."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.sweep.items():
            found.setdefault(key, set()).add(repr(value))
    return sorted(key for key, values in found.items() if len(values) > 1)


def without_constant_keys(
    runs: Sequence[RunData], failures: Sequence[Failure] = ()
) -> tuple[list[RunData], list[Failure]]:
    """Return runs, and those that failed, without the swept keys of one value in all of them.

    They tell nothing apart.
    """
    every: list[RunData | Failure] = [*runs, *failures]
    differ = _swept(every)
    shared = [key for key in every[0].sweep if key not in differ] if every else []
    constant = [key for key in shared if all(key in run.sweep for run in every)]
    return [_without(run, constant) for run in runs], [_without(f, constant) for f in failures]


def without_idle_keys(runs: Sequence[RunData], but: str = "") -> list[RunData]:
    """Return the runs with every swept key taken out of the methods that it changes nothing about.

    Of runs that are equal without the key the first is kept. The key `but` stays everywhere.
    """
    kept = list(runs)
    for key in dict.fromkeys(key for run in runs for key in run.sweep if key != but):
        for label in dict.fromkeys(run.label for run in runs):
            mine = [run for run in kept if run.label == label and key in run.sweep]
            twins: dict[tuple[str, int], list[RunData]] = {}
            for run in mine:
                rest = {name: value for name, value in run.sweep.items() if name != key}
                plain = replace(run, sweep=rest)
                twins.setdefault((plain.name, run.seed), []).append(plain)
            idle = [len(same) > 1 and len(set(map(_outcome, same))) == 1 for same in twins.values()]
            if mine and all(idle):
                kept = [run for run in kept if run.label != label or key not in run.sweep]
                kept += [same[0] for same in twins.values()]
    return kept


def _outcome(run: RunData) -> tuple[object, ...]:
    """Return everything figures show of a run."""
    curve = [(n.round, n.test_accuracy, n.density, n.total_bytes) for n in run.rounds]
    sums = [int(values.sum()) for values in run.ledger.kinds.values()]
    return (*curve, *sums, *run.client_accuracy)


class Claim(NamedTuple):
    """What a run goes by: its name and seed, and its work, which is empty where unknown."""

    name: str
    seed: int
    work: str


def sources_of(claims: Mapping[Path, Claim], homes: Mapping[Path, Path]) -> dict[Path, Path]:
    """Return where those come from that share a name and are no repetitions.

    That is the comparison folder if its runs of that name are repetitions, else the run folder.
    """
    named: dict[str, list[Claim]] = {}
    inside: dict[tuple[str, Path], list[Claim]] = {}
    for path, claim in claims.items():
        named.setdefault(claim.name, []).append(claim)
        inside.setdefault((claim.name, homes[path]), []).append(claim)
    return {
        path: homes[path] if _repeat(inside[claim.name, homes[path]]) else path
        for path, claim in claims.items()
        if not _repeat(named[claim.name])
    }


def told_apart(sources: Mapping[Path, Path], homes: Mapping[Path, Path]) -> list[Path]:
    """Return all comparisons if two of them must be told apart, else none."""
    apart = {home for path, home in sources.items() if home != path}
    every = dict.fromkeys(home for path, home in homes.items() if home != path)
    return list(every) if len(apart) > 1 else []


def _repeat(claims: Sequence[Claim]) -> bool:
    """Tell whether runs are repetitions: of the same work, each of a seed of its own."""
    works = {claim.work for claim in claims if claim.work}
    return len(works) <= 1 and len({claim.seed for claim in claims}) == len(claims)


def short_names(paths: Collection[Path]) -> dict[Path, str]:
    """Return the shortest ends of the paths that all differ."""
    for parts in count(1):
        found = {path: Path(*path.parts[-parts:]).as_posix() for path in paths}
        if len({*found.values()}) == len(found):
            break
    return found


def work_of(config: Mapping[str, Any]) -> str:
    """Return what repetitions have in common: the configuration but for seed and machine."""
    tables = {k: v for k, v in config.items() if k not in ("seed", "engine")}
    data = {k: v for k, v in tables.get("data", {}).items() if k not in ("folder", "download")}
    return json.dumps({**tables, "data": data}, sort_keys=True, default=str)
