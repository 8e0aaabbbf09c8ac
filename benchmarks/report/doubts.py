"""What a report compares, and what speaks against its figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from benchmarks.report.provenance import differing_values, told_ignored
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import COMPARISON, split_settings
from server.health import ignored_text
from server.records import Failure


def setting(runs: Sequence[RunData]) -> str:
    """Say in one line on what work the methods are compared."""
    seeds = sorted({run.seed for run in runs})
    each = re.sub(r"\b0\b|\?", "all", _values(runs, "federation", "clients_per_round"))
    return (
        f"{_values(runs, 'data', 'name')}, {_values(runs, 'model', 'name')}, "
        f"{_values(runs, 'data', 'clients')} clients ({_values(runs, 'data', 'partition')}), "
        f"{each} of them in each of "
        f"{_values(runs, 'federation', 'rounds')} rounds; seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}."
    )


def _values(runs: Sequence[RunData], table: str, key: str) -> str:
    """Return a key's values in these configurations: that of most runs of each swept value."""
    own = [str(run.config.get(table, {}).get(key, "?")) for run in runs]
    if any(f"{table}.{key}" in run.sweep for run in runs):
        return " or ".join(dict.fromkeys(own))
    parts: dict[str, Counter[str]] = {}
    for run, value in zip(runs, own, strict=True):
        parts.setdefault(repr(run.sweep), Counter())[value] += 1
    return " or ".join(dict.fromkeys(part.most_common(1)[0][0] for part in parts.values()))


def doubts(
    runs: Sequence[RunData],
    unfinished: Sequence[str] = (),
    failures: Mapping[str, Failure] | None = None,
    setting_keys: Collection[str] = (),
) -> list[str]:
    """Say what speaks against the figures: failed, missing, lost, idle, other work, wrong sums.

    Work that differs between the values of `setting_keys` is meant to.
    """
    found = [*_failed(runs, failures or {}), *_uncounted(runs), *_other_work(runs, setting_keys)]
    found += [*_other_inputs(runs), *_rejections(runs), *_idle(runs)]
    found += [*_wrong_sums(runs), *_unsealed(runs)]
    if unfinished:
        found.append(f"Not finished, and not in any figure: {', '.join(unfinished)}.")
    return found


def _failed(runs: Sequence[RunData], failures: Mapping[str, Failure]) -> list[str]:
    """Say which runs came to no result, and why; they are ranked nowhere."""
    ended = [(run.folder, run.failed) for run in runs if run.failed]
    dead = [(name, failure.error) for name, failure in failures.items()]
    return [f"Failed, and ranked nowhere: {name} ({why})." for name, why in [*ended, *dead]]


def _uncounted(runs: Sequence[RunData]) -> list[str]:
    """Say in which runs some rounds changed nothing."""
    found = [(run, sum(not line.counted for line in run.rounds)) for run in runs]
    return [
        f"{run.folder}: {count} of {len(run.rounds)} rounds did not count."
        for run, count in found
        if count
    ]


def _other_inputs(runs: Sequence[RunData]) -> list[str]:
    """Say where runs on data of one name and seed saw different samples."""
    seen: dict[tuple[object, ...], set[str]] = {}
    for run in runs:
        if run.summary.health is not None:
            key = (*sorted(run.config.get("data", {}).items()), run.seed)
            digests = {k: v for k, v in run.summary.health.inputs.items() if k != "w0"}
            seen.setdefault(key, set()).add(repr(digests))
    mixed = any(len(digests) > 1 for digests in seen.values())
    return ["Not the same samples for all: the data changed between the runs."] if mixed else []


def _idle(runs: Sequence[RunData]) -> list[str]:
    """Say which settings of a run had no effect; in a comparison, those without any in all."""
    told = [dict(told_ignored(run)) for run in runs]
    keys = [key for key in told[0] if all(key in found for found in told)]
    notes = [note for run in runs if run.summary.health for note in run.summary.health.notes]
    text = ignored_text({key: told[0][key] for key in keys})
    return [*([f"Settings without effect: {text}."] if keys else []), *dict.fromkeys(notes)]


def _other_work(runs: Sequence[RunData], setting_keys: Collection[str]) -> list[str]:
    told = {key for run in runs for key in run.sweep} | {"data.folder", "data.download"}
    parts = split_settings(runs, [COMPARISON] if COMPARISON in setting_keys else [])
    keys = dict.fromkeys(key for part in parts.values() for key in differing_values(part))
    unknown = [k for k in keys if k.startswith(("data.", "model.")) and k not in told]
    return [f"Not the same work for all: {', '.join(unknown)} differs."] if unknown else []


def _unsealed(runs: Sequence[RunData]) -> list[str]:
    names = ", ".join(run.folder for run in runs if not run.sealed)
    return [f"Unsealed, nothing tells whether they were edited: {names}."] if names else []


def _rejections(runs: Sequence[RunData]) -> list[str]:
    """Say which replies did not count, and why, per method."""
    reasons: dict[str, Counter[str]] = {}
    for run in runs:
        for line in run.rounds:
            reasons.setdefault(run.name, Counter()).update(line.rejected)
    return [
        f"Replies of {name} that did not count: "
        + ", ".join(f"{count} ({reason})" for reason, count in sorted(found.items()))
        + "."
        for name, found in reasons.items()
        if found.total()
    ]


def _wrong_sums(runs: Sequence[RunData]) -> list[str]:
    sums = [(run, int(run.ledger.message_bytes.sum())) for run in runs]
    return [
        f"The ledger of {run.name}, seed {run.seed}, adds up to {total} bytes, its rounds to "
        f"{run.total_bytes}."
        for run, total in sums
        if total != run.total_bytes
    ]
