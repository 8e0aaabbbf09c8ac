"""Run folders of small real runs, in which tests change what they need to be odd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import compare, plan_cells
from benchmarks.running.experiment import run
from mpfl.config import to_mapping, to_toml
from server.records import RoundRecord, Summary, from_json
from tests.runs import records, small

METHODS = ("fedavg", "mpfl", "signsgd_mv", "centralized")
FEW = {"data__train_samples": 240, "data__test_samples": 100}


@pytest.fixture(scope="session")
def real_comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of four methods × two seeds as it was written; not to be changed."""
    folder = tmp_path_factory.mktemp("real") / "comparison"
    asked = {"methods": list(METHODS), "seeds": [0, 1]}
    table = {**to_mapping(small(**FEW)), "compare": asked}
    compare(table, [], folder)
    for cell in plan_cells(*split_table(table)):  # here: a process starts longer than a cell takes
        run(cell.experiment, folder / "cells" / cell.name, tags=cell.tags)
    return folder


@pytest.fixture(scope="session")
def make_comparison(real_comparison: Path) -> Callable[..., Path]:
    """Return a copier of the comparison, or of a part of it."""

    def make(folder: Path, seeds: int = 2, methods: Sequence[str] = METHODS) -> Path:
        names = [f"{method}__seed{seed}" for method in methods for seed in range(seeds)]
        for name in names:
            _copy(real_comparison / "cells" / name, folder / "cells" / name)
        shutil.copy(real_comparison / "comparison.toml", folder)
        return folder

    return make


@pytest.fixture(scope="session")
def make_run(
    real_comparison: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a copier of run folders; what was not run before is run first.

    ``points`` are (total bytes, test accuracy) to write into every round instead of the real ones,
    ``method`` is the label unless it is given, other keys are those of `tests.runs.small`.
    """
    kept = tmp_path_factory.mktemp("runs")
    known = {
        (cell / "config.toml").read_text(): cell for cell in (real_comparison / "cells").iterdir()
    }

    def make(
        folder: Path,
        label: str = "mpfl",
        *,
        sweep: dict[str, Any] | None = None,
        points: Sequence[tuple[int, float]] = (),
        **keys: Any,
    ) -> Path:
        experiment = small(**{**FEW, "method": label, **keys})
        text = to_toml(experiment)
        if text not in known:
            known[text] = kept / str(len(known))
            run(experiment, known[text])
        _copy(known[text], folder)
        edit_summary(folder, label=label, sweep=sweep or {})
        if points:
            _edit_points(folder, points)
        return folder

    return make


def edit_summary(folder: Path, **changes: Any) -> None:
    """Change keys of ``summary.json``."""
    file = folder / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    from_json(Summary, file.read_text(), "what a test wrote")


def edit_rounds(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Replace ``rounds.jsonl``."""
    texts = [json.dumps(line) for line in lines]
    for text in texts:
        from_json(RoundRecord, text, "what a test wrote")
    (folder / "rounds.jsonl").write_text("\n".join(texts) + "\n")


def _edit_points(folder: Path, points: Sequence[tuple[int, float]]) -> None:
    changes = [
        {
            "uplink_bytes": total // 2,
            "downlink_bytes": total - total // 2,
            "total_bytes": total,
            "test_accuracy": accuracy,
        }
        for total, accuracy in points
    ]
    edit_rounds(
        folder, [line | change for line, change in zip(records(folder), changes, strict=True)]
    )
    edit_summary(folder, **changes[-1])


def _copy(source: Path, target: Path) -> None:
    skipped = shutil.ignore_patterns("checkpoint", "manifest.json")  # tests edit their copies
    shutil.copytree(source, target, ignore=skipped, dirs_exist_ok=True)
