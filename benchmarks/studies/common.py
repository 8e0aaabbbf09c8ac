"""What all studies share: run the cells of a comparison, read their summaries, print a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cli.console import BAD_INPUT
from benchmarks.results.measures import mean_interval
from benchmarks.running.comparison import CELLS, Cell, compare
from mpfl.errors import InputError
from mpfl.nested import with_override
from server.runfolder import SUMMARY

SMOKE: dict[str, Any] = {
    "data.name": "digits",
    "data.train_samples": 300,
    "data.test_samples": 100,
    "prune.rounds": 1,
    "federation.rounds": 2,
}
FOLDER = "folder"
Results = dict[str, dict[int, dict[str, Any]]]
"""Label → seed → summary of the run, with the path of its folder as ``folder``."""


def arguments(description: str) -> argparse.Namespace:
    """Parse the command line that all studies have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; continued")
    parser.add_argument("--data-dir", default="", help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument("--workers", type=int, default=-1, help="runs side by side")
    parser.add_argument("--smoke", action="store_true", help="digits, few rounds: does it run?")
    return parser.parse_args()


def settings(table: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the tables of a study with the command line's data folder, or its smoke version."""
    changes: dict[str, Any] = {"data.folder": options.data_dir}
    if options.smoke:
        changes |= SMOKE
    result = dict(table)
    for key, value in changes.items():
        result = with_override(result, key, value)
    return result


def run_study(
    table: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]],
    options: argparse.Namespace,
) -> Results:
    """Run every variant with every seed (finished runs are kept) and return the summaries.

    Parameters
    ----------
    variants
        Label → dotted keys that differ from `table`.
    """
    held = SMOKE if options.smoke else {}
    settled = {
        label: {"method": "mpfl", **{key: held.get(key, value) for key, value in keys.items()}}
        for label, keys in variants.items()
    }
    config = {
        "methods": list(settled),
        "seeds": list(range(options.seeds)),
        "baseline": next(iter(settled)),
        "variants": settled,
    }
    cells = compare({**table, "compare": config}, options.out, _tell, options.workers)
    results: Results = {}
    for cell in cells:
        folder = options.out / CELLS / cell.name
        summary = json.loads((folder / SUMMARY).read_text())
        results.setdefault(cell.label, {})[cell.seed] = {**summary, FOLDER: folder}
    return results


def print_study(
    description: str,
    table: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]],
    *parts: Callable[[Results], str],
) -> None:
    """Run a study as the command line asks and print its parts; the main function of a study.

    Bad input ends the program with one line and status 2.
    """
    options = arguments(description)
    try:
        results = run_study(settings(table, options), variants, options)
    except InputError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(BAD_INPUT)
    print(*(part(results) for part in parts), sep="\n\n")


def accuracies(results: Results, label: str) -> list[float]:
    """Return the last test accuracy of every seed, in per cent."""
    return [100 * results[label][seed]["test_accuracy"] for seed in sorted(results[label])]


def interval_text(values: Sequence[float]) -> str:
    """Return ``mean ± half width`` of the 95 % interval (Student's t); the mean alone for one."""
    estimate = mean_interval(values)
    if estimate.half_width is None:
        return f"{estimate.mean:.2f}"
    return f"{estimate.mean:.2f} ± {estimate.half_width:.2f}"


def accuracy_cell(results: Results, label: str) -> str:
    """Return the test accuracy in per cent with its interval over seeds."""
    return interval_text(accuracies(results, label))


def density_cell(results: Results, label: str) -> str:
    """Return the final density, mean over seeds."""
    densities = [summary["density"] for summary in results[label].values()]
    return f"{sum(densities) / len(densities):.3f}"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _tell(cell: Cell, record: dict[str, Any] | None) -> None:
    if record is None:
        print(f"finished {cell.label}, seed {cell.seed}", file=sys.stderr, flush=True)
