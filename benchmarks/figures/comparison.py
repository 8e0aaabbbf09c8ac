"""The figures of a comparison, in reading order."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures.costs import claimed_sent_possible, composition, spread_over_clients
from benchmarks.figures.curves import (
    accuracy_against_bytes,
    accuracy_per_round,
    accuracy_zoom,
    common_target,
    density_per_round,
)
from benchmarks.figures.groups import drawn_groups
from benchmarks.figures.style import Picture
from benchmarks.results.measures import byte_composition
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData


def comparison_pictures(
    runs: Sequence[RunData], rows: Sequence[Row], baseline: str
) -> list[Picture]:
    """Return every figure that makes sense for these runs, in reading order."""
    groups = drawn_groups(runs, rows, baseline)
    target = common_target(rows)
    made = [
        accuracy_against_bytes(groups, target),
        accuracy_zoom(groups, target),
        accuracy_per_round(groups),
        density_per_round(groups),
        composition([(g.name, byte_composition(g.runs[0])) for g in groups if not g.is_ceiling]),
        claimed_sent_possible([g for g in groups if not g.is_ceiling]),
        spread_over_clients(groups),
    ]
    return [item for item in made if item is not None]
