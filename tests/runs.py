"""Small real runs that several test files share."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.running.experiment import run
from mpfl.config import Experiment, from_mapping
from mpfl.errors import RunError
from mpfl.presets import changed

SMALL = {
    "data": {
        "name": "digits",
        "clients": 4,
        "partition": "dirichlet(0.5)",
        "train_samples": 400,
        "test_samples": 100,
    },
    "model": {"name": "lenet300"},
    "train": {"epochs": 1, "batch_size": 32, "lr": 0.1},
    "prune": {"density": 0.2, "rounds": 2},
    "federation": {"rounds": 4},
    "engine": {"workers": 0},
}


def small(**overrides: Any) -> Experiment:
    """Return the small experiment; ``a__b=value`` sets the key ``a.b``, recipes are methods too."""
    return from_mapping(changed(SMALL, {key.replace("__", "."): v for key, v in overrides.items()}))


def run_small(out: Path, **overrides: Any) -> dict[str, Any]:
    """Run the small experiment into `out` and return its summary."""
    return run(small(**overrides), out)


def run_in_vain(experiment: Experiment, out: Path, **options: Any) -> str:
    """Run what comes to no result; returns the one line that says why."""
    with pytest.raises(RunError) as caught:
        run(experiment, out, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert json.loads((out / "failure.json").read_text())["error"] == line
    assert not (out / "summary.json").exists()
    return line


def records(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``rounds.jsonl``."""
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def ledger(folder: Path) -> list[dict[str, str]]:
    """Return the rows of ``ledger.csv``."""
    with (folder / "ledger.csv").open() as file:
        return list(csv.DictReader(file))


def unseal(folder: Path) -> Path:
    """Remove the manifests of a run or comparison, so that it may be edited; returns the folder."""
    for manifest in folder.rglob("manifest.json"):
        manifest.unlink()
    return folder


DIGESTS = ("mask_digest", "model_digest", "payload_digest")


def digests(summary: dict[str, Any]) -> list[str]:
    """Return what two equal runs have in common."""
    return [summary[key] for key in DIGESTS]
