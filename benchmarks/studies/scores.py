"""All scores at density 0.05 on MNIST, 10 clients Dirichlet(0.3): ``docs/results/scores.md``."""

from __future__ import annotations

from typing import Any

from benchmarks.studies.common import (
    Results,
    accuracies,
    interval_text,
    markdown,
    print_study,
)

TABLE: dict[str, Any] = {
    "data": {
        "name": "mnist",
        "clients": 10,
        "partition": "dirichlet(0.3)",
        "train_samples": 20_000,
    },
    "model": {"name": "lenet300"},
    "train": {"epochs": 2, "batch_size": 32, "lr": 0.03, "momentum": 0.9},
    "prune": {"density": 0.05, "rounds": 3, "score_samples": 200, "rescale": True},
    "federation": {"rounds": 9, "eval_every": 9},
    "wire": {"mask_codec": "raw"},
}
SCORES = {
    "weight": ("random", "magnitude", "taylor", "fisher", "movement", "activity"),
    "filter": ("random", "magnitude", "magnitude(l1)", "taylor", "fisher", "movement", "apoz"),
    "filter of resnet20": ("random", "magnitude", "bn_scale"),
}
# The one network here with batch normalisation is large: a tenth of the images, and 5 % of its 16
# filters a layer would be one.
RESNET: dict[str, Any] = {
    "model.name": "resnet20",
    "data.train_samples": 2_000,
    "train.epochs": 1,
    "prune.density": 0.3,
}


def variants() -> dict[str, dict[str, Any]]:
    """Return label → keys for every score and kind of unit of the study."""
    return {
        f"{score}, {group}": {
            "prune.score": score,
            "prune.granularity": group.split()[0],
            **(RESNET if "resnet20" in group else {}),
        }
        for group, scores in SCORES.items()
        for score in scores
    }


def table_of(results: Results) -> str:
    """Return accuracy and margin over ``random`` for every score, as Markdown."""
    rows = []
    for group, scores in SCORES.items():
        chance = accuracies(results, f"random, {group}")
        for score in scores:
            values = accuracies(results, f"{score}, {group}")
            margins = [a - b for a, b in zip(values, chance, strict=True)]
            beyond = "" if score == "random" else interval_text(margins)
            rows.append([group, score, interval_text(values), beyond])
    headings = ["units", "score", "test accuracy, %", "points above random, paired by seed"]
    return markdown(headings, rows)


def main() -> None:
    """Run the study and print its table."""
    print_study("All scores at density 0.05.", TABLE, variants(), table_of)


if __name__ == "__main__":
    main()
