"""The sentence on top of a report: which method needs the fewest bytes, by how much, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.report.columns import accuracy_text
from benchmarks.results.ladder import Ladder
from benchmarks.results.measures import Estimate, final_accuracy
from benchmarks.results.rows import Row, by_setting
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import setting_text
from benchmarks.units import bytes_text, fewer_ends, fewer_text, percent_text

_MOST_SETTINGS = 4
_OWN = "mpfl"


class Headline(NamedTuple):
    """What is said of a setting; no line breaks inside its numbers."""

    setting: str
    text: str


def comparison_headlines(
    rows: Sequence[Row],
    baseline: str,
    margin: float,
    ladders: Sequence[Ladder] = (),
) -> list[Headline]:
    """Say in every setting which method needs the fewest bytes for the baseline's accuracy.

    Where another method beats mpfl, that is said first, and such settings come first.
    """
    sound = [row for row in rows if not row.failed]
    if not sound:
        some = any(row.failed < len(row.seeds) for row in rows)
        what = "No method came to a result with every seed." if some else "No run came to a result."
        return [Headline("", what)]
    if not any(_is_judged(row, baseline) for row in sound):
        return [Headline("", _without_baseline(sound))]
    products = {ladder.setting: ladder for ladder in ladders}
    said: list[tuple[bool, Headline]] = []
    for setting, part in by_setting(sound).items():
        judged = [row for row in part if _is_judged(row, baseline)]
        if judged:
            text = _sentences(part, judged, baseline, margin, products)
            said.append((not _is_beaten(judged), Headline(setting, _unbroken(text))))
    said.sort(key=lambda item: item[0])
    found = [text for _, text in said[:_MOST_SETTINGS]]
    if len(said) > _MOST_SETTINGS:
        rest = len(said) - _MOST_SETTINGS
        found.append(Headline("", f"{rest} more settings stand below."))
    return found


def _unbroken(text: str) -> str:
    return re.sub(r"(?<=\d) (?=[×%kMGB])|(?<=×) (?=\w)", "\u00a0", text)


def _is_judged(row: Row, baseline: str) -> bool:
    return not row.ceiling and row.label != baseline and row.target is not None


def _able(judged: Sequence[Row]) -> list[Row]:
    """Return the rows that reach the target with every seed, the fewest bytes first."""
    known = [row for row in judged if row.ratio_at_target is not None]
    return sorted(known, key=_ratio)


def _ratio(row: Row) -> float:
    return row.ratio_at_target.mean if row.ratio_at_target else 0.0


def _is_beaten(judged: Sequence[Row]) -> bool:
    able = _able(judged)
    return bool(able) and able[0].label != _OWN and any(row.label == _OWN for row in judged)


def _sentences(
    rows: Sequence[Row],
    judged: Sequence[Row],
    baseline: str,
    margin: float,
    products: Mapping[str, Ladder],
) -> str:
    able = _able(judged)
    if not able:
        return _none_reached(judged, baseline, margin)
    ours = [row for row in judged if row.label == _OWN]
    best = next((row for row in able if row in ours), None)
    theirs = [row for row in rows if row.label == baseline and row.target == able[0].target]
    said = _winner(able[0], theirs, baseline, margin, _OWN if _is_beaten(judged) else "")
    if best is able[0]:
        said += f"{_made_of(best, baseline, products)}."
        if len(able) > 1:
            said += f" Next is {able[1].variant} with {_needs(able[1])}."
    elif best is not None:
        said += f". {best.variant} needs {_needs(best)}{_made_of(best, baseline, products)}."
    elif ours:
        row = max(ours, key=lambda r: r.accuracy.mean)
        said += f". {row.variant} ends at {accuracy_text(row.accuracy)} and does not reach it"
        said += " with every seed." if row.reached else "."
    else:
        said += "."
    return said + _second(best or able[0], margin)


def _winner(row: Row, theirs: Sequence[Row], baseline: str, margin: float, beaten: str) -> str:
    instead = f" instead of {_spent(theirs[0])}" if len(theirs) == 1 else ""
    who = f"{row.variant} beats {beaten}: it" if beaten else row.variant
    way = _fewer(row).replace(" × fewer", " × fewer bytes").replace(" × more", " × more bytes")
    return (
        f"{who} reaches {_target(row, baseline, margin)} with {way}: {_spent(row)}{instead}"
        f"{_one_seed(row)}{_bracketed(_doubt(row.ratio_at_target))}"
    )


def _target(row: Row, baseline: str, margin: float) -> str:
    less = f" minus {100 * margin:g} points" if margin else ""
    return f"{baseline}'s accuracy{less} ({percent_text(row.target, 1)})"


def _fewer(row: Row) -> str:
    return fewer_text(_ratio(row))


def _spent(row: Row) -> str:
    return bytes_text(row.bytes_to_target)


def _needs(row: Row) -> str:
    return f"{_fewer(row)} ({'; '.join(filter(None, (_spent(row), _doubt(row.ratio_at_target))))})"


def _doubt(ratio: Estimate | None) -> str:
    """Say the interval of own / baseline where it leaves open which of the two needs less."""
    if ratio is None or ratio.low is None or ratio.high is None or not ratio.low <= 1 <= ratio.high:
        return ""
    ends = fewer_ends(ratio.low, ratio.mean, ratio.high).strip("[]").replace(", ", " to ")
    return f"95 % interval {ends} ×: not certain" if ends else ""


def _bracketed(text: str) -> str:
    return f" ({text})" if text else ""


def _made_of(row: Row, baseline: str, products: Mapping[str, Ladder]) -> str:
    """Say what the bytes saved are made of, where a ladder leads from the baseline to the row."""
    swept = setting_text(row.sweep, list(row.sweep))
    ladder = products.get(swept)
    if not ladder or (ladder.rungs[0].label, ladder.rungs[-1].label) != (baseline, row.label):
        return ""
    return f" = {ladder.parts}"


def _second(row: Row, margin: float) -> str:
    """Say the same against the second baseline, where there is one."""
    reach = row.reach_at(margin)
    if reach.best_ratio is None or reach.best == row.label:
        return ""
    told = fewer_text(reach.best_ratio.mean)
    doubt = _bracketed(_doubt(reach.best_ratio))
    return f" Against {reach.best}, the best of the baselines, {row.variant} needs {told}{doubt}."


def _none_reached(rows: Sequence[Row], baseline: str, margin: float) -> str:
    best = max(rows, key=lambda row: row.accuracy.mean)
    every = " with every seed" if len(best.seeds) > 1 else ""
    said = f"No method reaches {_target(best, baseline, margin)}{every}"
    if best.judged < len(best.seeds):
        of = f"{best.judged} of {len(best.seeds)} seeds"
        said = f"{baseline} came to a result with {of} alone, so that nothing is compared with each"
    return (
        f"{said}; {best.variant} comes closest: {accuracy_text(best.accuracy)} for "
        f"{bytes_text(best.total_bytes)}{_one_seed(best)}."
    )


def _without_baseline(rows: Sequence[Row]) -> str:
    best = max((r for r in rows if not r.ceiling), key=lambda r: r.accuracy.mean, default=rows[0])
    spent = "" if best.ceiling else f" for {bytes_text(best.total_bytes)} in total"
    return (
        f"{best.method} ends highest, at {accuracy_text(best.accuracy)} test accuracy"
        f"{spent}{_one_seed(best)}."
    )


def _one_seed(row: Row) -> str:
    return " (one seed)" if len(row.seeds) == 1 else ""


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
