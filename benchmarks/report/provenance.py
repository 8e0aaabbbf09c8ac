"""Where the figures come from: the command, the configuration, codecs, versions, machine."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.tables import Cell, Line, Table, cell
from benchmarks.results.loading import is_comparison
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import short_names
from mpfl.config import Experiment, from_mapping, to_mapping
from mpfl.errors import InputError
from mpfl.methods import Codecs
from mpfl.nested import dotted
from server.records import to_json
from server.runfolder import CONFIG

_COMPARISON = "comparison.toml"


@dataclass(frozen=True)
class Reproduction:
    """How to get the same figures again: a file's name and text, and the command on it."""

    file: str
    text: str
    command: str


def reproductions(folders: Sequence[Path]) -> list[Reproduction]:
    """Return how to run again what these run and comparison folders hold, each file once.

    Of several folders every file has its folder's name.
    """
    every = list(dict.fromkeys(folder.resolve() for folder in folders))
    names = short_names(every) if len(every) > 1 else {}
    return [_reproduction(folder, names.get(folder, "").replace("/", "-")) for folder in every]


def _reproduction(folder: Path, name: str) -> Reproduction:
    verb, own = ("compare", _COMPARISON) if is_comparison(folder) else ("run", CONFIG)
    file = folder / own
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    called = f"{name}.toml" if name else own
    return Reproduction(called, text, f"mpfl {verb} {called} --out {name and f'{name}-'}again")


def origin(runs: Sequence[RunData]) -> str:
    """Say which mpfl ran on which processor, each once."""
    return "; ".join(dict.fromkeys(map(_origin, runs)))


def _origin(run: RunData) -> str:
    versions, machine = run.summary.versions, run.summary.machine
    commit, *dirty = versions.get("commit", "").partition("-")
    known = f" commit {commit[:12]}{''.join(dirty)}" if commit else ""
    kernels = f" ({machine.kernels})" if machine.kernels else ""
    return (
        f"mpfl {versions.get('mpfl', '?')}{known}, PyTorch {versions.get('torch', '?')}, "
        f"{machine.model or machine.processor}{kernels}"
    )


def first_to_read(runs: Sequence[RunData]) -> RunData:
    """Return the run whose configuration is shown: the first of mpfl, if there is one."""
    return next((run for run in runs if run.label == "mpfl"), runs[0])


def codecs(groups: Mapping[str, Sequence[RunData]]) -> Table:
    """Return how each method's weights and masks are written, as far as this mpfl knows it."""
    known: dict[str, dict[tuple[str, ...], str]] = {}
    for name, group in groups.items():
        if not group[0].is_ceiling and (found := _codecs(group[0])) is not None:
            known.setdefault(group[0].label, {}).setdefault(found, name)
    lines = [
        Line(label if len(names) == 1 else name, [Cell(text) for text in found])
        for label, names in known.items()
        for found, name in names.items()
    ]
    return Table(["method", "weights up", "weights down", "masks", "error feedback"], lines)


def _codecs(run: RunData) -> tuple[str, ...] | None:
    try:
        experiment = from_mapping(run.config)
        used = Codecs.of(experiment)
    except InputError:  # a part of a plugin, or of another mpfl
        return None
    wire = experiment.wire
    shown = {
        "wire.up": used.up,
        "wire.down": used.down,
        "wire.mask_codec": wire.mask_codec,
        "wire.error_feedback": "yes" if wire.error_feedback else "no",
    }
    return tuple("–" if key in run.ignored else text for key, text in shown.items())


def differing(runs: Sequence[RunData]) -> Table | None:
    """Return the configuration keys that differ between runs; None where none does."""
    found = differing_values(runs)
    lines = [
        Line(
            f"{run.name}, seed {run.seed}",
            [Cell() if key in run.ignored else cell(found[key][at], str) for key in found],
        )
        for at, run in enumerate(runs)
    ]
    return Table(["run", *found], lines) if found else None


def differing_values(runs: Sequence[RunData]) -> dict[str, list[Any]]:
    """Return the values, one a run, of all dotted keys whose value is not the same in all runs."""
    flat = [dotted(run.config) for run in runs]
    keys = dict.fromkeys(key for table in flat for key in table)
    values = {key: [table.get(key) for table in flat] for key in keys}
    return {key: found for key, found in values.items() if len(set(map(repr, found))) > 1}


def told_ignored(run: RunData) -> dict[str, str]:
    """Return the keys without effect on a run that have another value than the default → why."""
    now, usual = dotted(run.config), dotted(to_mapping(Experiment()))
    return {key: why for key, why in run.ignored.items() if now.get(key) != usual.get(key)}


def in_effect(run: RunData) -> dict[str, Any]:
    """Return a run's configuration without the keys that had no effect on it."""
    return _without(run.config, run.ignored)


def _without(table: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            value = _without(value, keys, f"{prefix}{key}.")
        if prefix + key not in keys and value != {}:
            found[key] = value
    return found


def environments(runs: Sequence[RunData]) -> str:
    """Return the versions and machines, each once, and a line of digests per run."""
    return "\n".join([*dict.fromkeys(map(_environment, runs)), *map(_digests, runs)])


def _environment(run: RunData) -> str:
    known = {"versions": run.summary.versions, "machine": to_json(run.summary.machine)}
    return json.dumps(known, indent=2, ensure_ascii=False)


def _digests(run: RunData) -> str:
    digests = f"mask {run.summary.mask_digest}, model {run.summary.model_digest}"
    inputs = run.summary.health.inputs if run.summary.health else {}
    began = "".join(f", {name} {digest}" for name, digest in inputs.items())
    return f"{run.name}, seed {run.seed}: {digests}{began}"
