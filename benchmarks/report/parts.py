"""What stands between the figures of a report: the tables and the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.report import page
from benchmarks.report.table import columns
from benchmarks.results.measures import (
    LINKS,
    Estimate,
    accuracy_within,
    area_under_curve,
    client_spread,
    final_accuracy,
    group_runs,
    transfer_seconds,
)
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData
from benchmarks.units import (
    bytes_text,
    count_text,
    duration_text,
    percent_text,
    ratio_text,
)


def comparison(rows: Sequence[Row], baseline: str, margin: float) -> str:
    """Return the comparison table and the words that explain it."""
    shown = columns(baseline)
    body = []
    for row in rows:
        classes = [
            name
            for name, on in (("front", row.on_front), ("baseline", row.label == baseline))
            if on
        ]
        cells = [page.head_cell(row.method)]
        for column in shown[1:]:
            small = _interval(column.key, row)
            cells.append(page.cell(column.text(row), column.value(row), small))
        body.append((" ".join(classes), cells))
    table = page.table([c.heading for c in shown], body, "Comparison of the methods", titled=False)
    words = (
        "Bytes are those of all serialized messages: all clients, rounds and phases (kB = 1000 "
        "bytes), mean over seeds. ± and brackets: 95 % t-interval over seeds; ratios are geometric "
        "means, paired by seed. ◆ on the Pareto front: no other method ends at least as accurate "
        "for at most these bytes. Density: survivors / prunable parameters."
    )
    targets = sorted({row.target for row in rows if row.target is not None})
    if targets:
        words += (
            f" Target: the median of {baseline}'s last three test accuracies with the same seed, "
            f"minus {100 * margin:g} points (mean "
            f"{', '.join(percent_text(target) for target in targets)}); bytes to target count up "
            "to the first evaluated round that reaches it."
        )
    return table + page.paragraph(words) + _table_files()


def _table_files() -> str:
    return (
        '<p class="under">Exact figures: <a href="table.csv">table.csv</a>, '
        '<a href="table.tex">table.tex</a>.</p>\n'
    )


def _interval(key: str, row: Row) -> str:
    estimate = {"total_ratio": row.ratio, "target_ratio": row.ratio_at_target}.get(key)
    if not isinstance(estimate, Estimate) or estimate.low is None or estimate.high is None:
        return ""
    if estimate.high - estimate.low < 5e-4 * estimate.mean:
        return ""
    return f"[{ratio_text(estimate.low)}, {ratio_text(estimate.high)}]"


def more_questions(runs: Sequence[RunData], rows: Sequence[Row], baseline: str) -> str:
    """Return the tables on budgets, areas, model size, time and clients."""
    groups = group_runs(runs)
    ordered = {row.method: groups[row.method] for row in rows}
    sending = {name: group for name, group in ordered.items() if not group[0].is_ceiling}
    return (
        _budget_table(sending, baseline)
        + _model_table(ordered)
        + link_table([run for group in sending.values() for run in group])
        + _time_table(ordered)
    )


def _budget_table(groups: Mapping[str, Sequence[RunData]], baseline: str) -> str:
    """Return accuracy within byte budgets, and the area under accuracy over log bytes."""
    if not groups:
        return ""
    every = [run for group in groups.values() for run in group]
    reference = [run for run in every if run.label == baseline] or every
    full = max(run.total_bytes for run in reference)
    budgets = [full / 100, full / 10, full]
    low = min(run.evaluated[0].total_bytes for run in every if run.evaluated)
    high = max(run.total_bytes for run in every)
    body = []
    for name, group in groups.items():
        cells = [page.head_cell(name)]
        for budget in budgets:
            shares = [accuracy_within(run, budget) for run in group]
            mean = _mean(shares)
            cells.append(page.cell(percent_text(mean), mean))
        area = _mean([area_under_curve(run, low, high) for run in group]) if low < high else None
        cells.append(page.cell(ratio_text(area), area))
        body.append(("baseline" if group[0].label == baseline else "", cells))
    whose = f"{baseline}'s" if reference is not every else "the dearest run's"
    headings = ["method", *(f"within {bytes_text(b)}" for b in budgets), "area under curve"]
    return page.table(headings, body, "Accuracy within byte budgets") + page.paragraph(
        f"Accuracy of the model one has when stopping within a byte budget (1 %, 10 % and all of "
        f"{whose} bytes); – where not every seed has a tested model by then. Area under "
        "curve: mean accuracy over the logarithm of total bytes between "
        f"{bytes_text(low)} and {bytes_text(high)}."
    )


def _model_table(groups: Mapping[str, Sequence[RunData]]) -> str:
    """Return size and cost of the final model, and the clients' spread."""
    columns = {
        "surviving parameters": {name: _surviving(group) for name, group in groups.items()},
        **{
            f"MACs {kind}": {
                name: _text(_figure(group[0], f"macs_{kind}"), count_text)
                for name, group in groups.items()
            }
            for kind in ("dense", "masked", "compacted")
        },
        "accuracy over clients": {name: _spread(group[0]) for name, group in groups.items()},
    }
    return _columns_table(columns, groups, "Final models and costs") + page.paragraph(
        "MACs: multiply-accumulate operations for one sample, of the dense network, of its "
        "surviving weights, and of the smaller network that remains when whole units are cut out. "
        "Accuracy over clients: lowest to highest, see the figure."
    )


def _time_table(groups: Mapping[str, Sequence[RunData]]) -> str:
    """Return what the runs took: the one table that differs when the same work is done again."""
    columns = {
        "wall time": {
            name: _text(_mean([_figure(run, "seconds") for run in group]), duration_text)
            for name, group in groups.items()
        },
        "peak memory": {
            name: _text(_figure(group[0], "peak_memory_bytes"), bytes_text)
            for name, group in groups.items()
        },
    }
    table = _columns_table(columns, groups, TIME_TABLE)
    return table and table + page.paragraph(
        "Wall time, mean over seeds, and the most memory the simulation's process held (first "
        "seed). Runs side by side share the machine. Unlike everything else on this page, these "
        "figures differ when the same comparison is run again."
    )


TIME_TABLE = "Time and memory of the simulation"
"""Heading of the only table with figures that the configuration does not determine."""


def _columns_table(
    columns: Mapping[str, Mapping[str, Cell | None]], names: Iterable[str], label: str
) -> str:
    """Return a table of the columns that hold anything; nothing where none does."""
    known = {head: column for head, column in columns.items() if any(column.values())}
    body = [
        (
            "",
            [
                page.head_cell(name),
                *(page.cell(*(column[name] or ("–", None))) for column in known.values()),
            ],
        )
        for name in names
    ]
    return page.table(["method", *known], body, label) if known else ""


Cell = tuple[str, float, str]
"""A cell's text, sorting value and small print."""


def _text(value: float | None, text: Callable[[float], str]) -> Cell | None:
    return None if value is None else (text(value), value, "")


def _surviving(group: Sequence[RunData]) -> Cell | None:
    count = _mean([_figure(run, "surviving_parameters") for run in group])
    every = _figure(group[0], "parameters")
    if count is None or every is None:
        return None
    return count_text(count), count, f"of {count_text(every)}"


def _spread(run: RunData) -> Cell | None:
    spread = client_spread(run)
    if spread is None:
        return None
    return percent_text(spread.lowest, 1), spread.lowest, f"to {percent_text(spread.highest, 1)}"


def _figure(run: RunData, key: str) -> float | None:
    value = run.summary.get(key)
    return float(value) if isinstance(value, int | float) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def link_table(runs: Sequence[RunData]) -> str:
    """Return the modelled transfer times over links."""
    body = []
    for name, group in group_runs([run for run in runs if not run.is_ceiling]).items():
        times = [_mean([transfer_seconds(run, link) for run in group]) for link in LINKS]
        cells = [page.cell(duration_text(time), time) for time in times]
        body.append(("", [page.head_cell(name), *cells]))
    if not body:
        return ""
    words = "; ".join(
        f"{link.name} {link.uplink_bits_per_second / 1e6:g} Mbit/s up, "
        f"{link.downlink_bits_per_second / 1e6:g} down, "
        f"{1000 * link.round_trip_seconds:g} ms round trip"
        for link in LINKS
    )
    headings = ["method", *(link.name for link in LINKS)]
    return page.table(headings, body, "Modelled transfer times") + page.paragraph(
        "Modelled time all rounds spend on transfers, computing not included: clients of a round "
        "transfer at the same time, each over its own link, and the round waits for the slowest. "
        f"{words}."
    )


def run_facts(run: RunData) -> str:
    """Return the figures of one run."""
    last, summary = run.rounds[-1], run.summary
    facts = {
        "test accuracy": percent_text(final_accuracy(run)),
        "density": ratio_text(last.density),
        "density, all parameters": ratio_text(last.density_all_parameters),
        "uplink": bytes_text(last.uplink_bytes),
        "downlink": bytes_text(last.downlink_bytes),
        "total": bytes_text(last.total_bytes),
        "rounds": str(last.round),
        "parameters": count_text(summary.get("parameters")),
        "surviving": count_text(summary.get("surviving_parameters")),
        "wall time": duration_text(summary.get("seconds")),
        "peak memory": bytes_text(summary.get("peak_memory_bytes")),
    }
    rejected = sum(sum(line.rejected.values()) for line in run.rounds)
    if rejected:
        facts["rejected replies"] = str(rejected)
    return page.facts({name: value for name, value in facts.items() if value != "–"})
