"""Stressed clients, 0 to 5 of 10, under every vote rule: ``docs/results/stress.md``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cli.console import Reporter
from benchmarks.cli.retrain import RESULT, retrain_command
from benchmarks.studies.common import (
    FOLDER,
    Results,
    accuracy_cell,
    density_cell,
    interval_text,
    markdown,
    print_study,
)

TABLE: dict[str, Any] = {
    "data": {"name": "mnist", "clients": 10, "partition": "iid", "train_samples": 20_000},
    "model": {"name": "lenet300"},
    "train": {"epochs": 2, "batch_size": 32, "lr": 0.03, "momentum": 0.9},
    "prune": {"density": 0.1, "rounds": 3, "rescale": True},
    "federation": {"rounds": 8, "eval_every": 8},
    "wire": {"mask_codec": "raw"},
}
RULES = ("budget", "majority", "unanimous", "layer_threshold", "trimmed(0.3)")
NO_MASK = "fedavg"
"""Beside the rules: averaging alone, under the same stress."""
KINDS = ("labels", "pixels")
EPOCHS = 3
"""Passes of central retraining over the pooled, unspoiled data."""
STRESSED = range(6)


def label_of(rule: str, kind: str, stressed: int) -> str:
    """Return the name of one cell of the table; without stress the kind does not matter."""
    return f"{rule}, {stressed} {kind}" if stressed else f"{rule}, none"


def variants() -> dict[str, dict[str, Any]]:
    """Return label → keys for every rule, kind and number of stressed clients."""
    return {
        label_of(rule, kind, count): {
            **({"method": rule} if rule == NO_MASK else {"prune.vote": rule}),
            "faults.stress": count / 10,
            "faults.stress_kind": kind,
        }
        for rule in (*RULES, NO_MASK)
        for kind in KINDS
        for count in STRESSED
    }


def table_of(
    results: Results,
    cell: Callable[[Results, str], str] = accuracy_cell,
    rules: tuple[str, ...] = (*RULES, NO_MASK),
) -> str:
    """Return test accuracy by rule, kind and number of stressed clients, as Markdown."""
    rows = [
        [kind, rule, *(cell(results, label_of(rule, kind, count)) for count in STRESSED)]
        for kind in KINDS
        for rule in rules
    ]
    return markdown(["stress", "rule", *(f"{count} of 10" for count in STRESSED)], rows)


def retrained_table(results: Results) -> str:
    """Return the same of the masks alone, retrained on everybody's unspoiled data."""
    return table_of(results, retrained_cell, RULES)


def retrained_cell(results: Results, label: str) -> str:
    """Return the accuracy in per cent after central retraining under a label's masks."""
    return interval_text([100 * retrained(run[FOLDER]) for run in results[label].values()])


def retrained(run: Path) -> float:
    """Return the test accuracy after central retraining under a run's mask; done only once."""
    if not (run / RESULT).is_file():
        retrain_command(run, EPOCHS, None, None, Reporter(quiet=True, as_json=False))
    accuracy: float = json.loads((run / RESULT).read_text())["test_accuracy"]
    return accuracy


def density_table(results: Results) -> str:
    """Return the final density by rule, kind and number of stressed clients, as Markdown."""
    return table_of(results, density_cell, RULES)


def main() -> None:
    """Run the study and print its tables."""
    parts = table_of, retrained_table, density_table
    print_study("Stressed clients under every vote rule.", TABLE, variants(), *parts)


if __name__ == "__main__":
    main()
