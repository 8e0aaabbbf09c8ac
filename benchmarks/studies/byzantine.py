"""Malicious ballots, 0 to 45 %, under vote rules: ``docs/results/byzantine.md``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.studies.common import (
    Results,
    accuracy_cell,
    density_cell,
    markdown,
    print_study,
)

TABLE: dict[str, Any] = {
    "data": {"name": "mnist", "clients": 20, "partition": "iid", "train_samples": 6_000},
    "model": {"name": "lenet300"},
    "train": {"epochs": 2, "batch_size": 32, "lr": 0.03, "momentum": 0.9},
    "prune": {"density": 0.1, "rounds": 2, "rescale": True},
    "federation": {"rounds": 5, "eval_every": 5},
    "wire": {"mask_codec": "raw"},
}
RULES = ("budget", "majority", "trimmed(0.45)")
ATTACKS = ("random", "inverted", "colluding", "layer(fc1)")
PERCENT = (0, 15, 30, 45)
CONTROLS = ("random", "inverted")
"""Attacks that are also run with nobody honest: what is at stake."""


def label_of(rule: str, attack: str, percent: int) -> str:
    """Return the name of one cell of the table; without malice the attack does not matter."""
    return f"{rule}, {percent} % {attack}" if percent else f"{rule}, none"


def variants() -> dict[str, dict[str, Any]]:
    """Return label → keys for every rule, attack and share of malicious clients."""
    cells = [(rule, attack, percent) for rule in RULES for attack in ATTACKS for percent in PERCENT]
    cells += [(RULES[0], attack, 100) for attack in CONTROLS]
    return {
        label_of(rule, attack, percent): {
            "prune.vote": rule,
            "faults.byzantine": percent / 100,
            "faults.attack": attack,
        }
        for rule, attack, percent in cells
    }


def table_of(results: Results, cell: Callable[[Results, str], str] = accuracy_cell) -> str:
    """Return test accuracy in per cent by attack, rule and share, as Markdown."""
    rows = [
        [attack, rule, *(cell(results, label_of(rule, attack, percent)) for percent in PERCENT)]
        for attack in ATTACKS
        for rule in RULES
    ]
    return markdown(["attack", "rule", *(f"{percent} %" for percent in PERCENT)], rows)


def control_text(results: Results) -> str:
    """Return a line per control: the accuracy that is left when all ballots are malicious."""
    found = {a: accuracy_cell(results, label_of(RULES[0], a, 100)) for a in CONTROLS}
    return "\n".join(f"- {attack}, 100 %: {text} %" for attack, text in found.items())


def density_table(results: Results) -> str:
    """Return the final density by attack, rule and share of malicious clients, as Markdown."""
    return table_of(results, density_cell)


def main() -> None:
    """Run the study and print its tables."""
    parts = table_of, control_text, density_table
    print_study("Malicious ballots under vote rules.", TABLE, variants(), *parts)


if __name__ == "__main__":
    main()
