"""What a report says around its figures: the setting, doubts, configuration and versions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import tomli_w

from benchmarks.report import page
from benchmarks.results.rundata import RunData


def setting(runs: Sequence[RunData]) -> str:
    """Say in one line on what work the methods are compared."""
    seeds = sorted({run.seed for run in runs})
    sampled = runs[0].config.get("federation", {}).get("clients_per_round")
    each = _values(runs, "federation", "clients_per_round") if sampled else "all"
    return (
        f"{_values(runs, 'data', 'name')}, {_values(runs, 'model', 'name')}, "
        f"{_values(runs, 'data', 'clients')} clients ({_values(runs, 'data', 'partition')}), "
        f"{each} of them in each of "
        f"{_values(runs, 'federation', 'rounds')} rounds; seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}."
    )


def _values(runs: Sequence[RunData], table: str, key: str) -> str:
    """Return a key's values in these runs' configurations; that of most of them unless swept."""
    values = Counter(str(run.config.get(table, {}).get(key, "?")) for run in runs)
    if any(f"{table}.{key}" in run.sweep for run in runs):
        return " or ".join(values)
    return values.most_common(1)[0][0]


def doubts(runs: Sequence[RunData]) -> list[str]:
    """Say what speaks against the figures: other work, lost replies, ledgers that do not add up."""
    swept = {key for run in runs for key in run.sweep}
    flat = [_flatten(run.config) for run in runs]
    keys = [key for key in flat[0] if key.startswith(("data.", "model.")) and key not in swept]
    differing = [
        key
        for key in keys
        if key not in ("data.folder", "data.download")
        and len({repr(table.get(key)) for table in flat}) > 1
    ]
    sums = [(run, int(run.ledger.message_bytes.sum())) for run in runs]
    other_work = (
        [f"Not the same work for all: {', '.join(differing)} differs."] if differing else []
    )
    return (
        other_work
        + _rejections(runs)
        + [
            f"The ledger of {run.name}, seed {run.seed}, adds up to {total} bytes, its rounds to "
            f"{run.total_bytes}."
            for run, total in sums
            if total != run.total_bytes
        ]
    )


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


def provenance(runs: Sequence[RunData]) -> str:
    """Return the configuration, what differs between runs, the versions, the machines."""
    flat = [_flatten(run.config) for run in runs]
    keys = list(dict.fromkeys(key for table in flat for key in table))
    differing = [key for key in keys if len({repr(table.get(key)) for table in flat}) > 1]
    parts = page.folded(
        f"Configuration of {runs[0].name}, seed {runs[0].seed}, in full",
        page.verbatim(tomli_w.dumps(dict(runs[0].config))),
    )
    if differing:
        body = [
            (
                "",
                [
                    page.head_cell(f"{run.name}, seed {run.seed}"),
                    *(page.cell(_shown(table.get(key)), table.get(key)) for key in differing),
                ],
            )
            for run, table in zip(runs, flat, strict=True)
        ]
        table = page.table(
            ["run", *differing], body, "Differing configuration", sort=False, titled=False
        )
        parts += page.folded("Where the configurations differ", table)
    parts += page.folded(
        "Versions, machines and digests",
        page.verbatim(
            "\n".join(dict.fromkeys(_environment(run) for run in runs))
            + "\n"
            + "\n".join(_digests(run) for run in runs)
        ),
    )
    return parts


def _shown(value: object) -> str:
    return "–" if value is None else str(value)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _environment(run: RunData) -> str:
    known = {key: run.summary[key] for key in ("versions", "machine") if run.summary.get(key)}
    return json.dumps(known, indent=2, ensure_ascii=False)


def _digests(run: RunData) -> str:
    digests = [
        f"{kind} {run.summary[f'{kind}_digest']}"
        for kind in ("mask", "model")
        if run.summary.get(f"{kind}_digest")
    ]
    return f"{run.name}, seed {run.seed}: {', '.join(digests) or 'no digest'}"
