"""The top of a report: what the figures say, on what work, and what speaks against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from benchmarks.report.sections import differing_values, told_ignored
from benchmarks.report.table import accuracy_text
from benchmarks.results.measures import final_accuracy
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData
from benchmarks.units import bytes_text, percent_text, ratio_text
from server.health import ignored_text
from server.records import Failure


def comparison_headline(
    rows: Sequence[Row], baseline: str, margin: float, own: str = "mpfl"
) -> str:
    """Say which method needs the fewest bytes for the baseline's accuracy, and how `own` does."""
    rows = [row for row in rows if not row.failed]
    if not rows:
        return "No run came to a result."
    rivals = [row for row in rows if not row.ceiling and row.label != baseline]
    judged = [row for row in rivals if row.target is not None]
    if not judged:
        return _without_baseline(rows)
    ours = [row for row in judged if row.label == own]
    able = sorted(
        (row for row in judged if row.ratio_at_target is not None),
        key=lambda row: row.ratio_at_target.mean if row.ratio_at_target else 0.0,
    )
    sentences = [
        _winner(able[0], rows, baseline, margin)
        if able
        else _none_reached(judged, baseline, margin)
    ]
    best_of_ours = next((row for row in able if row in ours), None)
    if best_of_ours is not None and best_of_ours is not able[0]:
        sentences.append(
            f"{best_of_ours.method} needs {_times(best_of_ours, baseline)} "
            f"({bytes_text(best_of_ours.bytes_to_target)})."
        )
    elif ours and best_of_ours is None and able:
        row = max(ours, key=lambda r: r.accuracy.mean)
        sentences.append(
            f"{row.method} ends at {accuracy_text(row.accuracy)} and does not reach it"
            + (" with every seed." if row.reached else ".")
        )
    return " ".join(sentences)


def _winner(row: Row, rows: Sequence[Row], baseline: str, margin: float) -> str:
    theirs = [r for r in rows if r.label == baseline and r.target == row.target]
    instead = f" instead of {bytes_text(theirs[0].bytes_to_target)}" if len(theirs) == 1 else ""
    return (
        f"{row.method} reaches {baseline}'s accuracy ({_target(row, margin)}) with "
        f"{_times(row, baseline)}: {bytes_text(row.bytes_to_target)}{instead}{_seeds(row)}."
    )


def _target(row: Row, margin: float) -> str:
    return f"{percent_text(row.target)}, {100 * margin:g} points below what it holds at its end"


def _times(row: Row, baseline: str) -> str:
    ratio = row.ratio_at_target.mean if row.ratio_at_target else 1.0
    if 0.01 < ratio <= 0.95:
        return f"1/{1 / ratio:.2g} of {baseline}'s bytes"
    return f"{ratio_text(ratio)} times {baseline}'s bytes"


def _none_reached(rows: Sequence[Row], baseline: str, margin: float) -> str:
    best = max(rows, key=lambda row: row.accuracy.mean)
    return (
        f"No method reaches {baseline}'s accuracy ({_target(best, margin)}){_every(best)}; "
        f"{best.method} comes closest: {accuracy_text(best.accuracy)} for "
        f"{bytes_text(best.total_bytes)}{_seeds(best)}."
    )


def _every(row: Row) -> str:
    return " with every seed" if len(row.seeds) > 1 else ""


def _without_baseline(rows: Sequence[Row]) -> str:
    best = max((r for r in rows if not r.ceiling), key=lambda r: r.accuracy.mean, default=rows[0])
    spent = "" if best.ceiling else f" for {bytes_text(best.total_bytes)} in total"
    return (
        f"{best.method} ends highest, at {accuracy_text(best.accuracy)} test accuracy"
        f"{spent}{_seeds(best)}."
    )


def _seeds(row: Row) -> str:
    return f" (mean over {len(row.seeds)} seeds)" if len(row.seeds) > 1 else " (one seed)"


def run_headline(run: RunData) -> str:
    """Say what one run reached and what it sent, or that it reached nothing."""
    if run.failed:
        return f"{run.name} came to no result: {run.failed}."
    last = run.rounds[-1]
    clients = run.config.get("data", {}).get("clients")
    reached = f"{run.name} ends at {percent_text(final_accuracy(run))} test accuracy"
    density = "" if last.density in (None, 1.0) else f" at density {last.density:.3g}"
    if run.is_ceiling:
        return f"{reached}{density} after {_plural(last.round, 'round')} on pooled data."
    return (
        f"{reached}{density} after {_plural(last.round, 'round')}"
        + (f" with {_plural(int(clients), 'client')}" if clients else "")
        + f" and {bytes_text(last.total_bytes)} sent in total: {bytes_text(last.uplink_bytes)} up, "
        f"{bytes_text(last.downlink_bytes)} down."
    )


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


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


def doubts(
    runs: Sequence[RunData],
    unfinished: Sequence[str] = (),
    failures: Mapping[str, Failure] | None = None,
) -> list[str]:
    """Say what speaks against the figures: failed, missing, lost, idle, other work, wrong sums."""
    dead = failures or {}
    found = [*_failed(runs, dead), *_uncounted(runs), *_other_work(runs), *_other_inputs(runs)]
    found += [*_rejections(runs), *_idle(runs), *_wrong_sums(runs), *_unsealed(runs)]
    if left := [name for name in unfinished if name not in dead]:
        found.append(f"Not finished, and not in any figure: {', '.join(left)}.")
    return found


def _failed(runs: Sequence[RunData], failures: Mapping[str, Failure]) -> list[str]:
    """Say which runs came to no result, and why; they are ranked nowhere."""
    ended = {run.folder: run.failed for run in runs if run.failed}
    dead = {name: failure.error for name, failure in failures.items()}
    return [f"Failed, and ranked nowhere: {name} ({why})." for name, why in (ended | dead).items()]


def _uncounted(runs: Sequence[RunData]) -> list[str]:
    """Say in which runs some rounds changed nothing."""
    found = {run.folder: sum(not line.counted for line in run.rounds) for run in runs}
    rounds = {run.folder: len(run.rounds) for run in runs}
    return [
        f"{name}: {count} of {rounds[name]} rounds did not count."
        for name, count in found.items()
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


def _other_work(runs: Sequence[RunData]) -> list[str]:
    told = {key for run in runs for key in run.sweep} | {"data.folder", "data.download"}
    keys = [key for key in differing_values(runs) if key.startswith(("data.", "model."))]
    unknown = [key for key in keys if key not in told]
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
