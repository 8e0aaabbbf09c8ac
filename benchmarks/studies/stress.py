"""Stressed clients, 0 to 5 of 10, under every vote rule: ``docs/results/stress.md``."""

from __future__ import annotations

from typing import Any

from benchmarks.studies.common import (
    Results,
    accuracies,
    arguments,
    interval_text,
    markdown,
    run_study,
    settings,
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
KINDS = ("labels", "pixels")
STRESSED = range(6)


def label_of(rule: str, kind: str, stressed: int) -> str:
    """Return the name of one cell of the table; without stress the kind does not matter."""
    return f"{rule}, {stressed} {kind}" if stressed else f"{rule}, none"


def variants() -> dict[str, dict[str, Any]]:
    """Return label → keys for every rule, kind and number of stressed clients."""
    return {
        label_of(rule, kind, count): {
            "prune.vote": rule,
            "faults.stress": count / 10,
            "faults.stress_kind": kind,
        }
        for rule in RULES
        for kind in KINDS
        for count in STRESSED
    }


def table_of(results: Results) -> str:
    """Return test accuracy by rule, kind and number of stressed clients, as Markdown."""
    rows = []
    for kind in KINDS:
        for rule in RULES:
            cells = [accuracies(results, label_of(rule, kind, n)) for n in STRESSED]
            rows.append([kind, rule, *map(interval_text, cells)])
    headings = ["stress", "rule", *(f"{count} of 10" for count in STRESSED)]
    return markdown(headings, rows)


def density_table(results: Results) -> str:
    """Return the final density by rule, kind and number of stressed clients, as Markdown."""
    rows = []
    for kind in KINDS:
        for rule in RULES:
            runs = [results[label_of(rule, kind, n)] for n in STRESSED]
            means = [sum(s["density"] for s in seeds.values()) / len(seeds) for seeds in runs]
            rows.append([kind, rule, *(f"{mean:.3f}" for mean in means)])
    return markdown(["stress", "rule", *(f"{count} of 10" for count in STRESSED)], rows)


def main() -> None:
    """Run the study and print its tables."""
    options = arguments("Stressed clients under every vote rule.")
    results = run_study(settings(TABLE, options), variants(), options)
    print(table_of(results), density_table(results), sep="\n\n")


if __name__ == "__main__":
    main()
