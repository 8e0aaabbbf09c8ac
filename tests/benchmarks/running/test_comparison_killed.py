"""A comparison killed anywhere and run again ends with the same tables, byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from benchmarks.report import write as report
from benchmarks.report.write import write_report
from benchmarks.running import comparison
from benchmarks.running.comparison import CELLS, COMPARISON, plan_cells, split_table
from benchmarks.running.folder_lock import held
from mpfl.config import to_mapping
from server.runfolder import LEDGER, MASK, MODEL, ROUNDS, SUMMARY
from tests.federation import tiny
from tests.runs import records

KILLS = int(os.environ.get("MPFL_SOAK_KILLS", "5"))
"""Kills of the comparison that is killed again and again; the long one has 25."""
TIMES = "Time and memory of the simulation"
"""Heading of the only table with figures that the configuration does not determine."""
COMMAND = (sys.executable, "-m", "benchmarks.cli.main", "compare")
ON_THE_CLOCK = {"seconds", "peak_memory_bytes", "machine"}
"""What two runs of the same configuration need not have in common."""


def table(methods: list[str], seeds: list[int], **overrides: Any) -> dict[str, Any]:
    base = dict(to_mapping(tiny(**overrides)))
    return {**base, "compare": {"methods": methods, "seeds": seeds}}


def compare(tables: dict[str, Any], out: Path, workers: int = -1) -> None:
    comparison.compare(tables, plan_cells(*split_table(tables)), out, workers=workers)


def final_files(out: Path) -> dict[str, bytes]:
    """Return everything that must not depend on kills: tables, figures, page, results of cells."""
    found = {name: (out / name).read_bytes() for name in (COMPARISON, "table.csv", "table.tex")}
    found["report.html"] = timeless(out).encode()
    for path in sorted((out / "figures").iterdir()):
        found[path.name] = path.read_bytes()
    for cell in sorted((out / CELLS).iterdir()):
        summary = json.loads((cell / SUMMARY).read_text())
        rest = {key: value for key, value in summary.items() if key not in ON_THE_CLOCK}
        lines = [{**line, "seconds": 0} for line in records(cell)]
        found[f"{cell.name}/{SUMMARY}"] = json.dumps(rest).encode()
        found[f"{cell.name}/{ROUNDS}"] = json.dumps(lines).encode()
        for name in (LEDGER, MASK, MODEL):
            if (cell / name).exists():
                found[f"{cell.name}/{name}"] = (cell / name).read_bytes()
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
    monkeypatch.setattr(report, "partition_map", lambda *_: None)


def killed_before(event: int, work: Callable[[], object], folder: Path) -> bool:
    """Do `work` in a child process; kill the child's whole group before a change to `folder`.

    A change is a file opened for writing, a folder made, a file renamed or truncated, counted
    in each process of the group. Returns whether the kill was in time.
    """
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            counted = iter(range(1, event))

            def watch(name: str, arguments: tuple[Any, ...]) -> None:
                if name in ("open", "os.mkdir", "os.rename", "os.truncate"):
                    writes = name != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
                    inside = str(arguments[0]).startswith(str(folder))
                    if writes and inside and next(counted, None) is None:
                        os.killpg(0, signal.SIGKILL)

            sys.addaudithook(watch)
            work()
        except BaseException as error:  # noqa: BLE001 - pytest must not go on in the child
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


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
        tomli_w.dumps(table(["mpfl", "fedavg", "topk"], [0, 1], federation__rounds=8))
    )
    whole, killed = (tmp_path / name / "c" for name in ("whole", "killed"))

    def start(out: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*COMMAND, str(config), "--out", str(out), "--json"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        os.sched_setaffinity(process.pid, available[:cores])  # cells run side by side on two
        return process

    undisturbed = start(whole)
    wanted = undisturbed.communicate(timeout=600)[0]
    assert undisturbed.returncode == 0
    moment, kills = random.Random(cores), 0
    while True:
        process = start(killed)
        if kills < KILLS:
            _wait(process, killed, moment)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                process.communicate()
                continue
        got = process.communicate(timeout=600)[0]
        assert process.returncode == 0
        if kills == KILLS:
            break
    assert got == wanted
    assert final_files(killed) == final_files(whole)
    assert leftovers(killed) == []


def _wait(process: subprocess.Popen[bytes], out: Path, moment: random.Random) -> None:
    """Wait until a number of changes was seen in the folder, then a moment longer."""
    before, changes = _lengths(out), moment.choice((0, 1, 1, 3, 6, 12))
    deadline = time.monotonic() + 120
    while process.poll() is None and changes and time.monotonic() < deadline:
        now = _lengths(out)
        changes -= now != before
        before = now
        time.sleep(0.005)
    time.sleep(moment.uniform(0, 0.2 if before else 6))


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
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        compare(tables, out, workers=2)
        os._exit(0)
    try:
        _until(lambda: any(_lines(out)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with held(out, patience=10):
            before = _lines(out)
            time.sleep(0.5)
            assert _lines(out) == before
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    assert not any((cell / SUMMARY).exists() for cell in (out / CELLS).iterdir())


def test_a_folder_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "held", lambda out: held(out, patience=0))
    tables = table(["fedavg"], [0], federation__rounds=1)
    compare(tables, tmp_path / "c")
    with held(tmp_path / "c"), pytest.raises(ValueError, match="another comparison is running"):
        compare(tables, tmp_path / "c")


def _lines(out: Path) -> list[int]:
    return [
        len(path.read_text().splitlines()) for path in sorted((out / CELLS).glob(f"*/{ROUNDS}"))
    ]


def _until(ready: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)
