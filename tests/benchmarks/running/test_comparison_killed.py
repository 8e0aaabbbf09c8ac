"""A comparison killed anywhere and run again ends with the same tables, byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from benchmarks.cli.main import main
from benchmarks.report import pages as report
from benchmarks.report.write import write_report
from benchmarks.running import cell, comparison
from benchmarks.running.cell import CELLS
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import COMPARISON, plan_cells
from mpfl.config import to_mapping
from server.custody import held
from server.runfolder import LEDGER, MASK, MODEL, ROUNDS, SUMMARY
from tests.federation import tiny
from tests.processes import PATIENCE_SECONDS, ended, forked, killed_before, until
from tests.runs import records

KILLS = int(os.environ.get("MPFL_SOAK_KILLS", "5"))
"""Kills of the comparison that is killed again and again; the long one has 25."""
TIMES = "Time and memory of the simulation"
"""Heading of the only table with figures that the configuration does not determine."""
OVER = os.WEXITED | os.WNOHANG | os.WNOWAIT
ON_THE_CLOCK = {"seconds", "peak_memory_bytes", "machine"}
"""What two runs of the same configuration need not have in common."""


def table(methods: list[str], seeds: list[int], **overrides: Any) -> dict[str, Any]:
    base = dict(to_mapping(tiny(**overrides)))
    return {**base, "compare": {"methods": methods, "seeds": seeds}}


def compare(tables: dict[str, Any], out: Path, workers: int = -1) -> dict[str, str]:
    return comparison.compare(tables, plan_cells(*split_table(tables)), out, workers=workers)


def final_files(out: Path) -> dict[str, bytes]:
    """Return everything that must not depend on kills: tables, figures, page, results of cells."""
    found = {name: (out / name).read_bytes() for name in (COMPARISON, "table.csv", "table.tex")}
    found["report.html"] = timeless(out).encode()
    for path in sorted((out / "figures").iterdir()):
        found[path.name] = path.read_bytes()
    for folder in sorted((out / CELLS).iterdir()):
        summary = json.loads((folder / SUMMARY).read_text())
        rest = {key: value for key, value in summary.items() if key not in ON_THE_CLOCK}
        lines = [{**line, "seconds": 0} for line in records(folder)]
        found[f"{folder.name}/{SUMMARY}"] = json.dumps(rest).encode()
        found[f"{folder.name}/{ROUNDS}"] = json.dumps(lines).encode()
        for name in (LEDGER, MASK, MODEL):
            if (folder / name).exists():
                found[f"{folder.name}/{name}"] = (folder / name).read_bytes()
    return found


def timeless(out: Path) -> str:
    """Return the page without the table on time and memory."""
    text = (out / "report.html").read_text()
    rest, count = re.subn(rf"<h3[^>]*>{TIMES}</h3>.*?</table>", "", text, flags=re.DOTALL)
    assert count == 1
    return rest


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*") if path.suffix in (".tmp", ".partial")]


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("curve_pictures", "cost_pictures", "pruning_pictures"):
        monkeypatch.setattr(report, name, lambda *_: [])
    for name in ("partition_map", "error_picture", "target_bars"):
        monkeypatch.setattr(report, name, lambda *_: None)


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_before_every_change_to_the_folder(tmp_path: Path, workers: int) -> None:
    """The n-th start is killed before its n-th change, so each start gets a little further."""
    tables = table(["mpfl", "fedavg"], [0], prune__rounds=1, federation__rounds=2)
    whole, killed = tmp_path / "whole" / "c", tmp_path / "killed" / "c"

    def work(out: Path) -> None:
        compare(tables, out, workers=workers)
        write_report(out)

    assert not killed_before(10_000, lambda: work(whole), whole)
    kills = 0
    while killed_before(kills + 1, lambda: work(killed), killed):
        kills += 1
        assert kills < 200
    assert kills >= 8
    assert final_files(killed) == final_files(whole)
    assert leftovers(killed) == []


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 2])
def test_the_command_killed_at_random_moments(tmp_path: Path, cores: int) -> None:
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(available) < cores:
        pytest.skip(f"needs a system that tells and sets its cores, and {cores} of them")
    config = tmp_path / "config.toml"
    config.write_text(
        tomli_w.dumps(table(["mpfl", "fedavg", "topk"], [0, 1], federation__rounds=4))
    )
    whole, killed = (tmp_path / name / "c" for name in ("whole", "killed"))
    printed = tmp_path / "printed"

    def start(out: Path) -> int:
        def command() -> None:
            os.sched_setaffinity(0, available[:cores])  # cells run side by side on two
            with printed.open("w") as file, redirect_stdout(file):
                main(["compare", str(config), "--out", str(out), "--json"])

        return forked(command)

    started = time.monotonic()
    assert ended(start(whole)) == 0
    wanted, pace = printed.read_text(), (time.monotonic() - started) / len(_lengths(whole))
    moment, kills = random.Random(cores), 0
    while kills < KILLS:
        child = start(killed)
        changes = moment.choice((0, 1, 1, 3, 6, 12))
        kills += _killed_after(child, killed, changes, pace * moment.uniform(0, 4))
    assert ended(start(killed)) == 0
    assert printed.read_text().replace(str(killed), str(whole)) == wanted
    assert final_files(killed) == final_files(whole)
    assert leftovers(killed) == []


def _killed_after(child: int, out: Path, changes: int, seconds: float) -> bool:
    """Kill a group after a number of changes seen in the folder and a moment more.

    Returns whether it was still at work.
    """
    seen = [_lengths(out)]

    def enough() -> bool:
        now = _lengths(out)
        if now != seen[-1]:
            seen.append(now)
        return len(seen) > changes or os.waitid(os.P_PID, child, OVER) is not None

    until(enough)
    time.sleep(seconds)
    os.killpg(child, signal.SIGKILL)
    return ended(child) == -signal.SIGKILL


def _lengths(out: Path) -> dict[str, int]:
    found = {}
    for folder, _, names in os.walk(out):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118
            try:
                found[path] = os.stat(path).st_size  # noqa: PTH116
            except FileNotFoundError:
                continue
    return found


@pytest.mark.usefixtures("without_figures")
def test_cells_end_with_a_comparison_that_was_killed_alone(tmp_path: Path) -> None:
    """Killing the first process only must not leave two writers in one folder."""
    tables = table(["mpfl", "fedavg"], [0], federation__rounds=100)
    out = tmp_path / "c"
    child = forked(lambda: compare(tables, out, workers=2))
    try:
        until(lambda: any(_lines(out)))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        with held(out, patience=PATIENCE_SECONDS):
            before = _lines(out)
            time.sleep(0.5)
            assert _lines(out) == before
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    assert not any((cell / SUMMARY).exists() for cell in (out / CELLS).iterdir())


@pytest.mark.usefixtures("without_figures")
def test_a_cell_that_the_machine_ended_before_its_first_word_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = table(["mpfl", "fedavg"], [0], federation__rounds=1)
    out = tmp_path / "c"

    def ended_by_the_machine(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(cell, "validate", ended_by_the_machine)
        assert len(compare(tables, out, workers=2)) == 2
    assert all((folder / "failure.json").is_file() for folder in (out / CELLS).iterdir())
    assert compare(tables, out, workers=2) == {}
    assert leftovers(out) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    tables = table(["fedavg"], [0], federation__rounds=1)
    compare(tables, tmp_path / "c")
    with (
        held(tmp_path / "c"),
        pytest.raises(ValueError, match=f"in use: process {os.getpid()} works on it"),
    ):
        compare(tables, tmp_path / "c")


def _lines(out: Path) -> list[int]:
    return [
        len(path.read_text().splitlines()) for path in sorted((out / CELLS).glob(f"*/{ROUNDS}"))
    ]
