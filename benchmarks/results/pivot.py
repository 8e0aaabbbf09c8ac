"""The runs of a comparison as a table over any keys: a pure function from runs to means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.results.measures import Estimate, mean_interval
from benchmarks.results.rundata import RunData
from mpfl.errors import InputError
from mpfl.nested import dotted
from mpfl.registry import unknown_name
from server.records import to_json

Place = tuple[Any, ...]
"""One value for each key of a table."""


def pivot_cells(
    runs: Sequence[RunData],
    keys: Sequence[str],
    value: str,
    where: Mapping[str, Any],
    against: Mapping[str, Any],
) -> dict[Place, Estimate]:
    """Return the mean over seeds of one number at every place where there are runs, in their order.

    Parameters
    ----------
    keys
        Keys of the configuration, ``label`` or ``seed``.
    value
        Key of a number of the summary, dotted where it is nested; a run without it is left out,
        and so is one that failed.
    where
        Key -> value that runs must have.
    against
        Key, one of `keys` -> value: the mean is that of the differences, paired by seed, to the
        place with these values and all others as they are.

    Raises
    ------
    InputError
        For a key or value that no run has, and where two runs of a seed would share a place.
    """
    measured = [run for run in runs if value in _numbers(run) and not run.failed]
    if not measured:
        raise unknown_name("value", value, {key for run in runs for key in _numbers(run)})
    for key, wanted in where.items():
        measured = _having(measured, key, wanted)
    against = {key: _hashable(wanted) for key, wanted in against.items()}
    for key, wanted in against.items():
        if key not in keys:
            raise unknown_name("key of rows and columns", key, keys)
        _having(measured, key, wanted)
    numbers = _by_place(measured, keys, value)
    if against:
        numbers = {place: _differences(numbers, place, keys, against) for place in numbers}
    return {place: mean_interval([*found.values()]) for place, found in numbers.items() if found}


def _by_place(
    runs: Sequence[RunData], keys: Sequence[str], value: str
) -> dict[Place, dict[int, float]]:
    """Return place -> seed -> number."""
    numbers: dict[Place, dict[int, float]] = {}
    for run in runs:
        of_seed = numbers.setdefault(tuple(_fact(run, key) for key in keys), {})
        if run.seed in of_seed:
            raise InputError(
                f"{run.folder} and another run of its seed have the same {', '.join(keys)}: "
                "add a key, or choose with --where"
            )
        of_seed[run.seed] = _numbers(run)[value]
    return numbers


def _differences(
    numbers: Mapping[Place, Mapping[int, float]],
    place: Place,
    keys: Sequence[str],
    against: Mapping[str, Any],
) -> dict[int, float]:
    reference = tuple(against.get(key, own) for key, own in zip(keys, place, strict=True))
    others = numbers.get(reference, {})
    return {seed: own - others[seed] for seed, own in numbers[place].items() if seed in others}


def _having(runs: Sequence[RunData], key: str, wanted: Any) -> list[RunData]:
    chosen = [run for run in runs if _fact(run, key) == _hashable(wanted)]
    if not chosen:
        raise unknown_name(key, str(wanted), {str(_fact(run, key)) for run in runs})
    return chosen


def _fact(run: RunData, key: str) -> Any:
    facts = {**dotted(run.config), **run.sweep, "label": run.label, "seed": run.seed}
    if key not in facts:
        raise unknown_name("key", key, facts)
    return _hashable(facts[key])


def _hashable(value: Any) -> Any:
    """Return a value of the configuration, lists and tables as their text."""
    return str(value) if isinstance(value, list | dict) else value


def _numbers(run: RunData) -> dict[str, float]:
    found = {"central_retrain": to_json(run.retrained)} if run.retrained else {}
    facts = dotted({**to_json(run.summary), **found})
    return {k: v for k, v in facts.items() if type(v) in (int, float) and math.isfinite(v)}
